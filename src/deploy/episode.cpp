#include "deploy/episode.h"

#include <optional>
#include <utility>
#include <vector>

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
  std::optional<double> confidence;  // of the decision whose actions are played
  // Each step: what is seen, what the policy wants, what the human does about it.
  const auto actor = [&](Rollout& playing) -> std::optional<Step> {
    Observation seen = environment.observe();
    if (playing.needs_decision()) {
      Observation prepared = seen;
      prepare(policy, playing, prepared);
      Rollout* const one = &playing;
      std::vector<double> sure;
      const bool asked = human != nullptr && human->wants_confidence();
      num_clamped_tokens += decide(policy, {&prepared, 1}, {&one, 1}, temperature, asked ? &sure : nullptr);
      confidence = sure.empty() ? std::nullopt : std::optional(sure.front());
    }
    std::optional<Intervention> intervention;
    if (human) {
      Moment moment = playing.moment(seen, [&] { return environment.expert(); });
      moment.confidence = confidence;
      moment.render = [&](int64_t size) { return environment.render(size); };
      intervention = human->decide(moment);
      // whoever ends it, or stops the program, does not expect that the arm moves once more
      if (const auto ending = human->wants_end()) playing.stop(ending->outcome, ending->success);
      if (playing.over() || interrupted()) return std::nullopt;
    }
    return playing.act(std::move(seen), std::move(intervention));
  };
  EpisodeHooks told = hooks;
  if (human)
    told.stepped = [&](const Step& step) {
      if (hooks.stepped) hooks.stepped(step);
      human->stepped(step);
    };
  EpisodeResult result = play(environment, rollout, actor, told);
  if (human && !result.judged && !result.interrupted)
    if (const auto said = human->judge(result); said && said->success) {
      result.judged = true;
      result.success = *said->success;
      result.outcome = said->outcome;
    }
  result.num_clamped_tokens = num_clamped_tokens;
  return result;
}

}  // namespace apo::deploy
