// The two intervals that the loop's page needs.
#pragma once

#include <cstdint>

#include "report/chart.h"

namespace apo::report {

/// The share count / total with Wilson's 95 % interval, as a chart draws it; as apo::wilson.
Interval wilson_interval(int64_t count, int64_t total);

/// after - before with its 95 % interval, from the two shares' own intervals (method of variance recovery):
///
///   d = q - p;  [d - sqrt((q - l_q)² + (u_p - p)²),  d + sqrt((u_q - q)² + (p - l_p)²)]
///
/// The two samples are taken as independent; where the same seeds were tried twice this is on the safe side.
/// Source  Newcombe 1998, method 10.
Interval difference_interval(const Interval& before, const Interval& after);

}  // namespace apo::report
