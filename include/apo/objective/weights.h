// How much each sample counts: APO's adaptive weights from the policy's own action error.
#pragma once

#include <cstdint>

#include "apo/objective/objective.h"

namespace apo::objective {

struct SampleWeights {
  at::Tensor weight;  ///< [B] float64, w
  at::Tensor lambda;  ///< [B] float64, λ in [0, 1]
};

/// w_i = l_i / Σ_j l_j · B / G over the sample's group, desirable or undesirable, of the whole batch of B
/// samples, with G = `weights.group_size` (0: B); λ_D = 1 − e^{−η_D w}, λ_U = e^{−η_U w}.
///
/// Σ w of a group is then B / G: 1 in each of B / G equal groups of G samples with the batch's mix, whose
/// balance of Σλ_U and Σλ_D is the batch's. A group whose errors are all 0 has equal w, the limit of equal
/// errors. `weights.normalization: mean` scales w by the group's number of samples n instead. `weights.type:
/// uniform` and kto have λ = 1 (and w = 1/n, or 1 with mean). `released-code`: w = (l + 1e-4) / (Σ l + 1e-4).
///
/// Shapes   action_l1 [B];  desirable [B] bool
/// Gradient none.
/// Source   APO, arXiv 2506.07127, adaptive reweighting; released trainer/ddp_robotic_trainer.py @ f16f05f.
/// Differs  the released program normalises in each process's own micro-batch, 8 samples in its settings;
///          here the sums are the whole batch's, and `group_size` gives the same balance with any split into
///          micro-batches and ranks.
SampleWeights sample_weights(const at::Tensor& action_l1, const at::Tensor& desirable,
                             const ObjectiveOptions& options, const BatchStatistics& whole_batch);

/// Σλ_U / Σλ_D of a whole batch of so many samples whose action errors are equal within each group: how much
/// the undesirable ones weigh beside the desirable ones. NaN for objectives without λ and where a group is
/// empty; infinite for η_D = 0.
double expected_balance(const ObjectiveOptions& options, int64_t num_desirable, int64_t num_undesirable);

}  // namespace apo::objective
