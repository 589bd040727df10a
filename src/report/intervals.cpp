#include "report/intervals.h"

#include <algorithm>
#include <cmath>

#include "apo/base/error.h"

namespace apo::report {

Interval wilson_interval(int64_t count, int64_t total) {
  APO_ASSERT(total >= 1 && count >= 0 && count <= total);
  const double n = static_cast<double>(total), p = static_cast<double>(count) / n;
  const double z2 = kQuantile95 * kQuantile95;
  const double center = (p + z2 / (2 * n)) / (1 + z2 / n);
  const double half = kQuantile95 / (1 + z2 / n) * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n));
  // the ends at no and at all successes are exact, whatever the rounding
  return {p, count == 0 ? 0 : std::max(0.0, center - half),
          count == total ? 1 : std::min(1.0, center + half)};
}

Interval difference_interval(const Interval& before, const Interval& after) {
  const double difference = after.value - before.value;
  return {difference, difference - std::hypot(after.value - after.low, before.high - before.value),
          difference + std::hypot(after.high - after.value, before.value - before.low)};
}

}  // namespace apo::report
