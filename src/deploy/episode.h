// One episode of a policy under a human's eyes; the collector and the recorder of pictures share it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "apo/base/types.h"
#include "apo/deploy/environment.h"
#include "apo/deploy/intervention.h"
#include "apo/models/policy.h"

namespace apo::deploy {

struct EpisodeSetup {
  uint64_t seed = 0;
  int64_t max_steps_with_human = 70;  ///< once a human took over; never less than the environment's own limit
  double temperature = 0;
  bool record_policy_action = true;
  std::string where;  ///< what messages call the episode, "episode 3"
};

struct EpisodeHooks {
  std::function<void(ActionSource)> decided;  ///< after the decision, before the environment moves
  std::function<void(const Step&)> stepped;   ///< the whole step, reward and done included
};

struct EpisodeResult {
  bool success = false;
  bool flawless = false;
  std::string outcome;  ///< the environment's, or "timeout"
  int64_t steps = 0;
  std::vector<std::string> take_over_reasons;  ///< one for each take-over
  int64_t hand_backs = 0;
  int64_t num_clamped_tokens = 0;  ///< decoded tokens that were no action tokens
  Facts facts;
  bool interrupted = false;  ///< a signal arrived: the episode is not finished
};

/// Plays until the environment is done or time is up. `human` may be null.
EpisodeResult play_episode(Environment& environment, models::Policy& policy, InterventionSource* human,
                           const EpisodeSetup& setup, const EpisodeHooks& hooks);

}  // namespace apo::deploy
