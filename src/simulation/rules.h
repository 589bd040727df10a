// When a tabletop episode is won, lost, or about to go wrong: pure functions of the ground truth.
#pragma once

#include "apo/simulation/tabletop.h"

namespace apo::simulation {

/// The named block is higher than 7 cm and within 3.5 cm of the hand on each axis.
bool holds_target(const TabletopState& state);
/// The other block is higher than 4.5 cm.
bool lifted_other(const TabletopState& state);
/// A block is more than 2 cm below the table's top.
bool off_table(const TabletopState& state);
/// See Tabletop::near_wrong_object.
bool near_wrong(const TabletopState& state);

/// ConfigError naming the option that is out of range, for callers that fill the struct themselves.
void check_options(const TabletopOptions& options);

}  // namespace apo::simulation
