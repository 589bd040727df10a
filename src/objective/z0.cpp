#include "objective/z0.h"

#include <torch/types.h>

#include "apo/base/error.h"

namespace apo::objective {

Z0 z0_of(const ObjectiveOptions& options, const BatchStatistics& whole_batch) {
  using S = BatchStatistics;
  const at::Tensor count = whole_batch[S::z0_count].clamp_min(1);
  const at::Tensor mean = whole_batch[S::z0_sum] / count;
  // spread of the samples' terms -> standard error of their mean
  const at::Tensor variance = (whole_batch[S::z0_square_sum] - count * mean.square()).clamp_min(0);
  const at::Tensor error = (variance / ((count - 1).clamp_min(1) * count)).sqrt();
  at::Tensor z0 = mean;
  if (options.z0 == Z0Estimator::none)
    z0 = at::zeros_like(mean);
  else if (options.type == ObjectiveType::kto)
    z0 = mean.clamp_min(0);
  else
    z0 = mean.clamp(options.kl_min, options.kl_max);
  return {.value = z0, .unclamped = mean, .standard_error = error, .clamped = z0.ne(mean)};
}

}  // namespace apo::objective
