// Options of a type that only their owner knows: what one kind of several adds to a section,
// `environment.NAME`.
#pragma once

#include <any>
#include <utility>

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

}  // namespace apo::config
