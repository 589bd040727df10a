// One episode in an environment at hand; collection, demonstrations and the recorders of pictures share it.
#pragma once

#include <functional>
#include <optional>

#include "apo/base/types.h"
#include "apo/deploy/intervention.h"
#include "apo/deploy/rollout.h"
#include "apo/environments/environment.h"
#include "apo/models/policy.h"

namespace apo::deploy {

struct EpisodeHooks {
  std::function<void(ActionSource)> decided;    ///< after the decision, before the environment moves
  std::function<void(const Step&)> stepped;     ///< the whole step, reward and done included
  std::function<void(Action&)> disturbed = {};  ///< changes what is executed, not what is recorded
};

/// Who acts: the next step, up to its execution; nothing: none is made, the episode is over.
using Actor = std::function<std::optional<Step>(Rollout&)>;

/// Plays until the rollout is over or a signal arrives.
EpisodeResult play(environments::Environment& environment, Rollout& rollout, const Actor& actor,
                   const EpisodeHooks& hooks);

/// A policy plays, decoded at `temperature`, under a human's eyes; `human` may be null.
EpisodeResult play_episode(environments::Environment& environment, Rollout& rollout, models::Policy& policy,
                           InterventionSource* human, double temperature, const EpisodeHooks& hooks);

}  // namespace apo::deploy
