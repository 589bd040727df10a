#include "apo/objective/weights.h"

#include <torch/types.h>

#include <cmath>
#include <limits>

namespace apo::objective {
namespace {

// w of one group of n samples, of `batch` in both, whose errors add up to `total`
at::Tensor group_weight(const at::Tensor& l, const at::Tensor& total, const at::Tensor& n,
                        const at::Tensor& batch, const ObjectiveOptions& options) {
  constexpr double kReleasedEpsilon = 1e-4;
  if (options.released_code()) return (l + kReleasedEpsilon) / (total + kReleasedEpsilon);
  const at::Tensor equal = n.clamp_min(1).reciprocal();
  const at::Tensor some_error = total.gt(0);
  const at::Tensor weight = at::where(some_error, l / total.masked_fill(some_error.bitwise_not(), 1), equal);
  if (options.weights.normalization == WeightNormalization::mean) return weight * n;
  // the whole batch / group_size groups of the batch's mix: each of them has Σ w = 1
  const auto size = static_cast<double>(options.weights.group_size);
  return size > 0 ? weight * (batch / size) : weight;
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
  const at::Tensor l = action_l1.to(at::kDouble), batch = num_desirable + num_undesirable;
  const at::Tensor weight = at::where(
      desirable, group_weight(l, whole_batch[S::action_l1_desirable], num_desirable, batch, options),
      group_weight(l, whole_batch[S::action_l1_undesirable], num_undesirable, batch, options));
  // 1 − e^{−ηw} by expm1: w may be tiny
  const at::Tensor lambda = at::where(desirable, -at::expm1(weight * -options.weights.eta_desirable),
                                      at::exp(weight * -options.weights.eta_undesirable));
  return {.weight = weight, .lambda = lambda};
}

double expected_balance(const ObjectiveOptions& options, int64_t num_desirable, int64_t num_undesirable) {
  if (!options.uses_z0() || num_desirable <= 0 || num_undesirable <= 0)
    return std::numeric_limits<double>::quiet_NaN();
  const auto desirable = static_cast<double>(num_desirable),
             undesirable = static_cast<double>(num_undesirable);
  const WeightOptions& weights = options.weights;
  if (!options.needs_action_l1()) return undesirable / desirable;
  double sum_desirable = 1, sum_undesirable = 1;  // Σ w of each group
  if (weights.normalization == WeightNormalization::mean)
    sum_desirable = desirable, sum_undesirable = undesirable;
  else if (!options.released_code() && weights.group_size > 0)
    sum_desirable = sum_undesirable = (desirable + undesirable) / static_cast<double>(weights.group_size);
  const double lambda_desirable = -std::expm1(-weights.eta_desirable * sum_desirable / desirable);
  const double lambda_undesirable = std::exp(-weights.eta_undesirable * sum_undesirable / undesirable);
  return undesirable * lambda_undesirable / (desirable * lambda_desirable);
}

}  // namespace apo::objective
