#include "apo/deploy/intervention.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "apo/config/options.h"

namespace apo::deploy {
namespace {

constexpr const char* kOutOfPatience = "out of patience";

struct Registry {
  std::mutex mutex;
  std::map<std::string, InterventionFactory> factories = {
      {"none", [](const InterventionOptions&) { return make_no_human(); }},
      {"scripted", [](const InterventionOptions& options) { return make_scripted_human(options.scripted); }}};
};

Registry& registry() {
  static Registry* instance = new Registry;
  return *instance;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

class NoHuman : public InterventionSource {
 public:
  std::optional<Intervention> decide(Environment&, const Observation&, const Action&) override {
    return std::nullopt;
  }
};

class ScriptedHuman : public InterventionSource {
 public:
  explicit ScriptedHuman(const ScriptedHumanOptions& options) : options_(options) {}

  void reset(uint64_t) override { forget(); }

  std::optional<Intervention> decide(Environment& environment, const Observation&, const Action&) override {
    const std::optional<std::string> concern = concern_about(environment);
    if (acting()) {
      if (!may_hand_back(concern)) return act(environment);
      forget();
      return std::nullopt;
    }
    if (environment.step_count() < options_.calm_steps || !concern) {
      forget();
      return std::nullopt;
    }
    ++held_;
    same_ = *concern == last_ ? same_ + 1 : 1;
    last_ = *concern;
    if (held_ < reaction_to(*concern)) return std::nullopt;
    reason_ = *concern;
    Intervention first = act(environment);
    // out of patience is a clock, which had not struck before
    if (reason_ != kOutOfPatience) first.steps_held = std::max(same_ - 1, environment.concern_steps());
    return first;
  }

 private:
  bool acting() const { return !reason_.empty(); }
  void forget() {
    reason_.clear();
    last_.clear();
    held_ = same_ = acted_ = 0;
  }

  std::optional<std::string> concern_about(const Environment& environment) const {
    auto concern = environment.concern();
    if (concern && contains(options_.ignore, *concern)) concern.reset();
    if (!concern && options_.patience_steps > 0 && environment.step_count() >= options_.patience_steps)
      concern = kOutOfPatience;
    return concern;
  }

  bool may_hand_back(const std::optional<std::string>& concern) const {
    return options_.hand_back == HandBack::when_safe && !concern && acted_ >= options_.min_steps;
  }

  int64_t reaction_to(const std::string& concern) const {
    if (concern == kOutOfPatience) return 1;
    return contains(options_.at_once, concern) ? 1 : options_.reaction_steps;
  }

  Intervention act(Environment& environment) {
    std::optional<Action> action = environment.expert_action();
    APO_CHECK(RunError, action.has_value(), "environment ", environment.name(), ", step ",
              environment.step_count(), ": the scripted human would take over (", reason_,
              "), but the environment has no expert; expected Environment::expert_action or "
              "intervention.type none");
    ++acted_;
    return {std::move(*action), reason_};
  }

  ScriptedHumanOptions options_;
  std::string reason_;  // of the running take-over; empty while the policy acts
  int64_t held_ = 0;    // steps in a row with a concern
  std::string last_;    // the concern of the last of them
  int64_t same_ = 0;    // steps in a row with that one
  int64_t acted_ = 0;   // steps of the running take-over
};

}  // namespace

std::span<const std::pair<HandBack, std::string_view>> enum_names(HandBack) {
  static constexpr std::array<std::pair<HandBack, std::string_view>, 2> kNames = {
      {{HandBack::never, "never"}, {HandBack::when_safe, "when-safe"}}};
  return kNames;
}

void ScriptedHumanOptions::visit(config::Visitor& v) {
  v("reaction_steps", reaction_steps,
    "steps in a row with a concern before the human takes over; more come later", config::at_least(1));
  v("at_once", at_once, "concerns that are answered in the first step");
  v("ignore", ignore, "concerns that do not trouble the human");
  v("calm_steps", calm_steps, "steps at the episode's start without a take-over", config::at_least(0));
  v("patience_steps", patience_steps,
    "take over after so many steps of an episode, whatever happens (reason \"out of patience\"); 0: never",
    config::at_least(0));
  v("hand_back", hand_back,
    "never: the human finishes the episode; when-safe: gives back once there is no concern");
  v("min_steps", min_steps, "steps of a take-over before handing back", config::at_least(1));
}

void InterventionOptions::visit(config::Visitor& v) {
  const std::vector<std::string> registered = intervention_source_types();
  const std::vector<std::string_view> types(registered.begin(), registered.end());
  v.choice("type", type, types, "who may take over; a plug-in adds its own");
  v("scripted", scripted, "the scripted human");
}

std::unique_ptr<InterventionSource> make_scripted_human(const ScriptedHumanOptions& options) {
  APO_CHECK(ConfigError, options.reaction_steps >= 1 && options.calm_steps >= 0 && options.min_steps >= 1,
            "deploy.intervention.scripted: expected reaction_steps >= 1, calm_steps >= 0 and min_steps >= 1, "
            "found ",
            options.reaction_steps, ", ", options.calm_steps, " and ", options.min_steps);
  return std::make_unique<ScriptedHuman>(options);
}

std::unique_ptr<InterventionSource> make_no_human() { return std::make_unique<NoHuman>(); }

void register_intervention_source(const std::string& type, InterventionFactory factory) {
  APO_CHECK(ConfigError, !type.empty() && factory,
            "register_intervention_source: expected a name and a factory");
  Registry& known = registry();
  const std::lock_guard lock(known.mutex);
  known.factories[type] = std::move(factory);
}

std::vector<std::string> intervention_source_types() {
  Registry& known = registry();
  const std::lock_guard lock(known.mutex);
  std::vector<std::string> types;
  for (const auto& [type, factory] : known.factories) types.push_back(type);
  return types;
}

std::unique_ptr<InterventionSource> make_intervention_source(const InterventionOptions& options) {
  InterventionFactory factory;
  {
    Registry& known = registry();
    const std::lock_guard lock(known.mutex);
    const auto found = known.factories.find(options.type);
    if (found != known.factories.end()) factory = found->second;
  }
  if (!factory) {
    const std::vector<std::string> types = intervention_source_types();
    const auto near = config::nearest(options.type, types);
    throw ConfigError(concat("deploy.intervention.type: expected a registered source (", join(types),
                             "), found ", options.type,
                             near ? concat("; did you mean ", *near, "?") : std::string()));
  }
  auto source = factory(options);
  APO_CHECK(RunError, source != nullptr, "deploy.intervention.type ", options.type,
            ": its factory made nothing");
  return source;
}

}  // namespace apo::deploy
