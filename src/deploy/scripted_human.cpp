// The scripted human: when he takes over, what he does, and when he gives back.
#include "apo/deploy/scripted_human.h"

#include <algorithm>
#include <array>
#include <utility>

#include "apo/base/error.h"
#include "apo/config/options.h"
#include "apo/deploy/intervention.h"
#include "deploy/imperfections.h"

namespace apo::deploy {
namespace {

constexpr const char* kOutOfPatience = "out of patience";
constexpr const char* kNeedless = "needless";

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

class ScriptedHuman : public InterventionSource {
 public:
  explicit ScriptedHuman(const ScriptedHumanOptions& options)
      : options_(options), imperfections_(options.imperfect) {}

  void reset(uint64_t seed) override {
    forget();
    executed_.clear();
    imperfections_.reset(seed);
  }

  bool repeatable() const override { return true; }

  std::optional<Intervention> decide(const Moment& moment) override {
    if (executed_.empty()) executed_ = moment.policy_action;
    const std::optional<std::string> concern = concern_in(moment);
    std::optional<Intervention> intervention = acting() ? go_on(moment, concern) : watch(moment, concern);
    executed_ = intervention ? intervention->action : moment.policy_action;
    return intervention;
  }

 private:
  bool acting() const { return !reason_.empty(); }
  void forget() {
    reason_.clear();
    intent_.reset();
    last_.clear();
    held_ = same_ = acted_ = 0;
  }

  std::optional<Intervention> go_on(const Moment& moment, const std::optional<std::string>& concern) {
    if (!may_hand_back(concern)) return act(moment);
    forget();
    return std::nullopt;
  }

  std::optional<Intervention> watch(const Moment& moment, const std::optional<std::string>& concern) {
    const int64_t step = moment.step;
    if (step < options_.calm_steps) {
      forget();
      return std::nullopt;
    }
    notice(concern);
    if (!intent_) decide_to_take_over(step, concern);
    if (!intent_ || step < due_) return std::nullopt;
    reason_ = *std::exchange(intent_, std::nullopt);
    imperfections_.begin_take_over();
    Intervention first = act(moment);
    // out of patience is a clock, which had not struck before; what has passed or never was holds for no step
    if (reason_ == last_ && reason_ != kOutOfPatience)
      first.steps_held = std::max(same_ - 1, moment.concern_steps);
    return first;
  }

  void notice(const std::optional<std::string>& concern) {
    held_ = concern ? held_ + 1 : 0;
    same_ = concern ? (*concern == last_ ? same_ + 1 : 1) : 0;
    last_ = concern.value_or("");
  }

  void decide_to_take_over(int64_t step, const std::optional<std::string>& concern) {
    if (concern && held_ >= reaction_to(*concern))
      intent_ = *concern;
    else if (!concern && imperfections_.needless(step - options_.calm_steps))
      intent_ = kNeedless;
    // his own clock and whim need no reaction
    due_ = step + (intent_ == kOutOfPatience || intent_ == kNeedless ? 0 : imperfections_.delay_steps());
  }

  std::optional<std::string> concern_in(const Moment& moment) const {
    auto concern = moment.concern;
    if (concern && contains(options_.ignore, *concern)) concern.reset();
    if (!concern && options_.patience_steps > 0 && moment.step >= options_.patience_steps)
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

  Intervention act(const Moment& moment) {
    std::optional<Action> action = moment.expert ? moment.expert() : std::nullopt;
    APO_CHECK(RunError, action.has_value(), "environment ", moment.spec.name, ", step ", moment.step,
              ": the scripted human would take over (", reason_,
              "), but the environment has no expert; expected Environment::expert or intervention.type none");
    return {imperfections_.spoiled(std::move(*action), acted_++, moment.spec, executed_), reason_};
  }

  ScriptedHumanOptions options_;
  Imperfections imperfections_;
  std::string reason_;                 // of the running take-over; empty while the policy acts
  std::optional<std::string> intent_;  // of the take-over that he has decided on and not yet begun
  int64_t due_ = 0;                    // the step in which he begins it
  Action executed_;                    // the action before; in the first step what the policy wants
  int64_t held_ = 0;                   // steps in a row with a concern
  std::string last_;                   // the concern of the last of them
  int64_t same_ = 0;                   // steps in a row with that one
  int64_t acted_ = 0;                  // steps of the running take-over
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
  v("imperfect", imperfect, "what makes the human imperfect");
}

std::unique_ptr<InterventionSource> make_scripted_human(const ScriptedHumanOptions& options) {
  APO_CHECK(ConfigError, options.reaction_steps >= 1 && options.calm_steps >= 0 && options.min_steps >= 1,
            "deploy.intervention.scripted: expected reaction_steps >= 1, calm_steps >= 0 and min_steps >= 1, "
            "found ",
            options.reaction_steps, ", ", options.calm_steps, " and ", options.min_steps);
  return std::make_unique<ScriptedHuman>(options);
}

}  // namespace apo::deploy
