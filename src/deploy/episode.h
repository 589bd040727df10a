// One episode in an environment at hand; collection, demonstrations and the recorders of pictures share it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "apo/base/types.h"
#include "apo/deploy/environment.h"
#include "apo/deploy/intervention.h"
#include "apo/deploy/rollout.h"
#include "apo/models/policy.h"

namespace apo::deploy {

struct EpisodeHooks {
  std::function<void(ActionSource)> decided;    ///< after the decision, before the environment moves
  std::function<void(const Step&)> stepped;     ///< the whole step, reward and done included
  std::function<void(Action&)> disturbed = {};  ///< changes what is executed, not what is recorded
};

/// Who acts: the next step, up to its execution.
using Actor = std::function<Step(Rollout&)>;

/// Plays until the rollout is over or a signal arrives.
EpisodeResult play(Environment& environment, Rollout& rollout, const Actor& actor, const EpisodeHooks& hooks);

struct EpisodeSetup {
  uint64_t seed = 0;
  int64_t max_steps_with_human = 70;  ///< once a human took over; never less than the environment's own limit
  double temperature = 0;
  bool record_policy_action = true;
  std::string where;  ///< what messages call the episode, "episode 3"
};

/// A policy plays under a human's eyes; `human` may be null.
EpisodeResult play_episode(Environment& environment, models::Policy& policy, InterventionSource* human,
                           const EpisodeSetup& setup, const EpisodeHooks& hooks);

}  // namespace apo::deploy
