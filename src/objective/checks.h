// The checks of tensors at this room's door. None of them waits for a device.
#pragma once

#include <ATen/core/Tensor.h>

#include "apo/base/error.h"
#include "apo/objective/objective.h"

namespace apo::objective {

/// RunError naming the tensor unless it is [B, T, V] float32, float64 or bfloat16 with V >= 1.
void check_logits(const char* name, const at::Tensor& logits);
/// RunError naming the tensor unless it has this shape and type and lies on `beside`'s device.
void check_like(const char* name, const at::Tensor& tensor, at::IntArrayRef shape, at::ScalarType type,
                const at::Tensor& beside);
/// The same for any floating-point type.
void check_floating(const char* name, const at::Tensor& tensor, at::IntArrayRef shape,
                    const at::Tensor& beside);
/// Tokens and mask (which may be undefined) of logits; on the CPU, DataError for an unmasked id outside the
/// vocabulary.
void check_labels(const char* tokens_name, const at::Tensor& tokens, const char* mask_name,
                  const at::Tensor& mask, const at::Tensor& logits);

/// The input with every optional tensor that these options use filled in (masks, end tokens, rolled tokens),
/// after checking all of them.
ObjectiveInput completed(const ObjectiveInput& input, const ObjectiveOptions& options);

}  // namespace apo::objective
