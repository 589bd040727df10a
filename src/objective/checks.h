// The checks of tensors at this room's door. None of them waits for a device.
#pragma once

#include <ATen/core/Tensor.h>

#include "apo/base/error.h"
#include "apo/objective/objective.h"

namespace apo::objective {

/// RunError naming the logits unless they are [B, T, V] float32, float64 or bfloat16 with V >= 1 (of logits
/// in pieces what is known before they are made).
void check_logits(const char* name, const Logits& logits);
/// RunError naming the logits unless they are there and have the samples and tokens of `tokens` [B, T], on
/// its device.
void check_same(const char* name, const Logits& logits, const at::Tensor& tokens);
/// RunError naming the tensor unless it has this shape and type and lies on `device`.
void check_like(const char* name, const at::Tensor& tensor, at::IntArrayRef shape, at::ScalarType type,
                at::Device device);
/// Tokens and mask (which may be undefined) of logits; on the CPU, DataError for an unmasked id outside the
/// vocabulary.
void check_labels(const char* tokens_name, const at::Tensor& tokens, const char* mask_name,
                  const at::Tensor& mask, const at::Tensor& logits);

/// The batch with every optional tensor that these options use filled in (masks, end tokens, rolled tokens),
/// after checking all of them against each other and against the logits called `name`, which must be there
/// where they are `needed`: DataError for a token that is none of their vocabulary (on the CPU, where looking
/// costs nothing).
Batch completed(const Batch& batch, const ObjectiveOptions& options, const char* name, const Logits& logits,
                bool needed);
/// RunError or ConfigError unless the reference's scores are there, have the batch's shape, and its logits
/// too where these options compare distributions.
void check_reference(const ReferenceScores& reference, const Batch& batch, const ObjectiveOptions& options);
/// RunError unless `action_l1` is there where the weights need it; what is there must be numbers >= 0, [B].
void check_action_l1(const Batch& batch, const ObjectiveOptions& options);

/// [B, T] which tokens are held to the reference. The batch is complete.
inline at::Tensor held_mask(const Batch& batch) { return batch.mask.bitwise_and(batch.held.unsqueeze(-1)); }

}  // namespace apo::objective
