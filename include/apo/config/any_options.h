// Options of a type that only their owner knows: what one kind of several adds to a section,
// `environment.NAME`, and the options of all kinds of a section, `policy.NAME`.
#pragma once

#include <any>
#include <utility>
#include <vector>

#include "apo/config/options.h"

namespace apo::config {

/// A copy of any options struct, or nothing.
class AnyOptions {
 public:
  AnyOptions() = default;
  template <Visitable T>
  requires(!std::same_as<T, AnyOptions>) explicit AnyOptions(T value)
      : value_(std::move(value)),
        visit_([](std::any& held, Visitor& v) { std::any_cast<T>(&held)->visit(v); }) {}

  bool has_value() const { return value_.has_value(); }
  /// Both hold a T, or both nothing.
  bool is_like(const AnyOptions& other) const { return value_.type() == other.value_.type(); }
  /// The T that is held; null: it is another type, or nothing.
  template <Visitable T>
  T* get() {
    return std::any_cast<T>(&value_);
  }
  template <Visitable T>
  const T* get() const {
    return std::any_cast<T>(&value_);
  }
  void visit(Visitor& v) {
    if (visit_) visit_(value_, v);
  }

 private:
  std::any value_;
  void (*visit_)(std::any&, Visitor&) = nullptr;
};

/// The options of several kinds, at most one of each type.
class OptionsOfKinds {
 public:
  /// Defaults, from then on held where it is not const, if none are held.
  template <Visitable T>
  T& of() {
    return *like(AnyOptions(T())).template get<T>();
  }
  template <Visitable T>
  T of() const {
    const AnyOptions* found = find(AnyOptions(T()));
    return found ? *found->template get<T>() : T();
  }
  /// Those of the same type; null: none are held.
  const AnyOptions* find(const AnyOptions& kind) const {
    for (const AnyOptions& held : held_)
      if (held.is_like(kind)) return &held;
    return nullptr;
  }
  /// Those of the same type; a copy of `defaults`, from then on held, if none are.
  AnyOptions& like(const AnyOptions& defaults) {
    for (AnyOptions& held : held_)
      if (held.is_like(defaults)) return held;
    return held_.emplace_back(defaults);
  }

 private:
  std::vector<AnyOptions> held_;
};

}  // namespace apo::config
