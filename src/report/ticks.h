// Where an axis has its ticks, how they are written, and how values become positions.
#pragma once

#include <string>
#include <vector>

namespace apo::report {

/// One axis: its range, its ticks (ascending, within the range) and what is written at them.
struct Scale {
  double low = 0, high = 1;
  bool log = false;  ///< positions grow with the logarithm; low > 0
  std::vector<double> ticks;
  std::vector<std::string> labels;

  /// 0 at `low`, 1 at `high`; outside values go beyond.
  double share(double value) const;
};

/// The tick distance 1, 2 or 5 x 10^k that divides `span` (> 0) into at most `target` (>= 1) parts.
double nice_step(double span, int target);

/// A linear scale. Its ends are `low` and `high`, widened to whole ticks if `round_ends`. Equal or not finite
/// ends are widened to something drawable: a constant c becomes [c - |c|/2, c + |c|/2], zero becomes [0, 1].
Scale linear_scale(double low, double high, int target, bool round_ends);

/// A logarithmic scale widened to 1, 2 or 5 x 10^k, with ticks at the powers of ten, or at 1-2-5 where there
/// are fewer than two decades. 0 < low <= high.
Scale log_scale(double low, double high);

/// What is written at ticks that lie `step` apart and reach to `largest`: "0.25", "20k", "1.5M", "2e-5".
std::string tick_label(double value, double step, double largest);

}  // namespace apo::report
