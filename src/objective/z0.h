// z0, what a reward must exceed to count as an improvement: an estimate of KL(π_θ‖π_ref) on the batch.
//
// Its terms, [B, T] before they are averaged over the batch's samples (TokenScores::kl; 0 where masked, also
// at the end token with `compatibility: released-code`):
//   shifted-labels  log π(y'_t | o, y_<t) − log π_ref(same): the next sample's labels y' on this sample's
//                   logits, as in the released code; no further forward, but only the first token is a true
//                   conditional
//   mismatched      log π(y'_t | o, y'_<t) − log π_ref(same): KTO's, from logits teacher-forced on y'
//   exact           Σ_v π_v (log π_v − log π_ref,v): the KL of each token's distribution, never negative
//   none            no terms
#pragma once

#include "apo/objective/objective.h"

namespace apo::objective {

struct Z0 {
  at::Tensor value, unclamped, standard_error;  ///< [] float64
  at::Tensor clamped;                           ///< [] bool
};
/// z0 = clamp(mean over samples of Σ_t of their terms, kl_min, kl_max); for kto max(0, mean); 0 for "none".
Z0 z0_of(const ObjectiveOptions& options, const BatchStatistics& whole_batch);

}  // namespace apo::objective
