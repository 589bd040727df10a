// Methods that learned from the same corrections, side by side.
#pragma once

#include <string>

#include "report/loop_summary.h"

namespace apo::report {

/// For each round a chart of success, a chart of the take-overs in the next deployment, and a table; empty
/// where nothing was compared.
std::string methods_panel(const LoopSummary& summary);

}  // namespace apo::report
