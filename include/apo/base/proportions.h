// Shares of trials with their uncertainty.
#pragma once

#include <cstdint>
#include <string>

namespace apo {

/// Normal quantile of two-sided 95 % intervals.
constexpr double kQuantile95 = 1.959963984540054;

/// A share with its 95 % interval (Wilson's score interval: within [0, 1] and not empty at the ends).
struct Rate {
  int64_t count = 0, total = 0;
  double rate = 0, low = 0, high = 1;
};

/// count of total with Wilson's interval; z is the two-sided normal quantile. total = 0 gives rate 0 and the interval
/// [0, 1]. At no and at all successes the outer end is exactly 0 or 1, whatever the rounding.
/// Source  Wilson 1927; Brown, Cai, DasGupta 2001.
/// Errors  ConfigError unless 0 <= count <= total and z > 0.
Rate wilson(int64_t count, int64_t total, double z = kQuantile95);

/// Two-sided p of McNemar's exact test, from the pairs that only one of two met: under the null hypothesis `only_first` is
/// binomial(only_first + only_second, 1/2). 1 if there is no such pair.
/// Source  McNemar 1947; the exact form is the sign test on the discordant pairs.
double mcnemar_exact(int64_t only_first, int64_t only_second);

/// How a table says a p-value: "p = 0.31", "p = 0.012", "p < 0.001".
std::string p_text(double p);

}  // namespace apo
