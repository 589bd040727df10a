#include "apo/base/proportions.h"

#include <algorithm>
#include <cmath>

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

}  // namespace apo
