// Methods that started from the same base, side by side.
#pragma once

#include <string>

#include "report/loop_summary.h"

namespace apo::report {

/// What the methods have in common; empty where nothing was compared.
std::string methods_lead(const LoopSummary& summary);

/// What the objectives do; then for each round a chart of success, a chart of the take-overs in the next
/// deployment, and a table without the columns that nobody has numbers for; empty where nothing was compared.
std::string methods_panel(const LoopSummary& summary);

}  // namespace apo::report
