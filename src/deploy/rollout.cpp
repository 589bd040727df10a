#include "apo/deploy/rollout.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "apo/base/error.h"
#include "deploy/take_over.h"

namespace apo::deploy {
namespace {

std::optional<Action> kept(const RolloutOptions& options, Action wanted) {
  return options.record_policy_action ? std::optional(std::move(wanted)) : std::nullopt;
}

}  // namespace

void check_action(const Action& action, int64_t size, const char* who, const std::string& where) {
  APO_CHECK(RunError, std::ssize(action) == size, where, ": expected an action of ", size,
            " numbers from the ", who, ", found ", action.size());
  for (size_t d = 0; d < action.size(); ++d)
    APO_CHECK(RunError, std::isfinite(action[d]), where, ": expected a finite action from the ", who,
              ", found dimension ", d, " = ", action[d]);
}

Rollout::Rollout(environments::EnvironmentSpec spec, uint64_t seed, RolloutOptions options)
    : spec_(std::move(spec)),
      seed_(seed),
      options_(std::move(options)),
      noise_(seed, "disruption/action_noise"),
      noisy_(noise_.uniform() < spec_.action_noise.probability),
      delayed_(Random(seed, "disruption/action_delay").uniform() < spec_.action_delay.probability),
      coming_(delayed_ ? static_cast<size_t>(spec_.action_delay.steps) : 0,
              spec_.idle.empty() ? Action(static_cast<size_t>(spec_.action_size), 0.0f) : spec_.idle) {}

std::string Rollout::where() const { return concat(options_.where, ", step ", steps_); }

bool Rollout::over() const {
  const int64_t alone = options_.max_steps > 0 ? options_.max_steps : spec_.max_steps;
  const bool corrected = !take_over_reasons_.empty();
  const int64_t after = options_.max_steps_after_hand_back;
  return situation_.done || stopped_ || (corrected && after > 0 && steps_alone_ >= after) ||
         steps_ >= (corrected ? std::max(alone, options_.max_steps_with_human) : alone);
}

uint64_t Rollout::decision_seed() const { return mix_seed(seed_, "decode", static_cast<uint64_t>(steps_)); }

void Rollout::decided(std::vector<Action> chunk) {
  APO_CHECK(RunError, !chunk.empty(), where(), ": expected at least one action from the policy, found none");
  for (const Action& action : chunk) check_action(action, spec_.action_size, "policy", where());
  decision_offset_ = 0;
  chunk_.assign(std::make_move_iterator(chunk.begin()), std::make_move_iterator(chunk.end()));
}

Moment Rollout::moment(const Observation& seen, std::function<std::optional<Action>()> expert) const {
  APO_ASSERT(!needs_decision());
  return {.spec = spec_,
          .observation = seen,
          .policy_action = chunk_.front(),
          .step = steps_,
          .concern = situation_.concern,
          .concern_steps = situation_.concern_steps,
          .expert = std::move(expert)};
}

Step Rollout::act(Observation seen, std::optional<Intervention> intervention) {
  APO_ASSERT(!needs_decision());
  before_ = last_;
  Action wanted = std::move(chunk_.front());
  chunk_.pop_front();
  Step step;
  step.observation = std::move(seen);
  step.decision_offset = decision_offset_++;
  if (!intervention) {
    step.action = std::move(wanted);
    if (last_ == ActionSource::intervention) ++hand_backs_;
    last_ = ActionSource::policy;
    ++steps_alone_;
    return step;
  }
  check_action(intervention->action, spec_.action_size, "human", where());
  chunk_.clear();  // decided for where the policy would have come to
  const bool acted_before = last_ == ActionSource::intervention;
  if (!acted_before) take_over_reasons_.push_back(intervention->reason);
  act_by_human(step, std::move(intervention->action), kept(options_, std::move(wanted)), acted_before,
               {std::move(intervention->reason), std::max<int64_t>(intervention->steps_held, 0)});
  last_ = ActionSource::intervention;
  steps_alone_ = 0;
  return step;
}

Step Rollout::demonstrate(Observation seen, Action expert) {
  check_action(expert, spec_.action_size, "expert", where());
  Step step;
  step.observation = std::move(seen);
  step.source = ActionSource::expert;
  step.action = std::move(expert);
  return step;
}

Action Rollout::executed(const Action& commanded) {
  asked_ = commanded;
  if (delayed_) {
    coming_.push_back(commanded);
    asked_ = std::move(coming_.front());
    coming_.pop_front();
  }
  if (noisy_) asked_ = with_noise(std::move(asked_));
  return asked_;
}

Action Rollout::with_noise(Action action) {
  const auto noisy = std::min(static_cast<size_t>(spec_.action_noise.dimensions), action.size());
  for (size_t d = 0; d < noisy; ++d) {
    const float limit = std::max(1.0f, std::abs(action[d]));
    action[d] += static_cast<float>(spec_.action_noise.std * noise_.normal());
    action[d] = std::clamp(action[d], -limit, limit);
  }
  return action;
}

void Rollout::happened(const environments::Situation& situation, Step& step) {
  situation_ = situation;
  if (const auto& executed = situation.executed) {
    check_action(executed->action, spec_.action_size, "environment", where());
    if (executed->by_human)
      taken_over(*executed, step);
    else if (step.action == asked_)
      step.action = executed->action;
  }
  ++steps_;
  step.done = over();
  step.reward = situation_.success ? 1.0f : 0.0f;
}

void Rollout::taken_over(const environments::Executed& executed, Step& step) {
  Action wanted = std::exchange(step.action, executed.action);
  if (step.source != ActionSource::policy) return;
  chunk_.clear();
  const bool acted_before = before_ == ActionSource::intervention;
  if (acted_before)
    --hand_backs_;  // that `act` saw in it
  else
    take_over_reasons_.push_back(executed.reason);
  act_by_human(step, executed.action, kept(options_, std::move(wanted)), acted_before, {executed.reason, 0});
  last_ = ActionSource::intervention;
  steps_alone_ = 0;
}

EpisodeResult Rollout::result() const {
  EpisodeResult result{.success = situation_.success,
                       .flawless = situation_.success && !situation_.troubled && take_over_reasons_.empty(),
                       .outcome = situation_.done ? situation_.outcome
                                  : stopped_      ? stopped_->outcome
                                                  : "timeout",
                       .steps = steps_,
                       .take_over_reasons = take_over_reasons_,
                       .hand_backs = hand_backs_,
                       .facts = situation_.facts,
                       .judged = situation_.judged};
  if (stopped_ && stopped_->success) {  // whoever ended it saw it
    result.success = *stopped_->success;
    result.judged = true;
  }
  if (result.outcome.empty()) result.outcome = result.success ? "success" : "failure";
  if (spec_.action_noise.probability > 0) result.facts["action_noise"] = noisy_ ? "yes" : "no";
  if (spec_.action_delay.probability > 0) result.facts["action_delay"] = delayed_ ? "yes" : "no";
  return result;
}

}  // namespace apo::deploy
