#include "report/intervals.h"

#include <algorithm>
#include <cmath>

#include "apo/base/error.h"
#include "apo/base/proportions.h"
#include "report/html.h"

namespace apo::report {

Interval wilson_interval(int64_t count, int64_t total) {
  const Rate rate = wilson(count, total);
  return {rate.rate, rate.low, rate.high};
}

Interval difference_interval(const Interval& before, const Interval& after) {
  const double difference = after.value - before.value;
  return {difference, difference - std::hypot(after.value - after.low, before.high - before.value),
          difference + std::hypot(after.high - after.value, before.value - before.low)};
}

Interval paired_interval(const Pairs& pairs) {
  APO_ASSERT(pairs.total() > 0);
  const auto real = [](int64_t n) { return static_cast<double>(n); };
  const Interval before = wilson_interval(pairs.both + pairs.only_before, pairs.total()),
                 after = wilson_interval(pairs.both + pairs.only_after, pairs.total());
  double x = real(pairs.both) * real(pairs.neither) - real(pairs.only_before) * real(pairs.only_after);
  if (x > 0) x = std::max(0.0, x - real(pairs.total()) / 2);
  const double margins = real(pairs.both + pairs.only_before) * real(pairs.only_after + pairs.neither) *
                         real(pairs.both + pairs.only_after) * real(pairs.only_before + pairs.neither);
  const double phi = margins > 0 ? x / std::sqrt(margins) : 0;
  const auto reach = [&](double a, double b) {
    return std::sqrt(std::max(0.0, a * a - 2 * phi * a * b + b * b));
  };
  const double difference = real(pairs.only_after - pairs.only_before) / real(pairs.total());
  return {difference, difference - reach(after.value - after.low, before.high - before.value),
          difference + reach(after.high - after.value, before.value - before.low)};
}

}  // namespace apo::report
