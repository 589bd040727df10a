#include "deploy/episode.h"

#include <optional>
#include <utility>

#include "apo/base/interrupt.h"
#include "deploy/decide.h"

namespace apo::deploy {

EpisodeResult play(environments::Environment& environment, Rollout& rollout, const Actor& actor,
                   const EpisodeHooks& hooks) {
  rollout.begin(environment.reset(rollout.seed()));
  bool stopped = false;
  while (!rollout.over() && !(stopped = interrupted())) {
    std::optional<Step> step = actor(rollout);
    if (!step) {
      stopped = interrupted();
      break;
    }
    if (hooks.decided) hooks.decided(step->source);
    Action executed = step->action;
    if (hooks.disturbed) hooks.disturbed(executed);
    rollout.happened(environment.step(rollout.executed(executed)), *step);
    if (hooks.stepped) hooks.stepped(*step);
  }
  EpisodeResult result = rollout.result();
  result.interrupted = stopped;
  return result;
}

EpisodeResult play_episode(environments::Environment& environment, Rollout& rollout, models::Policy& policy,
                           InterventionSource* human, double temperature, const EpisodeHooks& hooks) {
  if (human) human->reset(rollout.seed());
  int64_t num_clamped_tokens = 0;
  // Each step: what is seen, what the policy wants, what the human does about it.
  const auto actor = [&](Rollout& playing) -> std::optional<Step> {
    Observation seen = environment.observe();
    if (playing.needs_decision()) {
      Observation prepared = seen;
      policy.prepare(prepared);
      Rollout* const one = &playing;
      num_clamped_tokens += decide(policy, {&prepared, 1}, {&one, 1}, temperature);
    }
    std::optional<Intervention> intervention;
    if (human) {
      Moment moment = playing.moment(seen, [&] { return environment.expert(); });
      moment.render = [&](int64_t size) { return environment.render(size); };
      intervention = human->decide(moment);
      // whoever ends it, or stops the program, does not expect that the arm moves once more
      if (human->wants_reset()) playing.stop("reset");
      if (playing.over() || interrupted()) return std::nullopt;
    }
    return playing.act(std::move(seen), std::move(intervention));
  };
  EpisodeResult result = play(environment, rollout, actor, hooks);
  result.num_clamped_tokens = num_clamped_tokens;
  return result;
}

}  // namespace apo::deploy
