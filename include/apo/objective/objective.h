// The objective: recorded actions with binary labels in, one differentiable loss out. Tensors only: no files,
// models, clocks or ranks.
//
//   auto scores = score(input, options);                          // reads the logits once
//   BatchStatistics whole = measure(input, options, scores);      // += over micro-batches and ranks
//   ObjectiveOutput out = evaluate(input, options, whole, scores);
//   out.loss.backward();                                          // micro-batches' losses add up
//
// Formulas and options: docs/objective.md.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "apo/objective/options.h"

namespace apo::objective {

/// One (micro-)batch of B samples with T action-token positions and V logits each, on any one device.
struct ObjectiveInput {
  at::Tensor policy_logits{};  ///< [B, T, V] float32, float64 or bfloat16; the gradient flows here
  at::Tensor
      reference_logits{};  ///< [B, T, V] same type, no gradient; undefined where no reference is needed
  at::Tensor tokens{};     ///< [B, T] int64, the recorded action's tokens (teacher-forced)
  at::Tensor mask{};       ///< [B, T] bool, the positions that count; undefined: all
  at::Tensor end_token{};  ///< [B, T] bool, which of them is the end token; undefined: none
  at::Tensor desirable{};  ///< [B] bool; undefined for sft: all
  at::Tensor held{};       ///< [B] bool, where `reference_kl_weight` holds the policy to the reference; undefined: desirable
  at::Tensor action_l1{};  ///< [B] float, l_i: mean |greedy − recorded| action, in normalised units
  at::Tensor dimension_credit{};  ///< [B, T] float in [0, 1] for `credit: dimension`; undefined: all 1
  at::Tensor sample_weight{};     ///< [B] float >= 0 for type weighted-bc
  /// For dpo and tpo: samples with the same number 0..B-1 form a pair, the desirable ones its preferred side, the
  /// others its rejected side; -1: in no pair. All samples of a pair must be in one input.
  at::Tensor pair{};  ///< [B] int64

  /// The next sample's tokens, y'_i = y_{i+1}, rolled over the whole batch by the trainer, for z0
  /// "shifted-labels" and "mismatched". Undefined for shifted-labels: rolled within this input.
  at::Tensor mismatched_tokens{};     ///< [B, T] int64
  at::Tensor mismatched_mask{};       ///< [B, T] bool; undefined: all
  at::Tensor mismatched_end_token{};  ///< [B, T] bool; undefined: `end_token`
  at::Tensor
      mismatched_policy_logits{};  ///< [B, T, V] teacher-forced on mismatched_tokens, z0 "mismatched" only
  at::Tensor mismatched_reference_logits{};  ///< [B, T, V]

  /// What `reference_log_probs` found earlier; then reference_logits and mismatched_reference_logits may be undefined.
  at::Tensor reference_token_log_probs{};       ///< [B, T] nats, any floating type, 0 where masked
  at::Tensor reference_mismatched_log_probs{};  ///< [B, T] the same for z0 "shifted-labels" and "mismatched"

  /// Vocabulary ids of the action bins, needed with label_smoothing_bins > 0.
  int64_t first_action_token = 0, last_action_token = -1;
};

/// All that the objective needs from the logits; where the logits' memory is read. Masked positions are 0.
struct TokenScores {
  at::Tensor
      policy;  ///< [B, T] token log-probs (of smoothed labels with label_smoothing_bins), differentiable
  at::Tensor reference;  ///< [B, T] the same under the reference; undefined where no reference is needed
  at::Tensor reference_kl;  ///< [B, T] KL(reference‖policy), differentiable, 0 where not held; undefined without a hold
  at::Tensor kl;         ///< [B, T] the terms that z0 averages, detached; undefined where there is no z0
};
TokenScores score(const ObjectiveInput& input, const ObjectiveOptions& options);

/// All that the objective reads from the reference's logits, to be kept in their place: with it in the input, the
/// reference need not be there. (With z0 "exact", which compares whole distributions, using it is a ConfigError.)
struct ReferenceLogProbs {
  at::Tensor tokens;      ///< [B, T] of the recorded tokens; ObjectiveInput::reference_token_log_probs
  at::Tensor mismatched;  ///< [B, T] of the next sample's; undefined where z0 does not read them
};
/// `policy_logits` of the input are not read, but give the shapes. Without gradient.
ReferenceLogProbs reference_log_probs(const ObjectiveInput& input, const ObjectiveOptions& options);

/// Sums over a batch that the loss of each of its samples depends on. Additive: `a += b` is the batch of
/// both, and a sum over ranks of `sums` is the batch of all ranks.
struct BatchStatistics {
  enum Index : int64_t {
    num_desirable,
    num_undesirable,  ///< samples
    action_l1_desirable,
    action_l1_undesirable,  ///< Σ l_i
    kl_sum,
    kl_square_sum,
    kl_count,    ///< Σ and Σ² over samples of their z0 terms, samples
    sft_tokens,  ///< tokens that are imitated (weighted-bc: Σ of their weights)
    num_pairs,   ///< pairs that have both sides
    held_tokens,  ///< tokens that are held to the reference
    kSize
  };
  at::Tensor sums{};  ///< [kSize] float64, on the input's device; undefined: an empty batch

