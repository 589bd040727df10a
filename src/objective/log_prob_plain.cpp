#include "objective/log_prob_plain.h"

#include <torch/types.h>

#include <cmath>

namespace apo::objective::plain {
namespace {

// log softmax in float32 or better; masked rows become uniform, so that what they held (NaN included) is gone
// and their gradient is 0.
at::Tensor log_softmax(const at::Tensor& logits, const at::Tensor& mask) {
  const auto type = logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return at::log_softmax(logits.to(type).masked_fill(mask.bitwise_not().unsqueeze(-1), 0), -1);  // [B, T, V]
}

}  // namespace

at::Tensor token_log_probs(const at::Tensor& logits, const at::Tensor& tokens, const at::Tensor& mask,
                           const LabelSmoothing& smoothing) {
  const at::Tensor masked = mask.bitwise_not();
  const at::Tensor log_p = log_softmax(logits, mask);
  at::Tensor score = log_p.gather(-1, tokens.masked_fill(masked, 0).unsqueeze(-1)).squeeze(-1);  // [B, T]
  if (smoothing.sigma > 0) {
    // q over the action bins, normalised; the rows of other tokens are replaced afterwards
    const int64_t first = smoothing.first_action_token, bins = smoothing.last_action_token - first + 1;
    const at::Tensor distance =
        at::arange(bins, tokens.options()) + first - tokens.unsqueeze(-1);  // [B, T, bins]
    const at::Tensor is_bin = tokens.ge(first).bitwise_and(tokens.le(smoothing.last_action_token));
    const int64_t radius = static_cast<int64_t>(std::ceil(6 * smoothing.sigma));
    at::Tensor q =
        (distance.to(log_p.scalar_type()).square() * (-0.5 / (smoothing.sigma * smoothing.sigma))).exp();
    q = q.masked_fill(distance.square().gt(radius * radius), 0);
    q = q / q.sum(-1, /*keepdim=*/true).masked_fill(is_bin.bitwise_not().unsqueeze(-1), 1);
    const at::Tensor smooth = (q * log_p.narrow(-1, first, bins)).sum(-1);
    score = at::where(is_bin, smooth, score);
  }
  return score.masked_fill(masked, 0);
}

at::Tensor token_kl(const at::Tensor& policy_logits, const at::Tensor& reference_logits,
                    const at::Tensor& mask) {
  const at::Tensor policy = log_softmax(policy_logits.detach(), mask);
  const at::Tensor reference = log_softmax(reference_logits.detach(), mask);
  return (policy.exp() * (policy - reference)).sum(-1).clamp_min(0).masked_fill(mask.bitwise_not(), 0);
}

}  // namespace apo::objective::plain
