// Episodes that were lost (environments::EpisodeLost) and are played again.
#pragma once

#include <cstdint>
#include <string>

#include "apo/environments/environment.h"

namespace apo::deploy {

/// Warns of a lost episode, `what` ("trial 3 (seed 7)"), that is now played again. RunError with the reason
/// once the same one was lost more than so often in a row.
inline constexpr int64_t kMostLosses = 8;
void note_loss(const environments::EpisodeLost& error, const std::string& what, int64_t losses_in_a_row);

}  // namespace apo::deploy
