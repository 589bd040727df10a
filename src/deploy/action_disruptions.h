// Noise and delay between a decision and its effect, around any environment.
#pragma once

#include <memory>

#include "apo/deploy/environment.h"

namespace apo::deploy {

/// The environment itself unless noise or delay has a probability. Whether an episode is disrupted, and the noise,
/// depend on its seed alone. Everything but `step` and `facts` is the inner environment's.
std::unique_ptr<Environment> with_action_disruptions(std::unique_ptr<Environment> environment,
                                                     const DisruptionOptions& options);

}  // namespace apo::deploy
