#include "apo/base/proportions.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <limits>
#include <numeric>
#include <sstream>

#include "apo/base/error.h"

namespace apo {

Rate wilson(int64_t count, int64_t total, double z) {
  APO_CHECK(ConfigError, total >= 0 && count >= 0 && count <= total && z > 0,
            "wilson: expected 0 <= count <= total and z > 0, found count ", count, ", total ", total, ", z ",
            z);
  Rate rate{.count = count, .total = total};
  if (total == 0) return rate;
  const double n = static_cast<double>(total), p = static_cast<double>(count) / n, z2 = z * z;
  const double center = (p + z2 / (2 * n)) / (1 + z2 / n);
  const double half = z * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n);
  rate.rate = p;
  rate.low = count == 0 ? 0.0 : std::max(0.0, center - half);
  rate.high = count == total ? 1.0 : std::min(1.0, center + half);
  return rate;
}

double mcnemar_exact(int64_t only_first, int64_t only_second) {
  APO_ASSERT(only_first >= 0 && only_second >= 0);
  const int64_t n = only_first + only_second, least = std::min(only_first, only_second);
  const auto log_factorial = [](int64_t k) { return std::lgamma(static_cast<double>(k) + 1); };
  double tail = 0;  // P(X <= least), X binomial(n, 1/2)
  for (int64_t k = 0; k <= least; ++k)
    tail += std::exp(log_factorial(n) - log_factorial(k) - log_factorial(n - k) -
                     static_cast<double>(n) * std::log(2.0));
  return std::min(1.0, 2 * tail);
}

std::string p_text(double p) {
  if (p < 0.001) return "p < 0.001";
  std::ostringstream out;
  out << "p = " << std::fixed << std::setprecision(p < 0.1 ? 3 : 2) << p;
  return out.str();
}

PairedTest paired_test(const std::vector<bool>& first, const std::vector<bool>& second) {
  const size_t pairs = std::min(first.size(), second.size());
  PairedTest test;
  test.pairs = static_cast<int64_t>(pairs);
  for (size_t i = 0; i < pairs; ++i) {
    test.only_first += first[i] && !second[i];
    test.only_second += second[i] && !first[i];
  }
  if (test.pairs > 0)
    test.difference =
        static_cast<double>(test.only_first - test.only_second) / static_cast<double>(test.pairs);
  test.p = mcnemar_exact(test.only_first, test.only_second);
  return test;
}

MeanOverBases mean_over_bases(std::span<const double> values) {
  APO_ASSERT(!values.empty());
  // t(0.975) of 1, 2, ... degrees of freedom; beyond, within 0.005 of 1.96 + 2.5 / them
  static constexpr std::array kQuantiles = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365,
                                            2.306,  2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
                                            2.131,  2.120, 2.110, 2.101, 2.093, 2.086};
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  if (values.size() < 2) {
    constexpr double kInfinite = std::numeric_limits<double>::infinity();
    return {.mean = mean, .low = -kInfinite, .high = kInfinite};
  }
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const size_t freedom = values.size() - 1;
  const double t =
      freedom <= kQuantiles.size() ? kQuantiles[freedom - 1] : 1.96 + 2.5 / static_cast<double>(freedom);
  const double half = t * std::sqrt(squares / static_cast<double>(freedom) / n);
  return {.mean = mean, .low = mean - half, .high = mean + half};
}

double design_effect(std::span<const std::vector<bool>> outcomes) {
  const auto m = static_cast<double>(outcomes.size());
  const size_t num_seeds = outcomes.empty() ? 0 : outcomes[0].size();
  for (const std::vector<bool>& loop : outcomes) APO_ASSERT(loop.size() == num_seeds);
  if (outcomes.size() < 2 || num_seeds < 2) return std::max(1.0, m);
  double mean = 0, between = 0, within = 0;
  for (const std::vector<bool>& loop : outcomes)
    mean += static_cast<double>(std::count(loop.begin(), loop.end(), true));
  mean /= m * static_cast<double>(num_seeds);
  for (size_t seed = 0; seed < num_seeds; ++seed) {
    double share = 0;
    for (const std::vector<bool>& loop : outcomes) share += (loop[seed] ? 1 : 0) / m;
    between += m * (share - mean) * (share - mean);
    within += m * share * (1 - share);
  }
  between /= static_cast<double>(num_seeds - 1);
  within /= static_cast<double>(num_seeds) * (m - 1);
  const double spread = between + (m - 1) * within;
  if (spread < 1e-12) return m;  // one and the same outcome everywhere
  return std::clamp(1 + (m - 1) * (between - within) / spread, 1.0, m);
}

}  // namespace apo
