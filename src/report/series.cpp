#include "report/series.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "apo/base/error.h"

namespace apo::report {
namespace {

// Mean of the finite values in [first, last]; NaN if there is none.
double mean_between(const std::vector<double>& values, size_t first, size_t last) {
  double sum = 0;
  size_t count = 0;
  for (size_t i = first; i <= last; ++i)
    if (std::isfinite(values[i])) {
      sum += values[i];
      ++count;
    }
  return count == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / static_cast<double>(count);
}

template <class Iterator>
double mean_of_first_finite(Iterator first, Iterator last, size_t window) {
  double sum = 0;
  size_t count = 0;
  for (; first != last && count < window; ++first)
    if (std::isfinite(*first)) {
      sum += *first;
      ++count;
    }
  return count == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / static_cast<double>(count);
}

}  // namespace

size_t smoothing_window(size_t n) { return n < 60 ? 1 : 2 * (n / 80) + 1; }

Series smoothed(const Series& series, size_t window, size_t max_points) {
  APO_ASSERT(window % 2 == 1 && max_points >= 2);
  const size_t n = series.size();
  const size_t points = std::min(n, max_points);
  Series out;
  for (size_t p = 0; p < points; ++p) {
    const size_t center = points == n ? p : p * (n - 1) / (points - 1);
    const size_t first = center - std::min(center, window / 2), last = std::min(n - 1, center + window / 2);
    out.x.push_back(series.x[center]);
    out.y.push_back(std::isfinite(series.y[center]) ? mean_between(series.y, first, last)
                                                    : std::numeric_limits<double>::quiet_NaN());
  }
  return out;
}

Envelope envelope(const Series& series, size_t buckets) {
  Envelope out;
  const size_t n = series.size();
  for (size_t b = 0; b < buckets; ++b) {
    const size_t first = b * n / buckets, last = (b + 1) * n / buckets;
    double low = std::numeric_limits<double>::infinity(), high = -low;
    for (size_t i = first; i < last; ++i)
      if (std::isfinite(series.y[i])) {
        low = std::min(low, series.y[i]);
        high = std::max(high, series.y[i]);
      }
    if (low > high) continue;
    out.x.push_back((series.x[first] + series.x[last - 1]) / 2);
    out.low.push_back(low);
    out.high.push_back(high);
  }
  return out;
}

double mean_at_end(const Series& series, size_t window) {
  return mean_of_first_finite(series.y.rbegin(), series.y.rend(), window);
}

double mean_at_start(const Series& series, size_t window) {
  return mean_of_first_finite(series.y.begin(), series.y.end(), window);
}

double quantile(std::vector<double> values, double p) {
  std::erase_if(values, [](double v) { return !std::isfinite(v); });
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  const double place = p * static_cast<double>(values.size() - 1);
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(place);
  std::nth_element(values.begin(), middle, values.end());
  const double below = *middle, share = place - std::floor(place);
  return share == 0 ? below : below * (1 - share) + *std::min_element(middle + 1, values.end()) * share;
}

}  // namespace apo::report
