// z0, what a reward must exceed to count as an improvement: an estimate of KL(π_θ‖π_ref) on the batch.
#pragma once

#include "apo/objective/objective.h"

namespace apo::objective {

/// The terms of z0, before they are averaged over the batch's samples.
///
/// shifted-labels  log π(y'_t | o, y_<t) − log π_ref(same): the next sample's labels y' on this sample's logits,
///                 as in the released code; no further forward, but only the first token is a true conditional
/// mismatched      log π(y'_t | o, y'_<t) − log π_ref(same): KTO's, from logits teacher-forced on y'
/// exact           Σ_v π_v (log π_v − log π_ref,v): the KL of each token's distribution, never negative
/// none            undefined
///
/// Shapes   returns [B, T], 0 where masked, also at the end token with `compatibility: released-code`
/// Gradient none.
at::Tensor kl_terms(const ObjectiveInput& input, const ObjectiveOptions& options);

struct KlBaseline {
  at::Tensor z0, unclamped, standard_error;  ///< [] float64
  at::Tensor clamped;                        ///< [] bool
};
/// z0 = clamp(mean over samples of Σ_t kl_terms, kl_min, kl_max); for kto max(0, mean); 0 for "none".
KlBaseline kl_baseline(const ObjectiveOptions& options, const BatchStatistics& whole_batch);

}  // namespace apo::objective
