// Log-probabilities of recorded action tokens, straight from logits [B, T, V] without a [B, T, V]
// intermediate.
//
//   at::Tensor scores = token_log_probs(logits, tokens, mask);   // [B, T], differentiable
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>

#include "apo/base/logits.h"

namespace apo::objective {

/// Spreads a label over the neighbouring action bins: q_v ∝ exp(−(v − token)² / 2σ²) within 6σ and within the
/// vocabulary's action tokens, Σ q = 1. Tokens outside that range (the end token) keep their hard label.
struct LabelSmoothing {
  double sigma = 0;                                        ///< [bins]; 0: hard labels
  int64_t first_action_token = 0, last_action_token = -1;  ///< vocabulary ids, both inclusive
};

/// The log-probability of each recorded token: Σ_v q_v log softmax(logits)_v, with q one-hot unless smoothed.
///
/// Shapes   logits  [B, T, V]  float32, float64 or bfloat16; CPU or CUDA; any strides with contiguous
///                             rows are free
///          tokens  [B, T]     int64 vocabulary ids
///          mask    [B, T]     bool; undefined: all. Masked positions give 0 and are never read, NaN or not.
///          returns [B, T]     nats; float32, or float64 for float64 logits
/// Gradient to logits, once (no second derivatives).
/// Errors   RunError naming the tensor for wrong shapes, types or devices; DataError for a token outside
///          0..V-1 (on CUDA, where looking would wait for the device, such a token gives NaN instead).
/// Numeric  float32: within 4e-6 + 4e-7·|score| of the float64 formula.
at::Tensor token_log_probs(const at::Tensor& logits, const at::Tensor& tokens, const at::Tensor& mask = {},
                           const LabelSmoothing& smoothing = {});

/// The same for two sets of labels on the same logits, which are read once. The second result has no
/// gradient.
std::pair<at::Tensor, at::Tensor> token_log_probs(const at::Tensor& logits, const at::Tensor& tokens,
                                                  const at::Tensor& mask, const at::Tensor& other_tokens,
                                                  const at::Tensor& other_mask,
                                                  const LabelSmoothing& smoothing = {});

/// KL(policy‖reference) of the token distributions: Σ_v p_v (log p_v − log p_ref,v), never negative.
///
/// Shapes   policy_logits, reference_logits  [B, T, V]  of one type;  mask [B, T] bool, undefined: all
///          returns                          [B, T]     nats, 0 where masked
/// Gradient none.
at::Tensor token_kl(const at::Tensor& policy_logits, const at::Tensor& reference_logits,
                    const at::Tensor& mask = {});

/// KL(reference‖policy) of the token distributions: Σ_v p_ref,v (log p_ref,v − log p_v), what the policy
/// lacks of the reference; never negative, and infinite where the policy rules out what the reference allows.
///
/// Shapes   as token_kl
/// Gradient to policy_logits, once (no second derivatives): softmax(policy) − softmax(reference).
/// Errors   RunError naming the tensor for wrong shapes, types or devices
at::Tensor token_reference_kl(const at::Tensor& policy_logits, const at::Tensor& reference_logits,
                              const at::Tensor& mask = {});

/// The most likely token of each position, among vocabulary ids first..last (negative: the whole vocabulary).
///
/// Shapes   logits [B, T, V];  returns [B, T] int64 vocabulary ids
/// Gradient none.
at::Tensor greedy_tokens(const at::Tensor& logits, int64_t first_action_token = -1,
                         int64_t last_action_token = -1);
/// The same of logits that may be made piece by piece.
at::Tensor greedy_tokens(const Logits& logits, int64_t first_action_token = -1,
                         int64_t last_action_token = -1);

}  // namespace apo::objective
