// The loss of dpo and tpo: the preferred side of each pair against its rejected side.
#pragma once

#include "apo/objective/objective.h"

namespace apo::objective {

/// Which of a batch's pairs have both sides, [B] bool with place p for pair p (false where there is no pair
/// p).
at::Tensor whole_pairs(const Batch& batch);

/// Σ_pairs −log σ(β(R⁺ − R⁻)) over this batch's pairs, whatever `reduction` says; R± = Σ r of the side's
/// samples. Fills in reward, weight, lambda, sample_loss, lambda_*, num_pairs and preferred_pairs. `reward`
/// is r, [B].
at::Tensor pair_loss(const Batch& batch, const ObjectiveOptions& options, const BatchStatistics& whole_batch,
                     const at::Tensor& reward, ObjectiveOutput& out);

}  // namespace apo::objective
