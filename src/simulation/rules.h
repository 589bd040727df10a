// When a tabletop episode is won, lost, or about to go wrong: pure functions of the ground truth.
#pragma once

#include "apo/simulation/tabletop.h"

namespace apo::simulation {

inline constexpr double kZoneHalfWidth = 0.03;  ///< of the band around y = 0 that blocks are pushed into, m

/// The task is done. See Tabletop::success.
bool achieved(const TabletopState& state);
/// The task was done with the other block. See Tabletop::failed.
bool achieved_with_other(const TabletopState& state);
/// A block is more than 2 cm below the table's top.
bool off_table(const TabletopState& state);
/// See Tabletop::near_wrong_object.
bool near_wrong(const TabletopState& state);

/// ConfigError naming the option that is out of range, for callers that fill the struct themselves.
void check_options(const TabletopOptions& options);

}  // namespace apo::simulation
