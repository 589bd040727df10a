// One batch through policy, reference and objective: gradients on the policy's parameters, numbers for the
// logs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "apo/data/dataset.h"
#include "apo/distributed/group.h"
#include "apo/models/policy.h"
#include "apo/objective/objective.h"
#include "training/batch_outcome.h"
#include "training/reference_scorer.h"

namespace apo::training {

/// Runs batches in micro-batches whose gradients add up to the whole batch's.
///
/// z0 and the weights of a sample depend on the whole batch. With several micro-batches they are therefore
/// measured first in a pass without gradient, with the same dropout as the second; of the reference are kept
/// in between its token scores and, where distributions are compared, its logits. The whole batch at once
/// needs one pass.
///
/// Dropout, where it is on, falls on the same units of policy and reference: equal policies have rewards of
/// 0.
///
/// Of several ranks each runs its share of the batch, the outermost micro-batch, whose pictures it alone
/// needs; actions and labels are known to all. Statistics, gradients and outcome are sums over the ranks and
/// equal bit for bit on all of them. All ranks call the members in step.
///
/// A pair is never split: for dpo and tpo a micro-batch ends between pairs, and is larger than asked for
/// where one pair alone is.
///
/// Gradient adds to the `grad` of the policy's trainable parameters.
/// Numeric  micro-batches, of one rank or several, equal the whole batch to float32 rounding (without
///          dropout).
class Learner {
 public:
  /// `reference` may be null where the objective needs none. `bfloat16`: the networks run under autocast,
  /// log-probs, losses and weights stay float32. `group`: the ranks; null: alone.
  Learner(models::Policy& policy, ReferenceScorer* reference, const objective::ObjectiveOptions& options,
          int64_t micro_batch_size, bool bfloat16, const distributed::Group* group = nullptr);

  /// Which of the samples of a batch this rank needs the observations of. Thread-safe.
  std::vector<bool> wanted(const std::vector<data::Sample>& samples) const;

  /// The samples' pictures are moved out. For dpo and tpo `samples` are put in the order of their pairs, and
  /// for dpo the rejected action of each pair is added as a sample of its own (training/pairs.h); the outcome
  /// has their order. `position`: of the batch in the run, for references that go by it. Bug without the
  /// reference that the objective needs.
  BatchOutcome learn(std::vector<data::Sample>& samples, int64_t position = -1);

  /// What `learn` would read of `reference` for these samples and those that it adds, [B, T] of all ranks on
  /// the policy's device. The samples become as in `learn`. Bug for objectives that compare whole
  /// distributions.
  objective::ReferenceScores reference_scores(std::vector<data::Sample>& samples,
                                              ReferenceScorer& reference) const;

 private:
  struct Prepared;
  struct MicroBatch;
  Prepared prepare(std::vector<data::Sample>& samples, bool with_keys) const;
  std::vector<MicroBatch> split(const Prepared& whole, int64_t position) const;
  objective::ScoredBatch score_policy(const MicroBatch& batch, objective::Reading reading,
                                      int64_t* num_clamped_tokens = nullptr);
  bool drops_out() const;
  void score_reference(MicroBatch& batch, bool policy_follows);
  objective::BatchStatistics first_pass(std::vector<MicroBatch>& batches);

  models::Policy& policy_;
  ReferenceScorer* reference_;
  objective::ObjectiveOptions options_;
  int64_t micro_batch_size_;
  bool bfloat16_;
  const distributed::Group& group_;
};

}  // namespace apo::training
