#include "apo/environments/environment.h"

#include <algorithm>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "apo/config/options.h"
#include "apo/environments/remote.h"
#include "apo/simulation/tabletop.h"
#include "config/kinds.h"
#include "environments/remote_environment.h"
#include "environments/tabletop_environment.h"

namespace apo::environments {
namespace {

using EnvironmentKinds = config::Kinds<EnvironmentFactory>;

EnvironmentKinds& known() {
  static auto* instance = new EnvironmentKinds(
      {{"tabletop",
        {.factory = [](const auto& options) { return make_tabletop_environment(options); },
         .own = config::AnyOptions(simulation::TabletopOptions()),
         .doc = "of the built-in environment"}},
       {"remote",
        {.factory = [](const auto& options) { return make_remote_environment(options); },
         .own = config::AnyOptions(RemoteOptions()),
         .doc = "of an environment that is a server: docs/remote.md"}}});
  return *instance;
}

// Done for every environment, by whoever plays its episodes (Rollout).
bool is_of_actions(const std::string& disruption) {
  return disruption == "action_noise" || disruption == "action_delay";
}

std::vector<std::string> disruptions_of(const Environment& environment) {
  const std::vector<std::string>& own = environment.spec().disruptions;
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
              "environment.disruptions.", name, ".probability is ", section.probability,
              ", but environment.type ", type,
              " cannot be disrupted so; expected 0 (available: ", join(available), ")");
  });
}

// What an implementation forgot would end every episode before its first step.
void check_spec(const EnvironmentSpec& spec, const std::string& type) {
  const auto expect = [&type](bool good, const char* field, const char* expected, auto found) {
    APO_CHECK(RunError, good, "environment.type ", type, ": its EnvironmentSpec: ", field, ": expected ",
              expected, ", found ", found);
  };
  expect(spec.action_size >= 1, "action_size", "at least 1", spec.action_size);
  expect(spec.max_steps >= 1, "max_steps", "at least 1", spec.max_steps);
  expect(spec.control_hz > 0, "control_hz", "steps a second", spec.control_hz);
  expect(std::ssize(spec.idle) == spec.action_size, "idle", "action_size numbers", spec.idle.size());
}

}  // namespace

Environment::Environment(EnvironmentSpec spec) : spec_(std::move(spec)) {
  if (spec_.idle.empty())
    spec_.idle.assign(static_cast<size_t>(std::max<int64_t>(spec_.action_size, 0)), 0.0f);
}

void EnvironmentOptions::visit(config::Visitor& v) {
  v("type", type,
    "registered environment; `tabletop` is the built-in one, `remote` a server (docs/remote.md)");
  EnvironmentKinds::Map kinds = known().all();
  auto& kind = kinds[type];
  if (!own.is_like(kind.own)) own = kind.own;
  if (own.has_value())
    v(type, own, kind.doc);
  else
    v.no_section(type, kind.factory
                           ? concat("environment.type is ", type, ", which has no options of its own")
                           : concat("environment.type is ", type,
                                    ", which is not registered (--plugin FILE adds those of FILE)"));
  for (const auto& [other, unused] : kinds)
    if (other != type) v.no_section(other, concat("environment.type is ", type));
  v("disruptions", disruptions, "what goes wrong with the world of an episode");
  v("gripper", gripper,
    "where the gripper is in the environment's actions, and how its command is coded; a policy that "
    "codes it otherwise is understood");
}

void register_environment(const std::string& type, EnvironmentFactory factory, config::AnyOptions own,
                          const std::string& doc) {
  APO_CHECK(ConfigError, !type.empty() && factory, "register_environment: expected a name and a factory");
  APO_CHECK(
      ConfigError,
      type.find('.') == std::string::npos && type != "type" && type != "disruptions" && type != "gripper",
      "register_environment: expected a name that can be a key beside environment.type, .disruptions and "
      ".gripper, found ",
      type);
  known().put(type, {std::move(factory), std::move(own), doc});
}

std::vector<std::string> environment_types() { return known().names(); }

std::unique_ptr<Environment> make_environment(const EnvironmentOptions& options) {
  const EnvironmentKinds::Map kinds = known().all();
  const auto kind = kinds.find(options.type);
  APO_CHECK(ConfigError, kind != kinds.end(), "environment.type: expected a registered environment (",
            join(environment_types()), "), found ", options.type);
  auto environment = kind->second.factory(options);
  APO_CHECK(RunError, environment != nullptr, "environment.type ", options.type,
            ": its factory made nothing");
  check_spec(environment->spec(), options.type);
  check_disruptions(*environment, options.disruptions, options.type);
  EnvironmentSpec& spec = environment->spec_;
  config::gripper_dimensions(options.gripper, spec.action_size, "environment");
  spec.gripper = config::or_else(options.gripper, spec.gripper);
  spec.action_noise = options.disruptions.action_noise;
  spec.action_delay = options.disruptions.action_delay;
  return environment;
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
                           near ? concat("; did you mean ", *near, "?") : std::string(),
                           " (available: none, ", join(available), ")"));
}

std::vector<std::string> chosen_disruptions(const EnvironmentOptions& options,
                                            const std::vector<std::string>& names) {
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

}  // namespace apo::environments
