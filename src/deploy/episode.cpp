#include "deploy/episode.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/interrupt.h"
#include "apo/base/random.h"
#include "deploy/decide.h"

namespace apo::deploy {
namespace {

// The next step up to its execution: what is seen, what the policy wants, what the human does about it. Each
// step of the human says why.
Step next_step(Environment& environment, models::Policy& policy, InterventionSource* human,
               const EpisodeSetup& setup, EpisodeResult& result) {
  Step step;
  step.observation = environment.observe();
  const std::string where = concat(setup.where, ", step ", environment.step_count());
  const models::DecodeOptions decoding{
      .temperature = setup.temperature,
      .seed = mix_seed(setup.seed, "decode", static_cast<uint64_t>(environment.step_count()))};
  Observation prepared = step.observation;
  policy.prepare(prepared);
  Decision decision =
      decide(policy, {&prepared, 1}, environment.action_size(), environment.gripper(), decoding,
             [&](size_t) { return where; });
  result.num_clamped_tokens += decision.num_clamped_tokens;
  Action wanted = std::move(decision.actions[0]);
  std::optional<Intervention> intervention;
  if (human) intervention = human->decide(environment, step.observation, wanted);
  if (intervention) {
    check_action(intervention->action, environment.action_size(), "human", where);
    step.source = ActionSource::intervention;
    step.action = std::move(intervention->action);
    if (setup.record_policy_action) step.policy_action = std::move(wanted);
    step.take_over =
        TakeOver{std::move(intervention->reason), std::max<int64_t>(intervention->steps_held, 0)};
  } else {
    step.action = std::move(wanted);
  }
  return step;
}

}  // namespace

EpisodeResult play_episode(Environment& environment, models::Policy& policy, InterventionSource* human,
                           const EpisodeSetup& setup, const EpisodeHooks& hooks) {
  environment.reset(setup.seed);
  if (human) human->reset(setup.seed);
  const int64_t max_steps = environment.max_steps();
  EpisodeResult result;
  ActionSource last = ActionSource::policy;
  bool over = environment.done();
  while (!over) {
    if (interrupted()) {
      result.interrupted = true;
      return result;
    }
    Step step = next_step(environment, policy, human, setup, result);
    if (step.source == ActionSource::intervention && last == ActionSource::policy)
      result.take_over_reasons.push_back(step.take_over->reason);
    else
      step.take_over.reset();
    if (step.source == ActionSource::policy && last == ActionSource::intervention) ++result.hand_backs;
    last = step.source;
    if (hooks.decided) hooks.decided(step.source);
    environment.step(step.action);
    ++result.steps;
    const int64_t limit =
        result.take_over_reasons.empty() ? max_steps : std::max(max_steps, setup.max_steps_with_human);
    over = environment.done() || result.steps >= limit;
    step.done = over;
    step.reward = environment.success() ? 1.0f : 0.0f;
    if (hooks.stepped) hooks.stepped(step);
  }
  result.success = environment.success();
  result.flawless = environment.flawless() && result.take_over_reasons.empty();
  result.outcome = environment.done() ? environment.outcome() : "timeout";
  result.facts = environment.facts();
  return result;
}

}  // namespace apo::deploy
