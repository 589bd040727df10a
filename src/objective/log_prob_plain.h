// The plain composition of tensor operations that the row kernels must equal: readable, differentiable any
// number of times, on any device (the meta device among them), at the price of several [B, T, V]
// intermediates.
#pragma once

#include "apo/objective/log_prob.h"

namespace apo::objective::plain {

/// As apo::objective::token_log_probs, with `mask` defined and without looking at the token ids.
at::Tensor token_log_probs(const at::Tensor& logits, const at::Tensor& tokens, const at::Tensor& mask,
                           const LabelSmoothing& smoothing);
/// As apo::objective::token_kl, with `mask` defined.
at::Tensor token_kl(const at::Tensor& policy_logits, const at::Tensor& reference_logits,
                    const at::Tensor& mask);

}  // namespace apo::objective::plain
