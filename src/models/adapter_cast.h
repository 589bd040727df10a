// Adapters in the type that their base multiplies in.
#pragma once

#include <c10/core/ScalarType.h>

#include "apo/models/linear.h"

namespace apo::models {

/// The adapter of `layer` as `type`, times its scale. Kept between calls: where its numbers changed since (their version
/// counters tell), those of all layers in that slot are cast together, in a few operations however many they are.
const AdapterCast& cast_adapter(const Linear& layer, const LinearAdapter& adapter, at::ScalarType type);

}  // namespace apo::models
