#include "apo/deploy/environment.h"

#include <map>
#include <mutex>
#include <utility>

#include "apo/base/error.h"
#include "apo/config/options.h"
#include "deploy/tabletop_environment.h"

namespace apo::deploy {
namespace {

struct Registry {
  std::mutex mutex;
  std::map<std::string, EnvironmentFactory> factories;
};

Registry& registry() {
  static Registry* instance = [] {
    auto* made = new Registry;
    made->factories["tabletop"] = [](const EnvironmentOptions& options) {
      return make_tabletop_environment(options.tabletop);
    };
    return made;
  }();
  return *instance;
}

}  // namespace

void EnvironmentOptions::visit(config::Visitor& v) {
  v("type", type, "registered environment; `tabletop` is the built-in one");
  v("tabletop", tabletop, "of the built-in environment");
}

void register_environment(const std::string& type, EnvironmentFactory factory) {
  APO_CHECK(ConfigError, !type.empty() && factory, "register_environment: expected a name and a factory");
  Registry& known = registry();
  std::lock_guard lock(known.mutex);
  known.factories[type] = std::move(factory);
}

std::vector<std::string> environment_types() {
  Registry& known = registry();
  std::lock_guard lock(known.mutex);
  std::vector<std::string> types;
  for (const auto& [type, factory] : known.factories) types.push_back(type);
  return types;
}

std::unique_ptr<Environment> make_environment(const EnvironmentOptions& options) {
  EnvironmentFactory factory;
  {
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    const auto found = known.factories.find(options.type);
    if (found != known.factories.end()) factory = found->second;
  }
  if (!factory) {
    std::string valid;
    for (const std::string& type : environment_types()) valid += (valid.empty() ? "" : ", ") + type;
    throw ConfigError(
        concat("environment.type: expected a registered environment (", valid, "), found ", options.type));
  }
  auto environment = factory(options);
  APO_CHECK(RunError, environment != nullptr, "environment.type ", options.type,
            ": its factory made nothing");
  return environment;
}

}  // namespace apo::deploy
