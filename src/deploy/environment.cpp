#include "apo/deploy/environment.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "apo/config/options.h"
#include "deploy/action_disruptions.h"
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
      return make_tabletop_environment(options);
    };
    return made;
  }();
  return *instance;
}

// Done around every environment, by with_action_disruptions.
bool is_of_actions(const std::string& disruption) {
  return disruption == "action_noise" || disruption == "action_delay";
}

std::vector<std::string> disruptions_of(const Environment& environment) {
  const std::vector<std::string> own = environment.disruptions();
  std::vector<std::string> names;
  DisruptionOptions().for_each([&](const std::string& name, const auto&) {
    if (is_of_actions(name) || std::ranges::find(own, name) != own.end()) names.push_back(name);
  });
  return names;
}

// A disruption that nobody would carry out must not pass for one that harmed nothing.
void check_disruptions(const Environment& environment, DisruptionOptions options, const std::string& type) {
  const std::vector<std::string> available = disruptions_of(environment);
  options.for_each([&](const std::string& name, const auto& section) {
    APO_CHECK(ConfigError, section.probability == 0 || std::ranges::find(available, name) != available.end(),
              "environment.disruptions.", name, ".probability is ", section.probability, ", but environment.type ", type,
              " cannot be disrupted so; expected 0 (available: ", join(available), ")");
  });
}

}  // namespace

void EnvironmentOptions::visit(config::Visitor& v) {
  v("type", type, "registered environment; `tabletop` is the built-in one");
  v("tabletop", tabletop, "of the built-in environment");
  v("disruptions", disruptions, "what goes wrong with the world of an episode");
  v("gripper", gripper,
    "where the gripper is in the environment's actions, and how its command is coded; a policy that "
    "codes it otherwise is understood");
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
  APO_CHECK(ConfigError, factory, "environment.type: expected a registered environment (",
            join(environment_types()), "), found ", options.type);
  auto environment = factory(options);
  APO_CHECK(RunError, environment != nullptr, "environment.type ", options.type,
            ": its factory made nothing");
  check_disruptions(*environment, options.disruptions, options.type);
  const data::GripperOptions gripper = data::or_else(options.gripper, environment->gripper());
  data::gripper_dimensions(options.gripper, environment->action_size(), "environment");
  auto disrupted = with_action_disruptions(std::move(environment), options.disruptions);
  disrupted->set_gripper(gripper);
  return disrupted;
}

std::vector<std::string> available_disruptions(const EnvironmentOptions& options) {
  return disruptions_of(*make_environment(disrupted_by(options, "none")));
}

EnvironmentOptions disrupted_by(const EnvironmentOptions& options, const std::string& disruption) {
  EnvironmentOptions changed = options;
  bool known = disruption == "none";
  changed.disruptions.for_each([&](const std::string& name, auto& section) {
    section.probability = name == disruption ? 1 : 0;
    known |= name == disruption;
  });
  if (known && disruption == "none") return changed;
  const std::vector<std::string> available = available_disruptions(options);
  known &= std::ranges::find(available, disruption) != available.end();
  if (known) return changed;
  const auto near = config::nearest(disruption, available);
  throw ConfigError(concat("unknown disruption ", disruption, " for environment.type ", options.type,
                           near ? concat("; did you mean ", *near, "?") : std::string(), " (available: none, ",
                           join(available), ")"));
}

std::vector<std::string> chosen_disruptions(const EnvironmentOptions& options, const std::vector<std::string>& names) {
  std::vector<std::string> chosen;
  const auto choose = [&](const std::string& name) {
    if (std::ranges::find(chosen, name) == chosen.end()) chosen.push_back(name);
  };
  for (const std::string& name : names) {
    if (name == "all") {
      for (const std::string& available : available_disruptions(options)) choose(available);
    } else {
      disrupted_by(options, name);  // known
      if (name != "none") choose(name);
    }
  }
  return chosen;
}

}  // namespace apo::deploy
