#include "report/ticks.h"

#include <algorithm>
#include <cmath>

#include "apo/base/error.h"
#include "report/html.h"

namespace apo::report {
namespace {

// Decimals that tell multiples of `step` apart.
int decimals_for(double step) {
  const int decimals = static_cast<int>(std::ceil(-std::log10(step) - 1e-9));
  return std::clamp(decimals, 0, 12);
}

// The largest 1, 2 or 5 x 10^k that is <= value, or the smallest that is >= value.
double nice_bound(double value, bool below) {
  const double power = std::pow(10.0, std::floor(std::log10(value)));
  const double mantissa = value / power;
  constexpr double kTolerance = 1e-9;
  if (below) {
    for (double nice : {10.0, 5.0, 2.0})
      if (mantissa >= nice - kTolerance) return nice * power;
    return power;
  }
  for (double nice : {1.0, 2.0, 5.0})
    if (mantissa <= nice + kTolerance) return nice * power;
  return 10 * power;
}

}  // namespace

double Scale::share(double value) const {
  if (log) return (std::log(value) - std::log(low)) / (std::log(high) - std::log(low));
  return (value - low) / (high - low);
}

double nice_step(double span, int target) {
  const double rough = span / target;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  for (double nice : {1.0, 2.0, 5.0})
    if (nice * power >= rough * (1 - 1e-9)) return nice * power;
  return 10 * power;
}

std::string tick_label(double value, double step, double largest) {
  if (std::abs(value) < step * 1e-6) return "0";
  if (largest >= 1e9 || largest < 1e-3) return format_number(value, 3);
  double unit = 1;
  std::string suffix;
  if (largest >= 1e6) {
    unit = 1e6;
    suffix = "M";
  } else if (largest >= 1e4) {
    unit = 1e3;
    suffix = "k";
  }
  return format_fixed(value / unit, decimals_for(step / unit)) + suffix;
}

Scale linear_scale(double low, double high, int target, bool round_ends) {
  if (!std::isfinite(low) || !std::isfinite(high)) {
    low = 0;
    high = 1;
  }
  // so that neither the span nor the widened ends overflow
  constexpr double kLargest = 1e300;
  low = std::clamp(low, -kLargest, kLargest);
  high = std::clamp(high, -kLargest, kLargest);
  if (high - low <= std::max(std::abs(low), std::abs(high)) * 1e-12) {
    const double middle = low;
    low = middle == 0 ? 0 : middle - std::abs(middle) / 2;
    high = middle == 0 ? 1 : middle + std::abs(middle) / 2;
  }
  const double step = nice_step(high - low, target);
  Scale scale;
  scale.low = round_ends ? std::floor(low / step + 1e-9) * step : low;
  scale.high = round_ends ? std::ceil(high / step - 1e-9) * step : high;
  const double largest = std::max(std::abs(scale.low), std::abs(scale.high));
  const double first = std::ceil(scale.low / step - 1e-9);
  for (int i = 0; i <= 2 * target + 2; ++i) {
    const double tick = (first + i) * step;
    if (tick > scale.high + step * 1e-6) break;
    scale.ticks.push_back(tick);
    scale.labels.push_back(tick_label(tick, step, largest));
  }
  return scale;
}

Scale log_scale(double low, double high) {
  APO_ASSERT(low > 0 && high >= low);
  Scale scale;
  scale.log = true;
  scale.low = nice_bound(low, true);
  scale.high = nice_bound(high, false);
  if (scale.high <= scale.low * 1.5) scale.high = scale.low * 10;
  const double decades = std::log10(scale.high / scale.low);
  // powers of ten: all of them, or each second, third, ... so that at most seven are written
  const int stride = std::max(1, static_cast<int>(std::ceil(decades / 7)));
  const int first = static_cast<int>(std::floor(std::log10(scale.low) + 1e-9));
  const int last = static_cast<int>(std::ceil(std::log10(scale.high) - 1e-9));
  for (int power = first; power <= last; power += stride)
    for (double nice : {1.0, 2.0, 5.0}) {
      if (nice > 1 && decades > 2.5) break;
      const double tick = nice * std::pow(10.0, power);
      if (tick < scale.low * (1 - 1e-9) || tick > scale.high * (1 + 1e-9)) continue;
      scale.ticks.push_back(tick);
      scale.labels.push_back(format_number(tick, 3));
    }
  return scale;
}

}  // namespace apo::report
