// A measured quantity over steps, and how a long one is drawn with few points.
#pragma once

#include <cstddef>
#include <vector>

namespace apo::report {

/// Values over steps: `x` ascending, `y` of the same length; a `y` that is not finite breaks the line.
struct Series {
  std::vector<double> x, y;
  size_t size() const { return x.size(); }
};

/// The least and the largest value in each of consecutive buckets.
struct Envelope {
  std::vector<double> x, low, high;
};

/// The odd number of neighbouring values that one smoothed point averages: about n/40, 1 (no smoothing)
/// below 60.
size_t smoothing_window(size_t n);

/// Centred means of `window` (odd) values at no more than `max_points` places, the first and the last among
/// them. At the ends the window holds what there is. Values that are not finite are left out of the means;
/// where the value itself is not finite, so is the smoothed one.
Series smoothed(const Series& series, size_t window, size_t max_points);

/// Least and largest finite value of each of `buckets` equal parts; parts without a finite value are left
/// out.
Envelope envelope(const Series& series, size_t buckets);

/// Mean of the last (or first) `window` finite values; NaN if there is none.
double mean_at_end(const Series& series, size_t window);
double mean_at_start(const Series& series, size_t window);

/// The p-quantile (p in [0, 1], linear between neighbours) of the finite values; NaN if there is none.
double quantile(std::vector<double> values, double p);

}  // namespace apo::report
