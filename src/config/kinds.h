// The kinds of a thing that a config can name, each with how it is made: what is shipped and what plug-ins
// add.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "apo/config/any_options.h"

namespace apo::config {

template <class Factory>
struct Kind {
  Factory factory;
  AnyOptions own = {};   ///< defaults of the options that are its own
  std::string doc = {};  ///< what they are, for people
};

/// Thread-safe. Never destroyed where it is a static: plug-ins may be asked until the end.
template <class Factory>
class Kinds {
 public:
  using Map = std::map<std::string, Kind<Factory>>;
  explicit Kinds(Map shipped) : kinds_(std::move(shipped)) {}

  Map all() const {
    const std::lock_guard lock(mutex_);
    return kinds_;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, kind] : all()) names.push_back(name);
    return names;
  }
  /// Adds a kind; a second one of the same name replaces it. `check` sees those that there are and may throw.
  template <class Check>
  void put(const std::string& name, Kind<Factory> kind, const Check& check) {
    const std::lock_guard lock(mutex_);
    check(kinds_);
    kinds_[name] = std::move(kind);
  }
  void put(const std::string& name, Kind<Factory> kind) {
    put(name, std::move(kind), [](const Map&) {});
  }

 private:
  mutable std::mutex mutex_;
  Map kinds_;
};

/// The sections of kinds that may stand beside each other, whichever is chosen. `a_kind` says what they are,
/// "a policy", for whoever sets options of one that has none.
template <class Factory>
void visit_kinds(Visitor& v, const std::map<std::string, Kind<Factory>>& kinds, OptionsOfKinds& own,
                 const std::string& a_kind) {
  for (const auto& [name, kind] : kinds)
    if (kind.own.has_value())
      v(name, own.like(kind.own), kind.doc);
    else
      v.no_section(name, a_kind + " of the kind " + name + " has no options of its own");
}

}  // namespace apo::config
