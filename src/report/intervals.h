// The intervals that the loop's page needs, and the test beside them.
#pragma once

#include <cstdint>

#include "apo/base/proportions.h"
#include "report/chart.h"

namespace apo::report {

/// The share count / total with Wilson's 95 % interval, as a chart draws it; as apo::wilson.
Interval wilson_interval(int64_t count, int64_t total);

/// after - before with its 95 % interval, from the two shares' own intervals (method of variance recovery):
///
///   d = q - p;  [d - sqrt((q - l_q)² + (u_p - p)²),  d + sqrt((u_q - q)² + (p - l_p)²)]
///
/// The two samples are taken as independent.
/// Source  Newcombe 1998, Stat. Med. 17, 873-890 (independent proportions), method 10.
Interval difference_interval(const Interval& before, const Interval& after);

/// The trials of two policies on the same seeds.
struct Pairs {
  int64_t both = 0, only_before = 0, only_after = 0, neither = 0;  ///< seeds, by who succeeded
  int64_t total() const { return both + only_before + only_after + neither; }
};

/// after - before with its 95 % interval: as `difference_interval`, less what the pairs have in common,
///
///   [d - sqrt(a² - 2 φ a b + b²), ...],   φ = x / sqrt(product of the four margins),
///   x = both neither - only_before only_after, if positive: less total / 2 and at least 0; φ = 0 without
///   margins
///
/// with a, b the distances under the root above. Needs total() > 0.
/// Source  Newcombe 1998, Stat. Med. 17, 2635-2650 (paired proportions), method 10.
Interval paired_interval(const Pairs& pairs);

}  // namespace apo::report
