#include "apo/base/proportions.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
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

}  // namespace apo
