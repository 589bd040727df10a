// The statistics of recorded steps.
#pragma once

#include <vector>

#include "apo/data/dataset.h"
#include "apo/tokenizers/statistics.h"

namespace apo::data {

/// Quantile `share` in [0, 1] of sorted, non-empty values, interpolating linearly as numpy.quantile does.
double quantile(const std::vector<double>& sorted, double share);

/// Over the given steps (usually the kept expert steps). Quantiles interpolate linearly, as numpy does.
/// The gripper's dimensions (Dataset::gripper) get mask = false. An action's dimension that never changes
/// (all within 1e-6) is true with q01 = q99 = min = max; with a spread of q99 - q01 < 1e-6 alone, or of
/// states, it is false. Both are told in the log.
tokenizers::DatasetStatistics compute_statistics(const Dataset& dataset, const std::vector<StepIndex>& steps);

}  // namespace apo::data