  BatchStatistics& operator+=(const BatchStatistics& other);
  /// One of the sums, 0-dimensional; the sums must be defined.
  at::Tensor operator[](Index index) const;
};
/// The statistics of this input alone. No gradient, no device synchronisation.
BatchStatistics measure(const ObjectiveInput& input, const ObjectiveOptions& options);
BatchStatistics measure(const ObjectiveInput& input, const ObjectiveOptions& options,
                        const TokenScores& scores);

/// All tensors but `loss` are detached; per-sample ones are undefined where the objective has no such thing.
struct ObjectiveOutput {
  at::Tensor loss;  ///< [] differentiable; losses of micro-batches add up to the batch's

  at::Tensor token_log_probs, reference_token_log_probs;  ///< [B, T] 0 where masked
  at::Tensor log_prob, reference_log_prob;                ///< [B] their sums over all unmasked tokens
  at::Tensor reward;       ///< [B] r as the loss sees it (credit and released-code leave tokens out)
  at::Tensor weight;       ///< [B] w; dpo, tpo: the sample's share in the mean over pairs, 0 outside pairs
  at::Tensor lambda;       ///< [B] λ
  /// [B] 1 − v, unweighted (sft: mean cross-entropy of the sample's tokens; dpo, tpo: its pair's loss, NaN outside
  /// pairs)
  at::Tensor sample_loss;

  at::Tensor z0;            ///< [] as used, after clamping
  at::Tensor z0_unclamped;  ///< [] the batch's estimate
  at::Tensor
      z0_standard_error;  ///< [] of the estimate, from the spread between samples; 0 with fewer than two
  at::Tensor z0_clamped;  ///< [] bool
  at::Tensor lambda_desirable;    ///< [] Σ λ over this input's desirable samples
  at::Tensor lambda_undesirable;  ///< [] Σ λ over this input's undesirable samples
  at::Tensor sft_loss;  ///< [] this input's share of the mean cross-entropy; undefined when not computed
  at::Tensor reference_kl;  ///< [] this input's share of the mean KL(reference‖policy) a held token; NaN where none
                            ///< is, undefined without a hold
  at::Tensor num_pairs;        ///< [] this input's pairs; undefined but for dpo and tpo
  at::Tensor preferred_pairs;  ///< [] those of them with R(preferred) > R(rejected)
};

/// The loss of this input as part of the batch that `whole_batch` describes.
///
/// apo, kto: L = Σ_i λ_i σ(∓β(r_i − z0)) / n + sft_weight · L_sft + reference_kl_weight · L_kl with reduction mean, n
/// times that with sum; n are the samples of the whole batch, L_kl the mean KL(reference‖policy) over the tokens of the
/// held samples;  sft: L = L_sft + reference_kl_weight · L_kl, with the mean cross-entropy over the tokens of all
/// desirable samples;  weighted-bc: the same with a weight for each sample;  dpo, tpo: as apo with Σ_pairs
/// −log σ(β(R⁺ − R⁻)) and n pairs (1 if there are none), where R⁺ and R⁻ sum r over the pair's preferred and
/// rejected samples.
///
/// Gradient to policy_logits only; z0, w, λ and the reference are constants.
/// Cost     no device synchronisation except the check of token ids on the CPU.
/// Errors   ConfigError for contradictory options; RunError naming the tensor that is missing or of the wrong
/// shape,
///          type or device; DataError for token ids outside the vocabulary.
/// Source   APO, arXiv 2506.07127; released trainer/ddp_robotic_trainer.py @ f16f05f. DPO, arXiv 2305.18290; TPO,
///          arXiv 2411.19309. L_kl: learning without forgetting, arXiv 1606.09282 (its distillation loss at temperature 1).
/// Differs  docs/objective.md, "Paper, released code, and we".
ObjectiveOutput evaluate(const ObjectiveInput& input, const ObjectiveOptions& options,
                         const BatchStatistics& whole_batch);
ObjectiveOutput evaluate(const ObjectiveInput& input, const ObjectiveOptions& options,
                         const BatchStatistics& whole_batch, const TokenScores& scores);

/// score, measure and evaluate for an input that is the whole batch.
ObjectiveOutput apo_loss(const ObjectiveInput& input, const ObjectiveOptions& options = {});

}  // namespace apo::objective
