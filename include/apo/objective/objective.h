// The objective: recorded actions with binary labels in, one differentiable loss out. Tensors only: no files,
// models, clocks or ranks.
//
//   auto scored = score(batch, options, policy, reference);   // reads the logits, once and piece by piece
//   BatchStatistics whole = measure(scored);                  // += over micro-batches and ranks
//   ObjectiveOutput out = evaluate(scored, whole);
//   out.loss.backward();                                      // micro-batches' losses add up
//
// Nothing but `score` and `reference_scores` sees the vocabulary. With logits at hand, `apo_loss` does all of
// it.
// Formulas and options: docs/objective.md.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "apo/base/logits.h"
#include "apo/objective/options.h"

namespace apo::objective {

/// One (micro-)batch of B samples with T action-token positions each, on any one device: all but what
/// policies say of it.
struct Batch {
  at::Tensor tokens{};     ///< [B, T] int64, the recorded action's tokens (teacher-forced)
  at::Tensor mask{};       ///< [B, T] bool, the positions that count; undefined: all
  at::Tensor end_token{};  ///< [B, T] bool, which of them is the end token; undefined: none
  at::Tensor desirable{};  ///< [B] bool; undefined for sft: all
  /// [B] bool, where `reference_kl_weight` holds the policy to the reference; undefined: desirable
  at::Tensor held{};
  at::Tensor action_l1{};         ///< [B] float, l_i: mean |greedy − recorded| action, in normalised units
  at::Tensor dimension_credit{};  ///< [B, T] float in [0, 1] for `credit: dimension`; undefined: all 1
  at::Tensor sample_weight{};     ///< [B] float >= 0 for type weighted-bc
  /// For dpo and tpo: samples with the same number 0..B-1 form a pair, the desirable ones its preferred side,
  /// the others its rejected side; -1: in no pair. All samples of a pair must be in one batch.
  at::Tensor pair{};  ///< [B] int64

  /// The next sample's tokens, y'_i = y_{i+1}, rolled over the whole batch by the trainer, for z0
  /// "shifted-labels" and "mismatched". Undefined for shifted-labels: rolled within this batch.
  at::Tensor mismatched_tokens{};     ///< [B, T] int64
  at::Tensor mismatched_mask{};       ///< [B, T] bool; undefined: all
  at::Tensor mismatched_end_token{};  ///< [B, T] bool; undefined: `end_token`

  /// Vocabulary ids of the action bins, needed with label_smoothing_bins > 0.
  int64_t first_action_token = 0, last_action_token = -1;

  /// Samples [begin, end). Pairs keep their numbers.
  Batch slice(int64_t begin, int64_t end) const;
};

/// What is read of a policy's logits. Masked positions are 0.
struct TokenScores {
  /// [B, T] token log-probs (of smoothed labels with label_smoothing_bins), differentiable
  at::Tensor policy;
  at::Tensor reference;  ///< [B, T] the same under the reference; undefined where no reference is needed
  /// [B, T] KL(reference‖policy), differentiable, 0 where not held; undefined without a hold
  at::Tensor reference_kl;
  at::Tensor z0_terms;  ///< [B, T] what z0 averages, detached; undefined where there is no z0
  /// [B, T] int64, the most likely token: of the action bins, or (released-code) of all
  at::Tensor greedy;
};

/// What is read of the reference's logits.
struct ReferenceScores {
  at::Tensor tokens{};      ///< [B, T] nats, of the recorded tokens; 0 where masked
  at::Tensor mismatched{};  ///< [B, T] of the next sample's; undefined where z0 does not read them
  Logits logits{};          ///< kept only for z0 "exact" and the hold, which compare whole distributions
};
/// Without gradient. Errors as `score`.
ReferenceScores reference_scores(const Batch& batch, const ObjectiveOptions& options, const Score& reference);

/// A batch that was checked, with every optional tensor filled in, and what its policies say of it.
struct ScoredBatch {
  Batch batch;
  ObjectiveOptions options;
  TokenScores scores;
};
/// What is wanted of the logits.
struct Reading {
  bool loss = true;        ///< what `evaluate` takes
  bool statistics = true;  ///< what `measure` takes
  bool greedy = false;     ///< TokenScores::greedy
};
/// Reads the policy's logits. `reference` may be empty where the objective needs none, and so may be what
/// nothing reads. `action_l1` may follow, in the result's batch: it depends on the greedy tokens.
///
/// Errors   ConfigError for contradictory options; RunError naming the tensor that is missing or of the wrong
///          shape, type or device; DataError for token ids outside the vocabulary (on the CPU).
ScoredBatch score(const Batch& batch, const ObjectiveOptions& options, const Score& policy,
                  const ReferenceScores& reference, Reading reading = {});

/// Sums over a batch that the loss of each of its samples depends on. Additive: `a += b` is the batch of
/// both, and a sum over ranks of `sums` is the batch of all ranks.
struct BatchStatistics {
  enum Index : int64_t {
    num_desirable,          ///< samples
    num_undesirable,        ///< samples
    action_l1_desirable,    ///< Σ l_i
    action_l1_undesirable,  ///< Σ l_i
    z0_sum,                 ///< Σ over samples of their z0 terms
    z0_square_sum,          ///< Σ of their squares
    z0_count,               ///< samples in them
    sft_tokens,             ///< tokens that are imitated (weighted-bc: Σ of their weights)
    num_pairs,              ///< pairs that have both sides
    held_tokens,            ///< tokens that are held to the reference
    kSize
  };
  at::Tensor sums{};  ///< [kSize] float64, on the batch's device; undefined: an empty batch

