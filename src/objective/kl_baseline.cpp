#include "apo/objective/kl_baseline.h"

#include <torch/types.h>

#include "apo/objective/log_prob.h"
#include "objective/checks.h"
#include "objective/kl_terms.h"

namespace apo::objective {
namespace {

// log π(y'|o) of each token of y'
at::Tensor mismatched_log_probs(const at::Tensor& logits, const ObjectiveInput& input,
                                const ObjectiveOptions& options) {
  return token_log_probs(logits, input.mismatched_tokens, counted_mismatched(input, options),
                         {options.label_smoothing_bins, input.first_action_token, input.last_action_token});
}

}  // namespace

bool drops_end_token(const ObjectiveOptions& options) { return !options.statistics_are_global(); }

at::Tensor counted_mismatched(const ObjectiveInput& input, const ObjectiveOptions& options) {
  at::Tensor mask = input.mismatched_mask;
  if (drops_end_token(options)) mask = mask.bitwise_and(input.mismatched_end_token.bitwise_not());
  // where this sample has no token, its logits are padding
  return options.z0 == Z0Estimator::shifted_labels ? mask.bitwise_and(input.mask) : mask;
}

at::Tensor reference_kl_terms(const ObjectiveInput& input, const ObjectiveOptions& options) {
  if (!options.needs_mismatched_tokens()) return {};
  if (input.reference_mismatched_log_probs.defined())
    return input.reference_mismatched_log_probs.masked_fill(counted_mismatched(input, options).bitwise_not(),
                                                            0);
  const at::NoGradGuard no_grad;
  const bool own_prefix = options.z0 == Z0Estimator::mismatched;
  return mismatched_log_probs(own_prefix ? input.mismatched_reference_logits : input.reference_logits, input,
                              options);
}

at::Tensor kl_terms(const ObjectiveInput& given, const ObjectiveOptions& options) {
  if (!options.uses_z0() || options.z0 == Z0Estimator::none) return {};
  const at::NoGradGuard no_grad;
  const ObjectiveInput input = completed(given, options);
  if (options.z0 == Z0Estimator::exact) {
    const at::Tensor mask =
        drops_end_token(options) ? input.mask.bitwise_and(input.end_token.bitwise_not()) : input.mask;
    return token_kl(input.policy_logits, input.reference_logits, mask);
  }
  const bool own_prefix = options.z0 == Z0Estimator::mismatched;
  return mismatched_log_probs(own_prefix ? input.mismatched_policy_logits : input.policy_logits, input,
                              options) -
         reference_kl_terms(input, options);
}

KlBaseline kl_baseline(const ObjectiveOptions& options, const BatchStatistics& whole_batch) {
  APO_CHECK(RunError, whole_batch.sums.defined(),
            "objective: the batch's statistics are empty; call measure first");
  using S = BatchStatistics;
  const at::Tensor count = whole_batch[S::kl_count].clamp_min(1);
  const at::Tensor mean = whole_batch[S::kl_sum] / count;
  // spread of the samples' terms -> standard error of their mean
  const at::Tensor variance = (whole_batch[S::kl_square_sum] - count * mean.square()).clamp_min(0);
  const at::Tensor error = (variance / ((count - 1).clamp_min(1) * count)).sqrt();
  at::Tensor z0 = mean;
  if (options.z0 == Z0Estimator::none)
    z0 = at::zeros_like(mean);
  else if (options.type == ObjectiveType::kto)
    z0 = mean.clamp_min(0);
  else
    z0 = mean.clamp(options.kl_min, options.kl_max);
  return {.z0 = z0, .unclamped = mean, .standard_error = error, .clamped = z0.ne(mean)};
}

}  // namespace apo::objective
