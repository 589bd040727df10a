#include "apo/deploy/intervention.h"

#include <algorithm>
#include <array>

#include "apo/base/error.h"
#include "apo/config/options.h"

namespace apo::deploy {
namespace {

constexpr const char* kOutOfPatience = "out of patience";

class NoHuman : public InterventionSource {
 public:
  std::optional<Intervention> decide(Environment&, const Observation&, const Action&) override {
    return std::nullopt;
  }
};

class ScriptedHuman : public InterventionSource {
 public:
  explicit ScriptedHuman(const ScriptedHumanOptions& options) : options_(options) {}

  void reset(uint64_t) override {
    reason_.clear();
    held_ = acted_ = 0;
  }

  std::optional<Intervention> decide(Environment& environment, const Observation&, const Action&) override {
    const std::optional<std::string> concern = concern_about(environment);
    if (acting()) {
      if (!may_hand_back(concern)) return act(environment);
      reason_.clear();
      held_ = acted_ = 0;
      return std::nullopt;
    }
    if (environment.step_count() < options_.calm_steps || !concern) {
      held_ = 0;
      return std::nullopt;
    }
    ++held_;
    if (held_ < reaction_to(*concern)) return std::nullopt;
    reason_ = *concern;
    return act(environment);
  }

 private:
  bool acting() const { return !reason_.empty(); }

  std::optional<std::string> concern_about(const Environment& environment) const {
    auto concern = environment.concern();
    if (!concern && options_.patience_steps > 0 && environment.step_count() >= options_.patience_steps)
      concern = kOutOfPatience;
    return concern;
  }

  bool may_hand_back(const std::optional<std::string>& concern) const {
    return options_.hand_back == HandBack::when_safe && !concern && acted_ >= options_.min_steps;
  }

  int64_t reaction_to(const std::string& concern) const {
    if (concern == kOutOfPatience) return 1;
    const auto& urgent = options_.at_once;
    return std::find(urgent.begin(), urgent.end(), concern) != urgent.end() ? 1 : options_.reaction_steps;
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
  v("calm_steps", calm_steps, "steps at the episode's start without a take-over", config::at_least(0));
  v("patience_steps", patience_steps,
    "take over after so many steps of an episode, whatever happens (reason \"out of patience\"); 0: never",
    config::at_least(0));
  v("hand_back", hand_back,
    "never: the human finishes the episode; when-safe: gives back once there is no concern");
  v("min_steps", min_steps, "steps of a take-over before handing back", config::at_least(1));
}

void InterventionOptions::visit(config::Visitor& v) {
  static constexpr std::array<std::string_view, 2> kTypes = {"none", "scripted"};
  v.choice("type", type, kTypes, "who may take over");
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

std::unique_ptr<InterventionSource> make_intervention_source(const InterventionOptions& options) {
  if (options.type == "none") return make_no_human();
  if (options.type == "scripted") return make_scripted_human(options.scripted);
  throw ConfigError(concat("deploy.intervention.type: expected none or scripted, found ", options.type));
}

}  // namespace apo::deploy
