// What a batch came to: everything the objective said of it, whole, on the host.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "apo/distributed/group.h"
#include "apo/objective/objective.h"
#include "training/pairs.h"

namespace apo::training {

/// What an objective does not compute.
inline constexpr double kAbsent = std::numeric_limits<double>::quiet_NaN();

/// The outcome of one batch; tensors on the CPU, float64 except `mask`.
struct BatchOutcome {
  double loss = 0;
  double z0 = kAbsent, z0_unclamped = kAbsent, z0_standard_error = kAbsent;
  double z0_clamped = kAbsent;                                      ///< 0 or 1
  double lambda_desirable = kAbsent, lambda_undesirable = kAbsent;  ///< Σ λ of each group
  double sft_loss = kAbsent;
  double reference_kl = kAbsent;   ///< mean KL(reference‖policy) a held token, nats
  double num_pairs = kAbsent;      ///< of dpo and tpo
  double pair_accuracy = kAbsent;  ///< share of the pairs whose preferred side has the larger reward
  double num_unpaired = kAbsent;   ///< human steps (tpo: and steps before a take-over) that are in no pair
  /// predicted tokens that were no action tokens (compatibility: released-code)
  int64_t num_clamped_tokens = 0;
  int64_t num_clipped_actions = 0;  ///< recorded action numbers outside what the policy's tokens can express
  int64_t num_cut_answers = 0;      ///< recorded answers longer than their observation has room for

  at::Tensor mask;                                        ///< [B, T] bool
  at::Tensor token_log_probs, reference_token_log_probs;  ///< [B, T]
  at::Tensor log_prob, reference_log_prob;       ///< [B]; reference_* and reward NaN without a reference
  at::Tensor reward, action_l1, weight, lambda;  ///< [B]
  at::Tensor sample_loss;                        ///< [B] unweighted: as ObjectiveOutput
};

/// The whole batch's outcome, of whose samples this rank had `share`.
///
/// `outputs`, `action_l1`: of the share's micro-batches, in order; the latter [b] each. `mask`: the whole
/// batch's, [B, T]. `has_reference`: whether there are reference_token_log_probs. Counts stay 0 but for
/// num_clamped_tokens, of which this rank has as many as said.
/// Cost     one copy from the device; of several ranks one sum of float64 numbers.
BatchOutcome outcome_of(const std::vector<objective::ObjectiveOutput>& outputs,
                        const std::vector<at::Tensor>& action_l1, int64_t num_clamped_tokens,
                        const at::Tensor& mask, bool has_reference, const Share& share,
                        const distributed::Group& group);

}  // namespace apo::training
