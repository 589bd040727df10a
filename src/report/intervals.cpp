#include "report/intervals.h"

#include <cmath>

#include "apo/base/proportions.h"

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

}  // namespace apo::report
