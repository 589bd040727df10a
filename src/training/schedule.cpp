#include <algorithm>
#include <cmath>
#include <numbers>

#include "apo/training/trainer.h"

namespace apo::training {

double learning_rate(const OptimizerOptions& optimizer, const ScheduleOptions& schedule, int64_t step,
                     int64_t total_steps) {
  const double peak = optimizer.learning_rate;
  // warm-up: linear from warmup_start · peak at step 0 to the peak at step warmup_steps
  if (step < schedule.warmup_steps) {
    const double done = static_cast<double>(step) / static_cast<double>(schedule.warmup_steps);
    return peak * (schedule.warmup_start + (1 - schedule.warmup_start) * done);
  }
  // then from the peak to final_ratio · peak, reached at step total_steps (one past the last update)
  const double span = static_cast<double>(std::max<int64_t>(total_steps - schedule.warmup_steps, 1));
  const double done = std::min(1.0, static_cast<double>(step - schedule.warmup_steps) / span);
  double ratio = 1;
  if (schedule.type == "cosine")
    ratio = schedule.final_ratio + (1 - schedule.final_ratio) * 0.5 * (1 + std::cos(std::numbers::pi * done));
  else if (schedule.type == "linear")
    ratio = schedule.final_ratio + (1 - schedule.final_ratio) * (1 - done);
  return peak * ratio;
}

}  // namespace apo::training
