// Adapters in the type that their base multiplies in.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <cstdint>

#include "apo/models/linear.h"

namespace apo::models {

/// An adapter in another type, times its scale, and the numbers that it was made of.
struct AdapterCast {
  at::Tensor a, b;        ///< scale · A, scale · B
  at::Tensor of_a, of_b;  ///< the adapter's own tensors
  int64_t version_of_a = 0, version_of_b = 0;
};

/// The adapter of `layer` as `type`, times its scale. Kept between calls: where its numbers changed since
/// (their version counters tell), those of all layers in that slot are cast together, in a few operations
/// however many they are.
const AdapterCast& cast_adapter(const Linear& layer, const LinearAdapter& adapter, at::ScalarType type);

}  // namespace apo::models
