// What z0's terms are made of, shared by the plain definition (kl_terms) and the fused pass (score).
#pragma once

#include "apo/objective/objective.h"

namespace apo::objective {

/// The released code reads the end token in desirable rewards only: neither in z0 nor in undesirable rewards.
bool drops_end_token(const ObjectiveOptions& options);
/// [B, T] bool: which of the next sample's tokens z0 counts. The input is complete.
at::Tensor counted_mismatched(const ObjectiveInput& input, const ObjectiveOptions& options);
/// [B, T], the reference's half of kl_terms, log π_ref(y'_t | ...), for shifted-labels and mismatched; undefined
/// otherwise. The input is complete. Without gradient.
at::Tensor reference_kl_terms(const ObjectiveInput& input, const ObjectiveOptions& options);

}  // namespace apo::objective