  BatchStatistics& operator+=(const BatchStatistics& other);
  /// One of the sums, 0-dimensional; the sums must be defined.
  at::Tensor operator[](Index index) const;
};
/// The statistics of this batch alone. No gradient, no device synchronisation. RunError without an
/// `action_l1` that the weights need.
BatchStatistics measure(const ScoredBatch& scored);

/// All tensors but `loss` are detached; per-sample ones are undefined where the objective has no such thing.
struct ObjectiveOutput {
  at::Tensor loss;  ///< [] differentiable; losses of micro-batches add up to the batch's

  at::Tensor token_log_probs, reference_token_log_probs;  ///< [B, T] 0 where masked
  at::Tensor log_prob, reference_log_prob;                ///< [B] their sums over all unmasked tokens
  at::Tensor reward;  ///< [B] r as the loss sees it (credit and released-code leave tokens out)
  at::Tensor weight;  ///< [B] w; dpo, tpo: the sample's share in the mean over pairs, 0 outside pairs
  at::Tensor lambda;  ///< [B] λ
  /// [B] 1 − v, unweighted (sft: mean cross-entropy of the sample's tokens; dpo, tpo: its pair's loss, NaN
  /// outside pairs)
  at::Tensor sample_loss;

  at::Tensor z0;            ///< [] as used, after clamping
  at::Tensor z0_unclamped;  ///< [] the batch's estimate
  /// [] of the estimate, from the spread between samples; 0 with fewer than two
  at::Tensor z0_standard_error;
  at::Tensor z0_clamped;          ///< [] bool
  at::Tensor lambda_desirable;    ///< [] Σ λ over this batch's desirable samples
  at::Tensor lambda_undesirable;  ///< [] Σ λ over this batch's undesirable samples
  at::Tensor sft_loss;  ///< [] this batch's share of the mean cross-entropy; undefined when not computed
  /// [] this batch's share of the mean KL(reference‖policy) a held token; NaN where none is, undefined
  /// without a hold
  at::Tensor reference_kl;
  at::Tensor num_pairs;        ///< [] this batch's pairs; undefined but for dpo and tpo
  at::Tensor preferred_pairs;  ///< [] those of them with R(preferred) > R(rejected)
};

/// The loss of this batch as part of the one that `whole_batch` describes.
///
/// apo, kto     L = Σ_i λ_i σ(∓β(r_i − z0)) / n + sft_weight · L_sft + reference_kl_weight · L_kl with
///              reduction mean, n times that with sum; n: samples of the whole batch, L_kl: mean
///              KL(reference‖policy) over the tokens of the held samples
/// sft          L = L_sft + reference_kl_weight · L_kl; L_sft: mean cross-entropy over the tokens of all
///              desirable samples
/// weighted-bc  the same with a weight for each sample
/// dpo, tpo     as apo with Σ_pairs −log σ(β(R⁺ − R⁻)) and n pairs (1 if there are none); R⁺, R⁻ sum r over
///              the pair's preferred and rejected samples
///
/// Gradient to what the policy's logits were made of; z0, w, λ and the reference are constants.
/// Cost     no device synchronisation.
/// Errors   RunError for statistics that are none, or without an `action_l1` that the weights need.
/// Source   APO, arXiv 2506.07127; released trainer/ddp_robotic_trainer.py @ f16f05f. DPO, arXiv 2305.18290;
///          TPO, arXiv 2411.19309. L_kl: learning without forgetting, arXiv 1606.09282 (its distillation loss
///          at temperature 1).
/// Differs  docs/objective.md, "Paper, released code, and we".
ObjectiveOutput evaluate(const ScoredBatch& scored, const BatchStatistics& whole_batch);

/// A batch with its logits, for those who have them in tensors.
struct ObjectiveInput : Batch {
  at::Tensor policy_logits{};  ///< [B, T, V] float32, float64 or bfloat16; the gradient flows here
  /// [B, T, V] same type, no gradient; undefined where no reference is needed
  at::Tensor reference_logits{};
  /// [B, T, V] teacher-forced on mismatched_tokens, z0 "mismatched" only
  at::Tensor mismatched_policy_logits{};
  at::Tensor mismatched_reference_logits{};  ///< [B, T, V]
};
ScoredBatch score(const ObjectiveInput& input, const ObjectiveOptions& options, Reading reading = {});
BatchStatistics measure(const ObjectiveInput& input, const ObjectiveOptions& options);
ObjectiveOutput evaluate(const ObjectiveInput& input, const ObjectiveOptions& options,
                         const BatchStatistics& whole_batch);
/// score, measure and evaluate for an input that is the whole batch.
ObjectiveOutput apo_loss(const ObjectiveInput& input, const ObjectiveOptions& options = {});

}  // namespace apo::objective
