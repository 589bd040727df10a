#include "apo/objective/weights.h"

#include <torch/types.h>

namespace apo::objective {
namespace {

// w of one group of n samples whose errors add up to `total`
at::Tensor group_weight(const at::Tensor& l, const at::Tensor& total, const at::Tensor& n,
                        const ObjectiveOptions& options) {
  constexpr double kReleasedEpsilon = 1e-4;
  if (!options.statistics_are_global()) return (l + kReleasedEpsilon) / (total + kReleasedEpsilon);
  const at::Tensor equal = n.clamp_min(1).reciprocal();
  const at::Tensor some_error = total.gt(0);
  const at::Tensor weight = at::where(some_error, l / total.masked_fill(some_error.bitwise_not(), 1), equal);
  return options.weights.normalization == WeightNormalization::mean ? weight * n : weight;
}

}  // namespace

SampleWeights sample_weights(const at::Tensor& action_l1, const at::Tensor& desirable,
                             const ObjectiveOptions& options, const BatchStatistics& whole_batch) {
  const at::NoGradGuard no_grad;
  using S = BatchStatistics;
  const at::Tensor num_desirable = whole_batch[S::num_desirable],
                   num_undesirable = whole_batch[S::num_undesirable];
  if (!options.needs_action_l1()) {
    const at::Tensor n = at::where(desirable, num_desirable, num_undesirable).clamp_min(1);
    const at::Tensor weight =
        options.weights.normalization == WeightNormalization::mean ? at::ones_like(n) : n.reciprocal();
    return {.weight = weight, .lambda = at::ones_like(weight)};
  }
  const at::Tensor l = action_l1.to(at::kDouble);
  const at::Tensor weight =
      at::where(desirable, group_weight(l, whole_batch[S::action_l1_desirable], num_desirable, options),
                group_weight(l, whole_batch[S::action_l1_undesirable], num_undesirable, options));
  // 1 − e^{−ηw} by expm1: w may be tiny
  const at::Tensor lambda = at::where(desirable, -at::expm1(weight * -options.weights.eta_desirable),
                                      at::exp(weight * -options.weights.eta_undesirable));
  return {.weight = weight, .lambda = lambda};
}

}  // namespace apo::objective
