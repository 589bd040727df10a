#include "deploy/episode.h"

#include <optional>
#include <utility>

#include "apo/base/interrupt.h"
#include "deploy/decide.h"

namespace apo::deploy {

EpisodeResult play(Environment& environment, Rollout& rollout, const Actor& actor,
                   const EpisodeHooks& hooks) {
  rollout.begin(environment.reset(rollout.seed()));
  bool stopped = false;
  while (!rollout.over() && !(stopped = interrupted())) {
    Step step = actor(rollout);
    if (hooks.decided) hooks.decided(step.source);
    Action executed = step.action;
    if (hooks.disturbed) hooks.disturbed(executed);
    rollout.happened(environment.step(rollout.executed(executed)), step);
    if (hooks.stepped) hooks.stepped(step);
  }
  EpisodeResult result = rollout.result();
  result.interrupted = stopped;
  return result;
}

EpisodeResult play_episode(Environment& environment, models::Policy& policy, InterventionSource* human,
                           const EpisodeSetup& setup, const EpisodeHooks& hooks) {
  if (human) human->reset(setup.seed);
  int64_t num_clamped_tokens = 0;
  const auto expert = [&] { return environment.expert(); };
  // Each step: what is seen, what the policy wants, what the human does about it.
  const auto actor = [&](Rollout& rollout) {
    Observation seen = environment.observe();
    if (rollout.needs_decision()) {
      Observation prepared = seen;
      policy.prepare(prepared);
      Rollout* const one = &rollout;
      num_clamped_tokens += decide(policy, {&prepared, 1}, {&one, 1}, setup.temperature);
    }
    std::optional<Intervention> intervention;
    if (human) intervention = human->decide(rollout.moment(seen, expert));
    return rollout.act(std::move(seen), std::move(intervention));
  };
  Rollout rollout(environment.spec(), setup.seed,
                  {.max_steps_with_human = setup.max_steps_with_human,
                   .record_policy_action = setup.record_policy_action,
                   .where = setup.where});
  EpisodeResult result = play(environment, rollout, actor, hooks);
  result.num_clamped_tokens = num_clamped_tokens;
  return result;
}

}  // namespace apo::deploy
