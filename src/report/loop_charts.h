// The charts that go round by round. Each is empty where the summary has nothing for it.
#pragma once

#include <string>

#include "report/loop_summary.h"

namespace apo::report {

/// Success and unaided success with their intervals; rounds that were not promoted are hollow.
std::string success_chart(const LoopSummary& summary);
/// Success among the trials of each circumstance, one chart for each ("layout") that has two to five values.
std::string fact_charts(const LoopSummary& summary);
/// Trials by outcome.
std::string outcome_chart(const LoopSummary& summary);
/// Take-overs by reason, in 100 episodes where all rounds say how many they had.
std::string take_over_chart(const LoopSummary& summary);
/// Share of the episodes with a take-over, for any reason and for each, by deployed policy with its interval.
std::string corrected_chart(const LoopSummary& summary);
/// Recorded steps by label and reason.
std::string label_chart(const LoopSummary& summary);

}  // namespace apo::report
