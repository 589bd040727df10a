// Which metrics share a chart, and what the chart says about them.
#pragma once

#include <string>

#include "report/metrics.h"

namespace apo::report {

/// The charts of what is learned: losses, rewards and z0, action errors, weights; those that have values.
std::string learning_charts(const Metrics& metrics);
/// Loss, rewards with z0 and action errors alone, for a page with many runs.
std::string brief_learning_charts(const Metrics& metrics);
/// All that the brief ones leave out, of every kind.
std::string remaining_charts(const Metrics& metrics);
/// Gradient norm, learning rate, batch, clamps, throughput, times, memory.
std::string running_charts(const Metrics& metrics);
/// The fields "eval/...": shares together, others each on their own.
std::string evaluation_charts(const Metrics& metrics);
/// Fields that no chart above knows.
std::string other_charts(const Metrics& metrics);

/// Known fields without a single value: "z0, reward_margin".
std::string absent_fields(const Metrics& metrics);

}  // namespace apo::report
