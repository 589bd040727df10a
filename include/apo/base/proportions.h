// Shares of trials with their uncertainty.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace apo {

/// Normal quantile of two-sided 95 % intervals.
constexpr double kQuantile95 = 1.959963984540054;

/// A share with its 95 % interval (Wilson's score interval: within [0, 1] and not empty at the ends).
struct Rate {
  int64_t count = 0, total = 0;
  double rate = 0, low = 0, high = 1;
};

/// count of total with Wilson's interval; z is the two-sided normal quantile. total = 0 gives rate 0 and the
/// interval [0, 1]. At no and at all successes the outer end is exactly 0 or 1, whatever the rounding.
/// Source  Wilson 1927; Brown, Cai, DasGupta 2001.
/// Errors  ConfigError unless 0 <= count <= total and z > 0.
Rate wilson(int64_t count, int64_t total, double z = kQuantile95);

/// Two-sided p of McNemar's exact test, from the pairs that only one of two met: under the null hypothesis
/// `only_first` is binomial(only_first + only_second, 1/2). 1 if there is no such pair.
/// Source  McNemar 1947; the exact form is the sign test on the discordant pairs.
double mcnemar_exact(int64_t only_first, int64_t only_second);

/// Two methods on the same seeds: what only one of them did.
struct PairedTest {
  int64_t only_first = 0, only_second = 0, pairs = 0;
  double difference = 0;  ///< share of the first minus share of the second
  double p = 1;           ///< two-sided
};
/// Seed by seed; of a longer vector the end is left out, for only one of the two was there.
PairedTest paired_test(const std::vector<bool>& first, const std::vector<bool>& second);

/// A mean over freshly trained bases with its 95 % interval, bases as the units.
struct MeanOverBases {
  double mean = 0, low = 0, high = 0;
};
/// Student's t: mean ± t(0.975, n - 1) s / sqrt(n), s² with n - 1. One value: low and high are infinite.
MeanOverBases mean_over_bases(std::span<const double> values);

/// How much less the m outcomes of each seed tell than m independent ones: outcomes[loop][seed], m loops.
///
///   deff = 1 + (m - 1) ICC,   ICC = (MSB - MSW) / (MSB + (m - 1) MSW),   clamped to [1, m]
///
/// with the mean squares between and within seeds of a one-way analysis of variance. m where every outcome is
/// the same or there is but one seed; 1 for one loop. n trials are worth n / deff independent ones.
/// Source  Kish 1965 (design effect); Rao & Scott 1992 (proportions at the effective sample size).
double design_effect(std::span<const std::vector<bool>> outcomes);

/// How a table says a p-value: "p = 0.31", "p = 0.012", "p < 0.001".
std::string p_text(double p);

}  // namespace apo
