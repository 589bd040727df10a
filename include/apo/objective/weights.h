// How much each sample counts: APO's adaptive weights from the policy's own action error.
#pragma once

#include "apo/objective/objective.h"

namespace apo::objective {

struct SampleWeights {
  at::Tensor weight;  ///< [B] float64, w
  at::Tensor lambda;  ///< [B] float64, λ in [0, 1]
};

/// w_i = l_i / Σ_j l_j over the sample's group, desirable or undesirable, of the whole batch; λ_D = 1 −
/// e^{−η_D w}, λ_U = e^{−η_U w}.
///
/// A group whose errors are all 0 has w = 1/n, the limit of equal errors. `weights.normalization: mean`
/// scales w by the group's size n. `weights.type: uniform` and kto have λ = 1. `released-code`: w = (l +
/// 1e-4) / (Σ l + 1e-4).
///
/// Shapes   action_l1 [B];  desirable [B] bool
/// Gradient none.
SampleWeights sample_weights(const at::Tensor& action_l1, const at::Tensor& desirable,
                             const ObjectiveOptions& options, const BatchStatistics& whole_batch);

}  // namespace apo::objective
