#include "models/adapters/adapter_cast.h"

#include <torch/types.h>

#include "apo/base/error.h"

namespace apo::models {
namespace {

bool is_current(const LinearAdapter& adapter, at::ScalarType type) {
  const AdapterCast* cast = adapter.cast.get();
  return cast != nullptr && cast->a.scalar_type() == type && cast->of_a.is_same(adapter.a) &&
         cast->of_b.is_same(adapter.b) && cast->version_of_a == adapter.a._version() &&
         cast->version_of_b == adapter.b._version();
}

// New tensors, not the old ones overwritten: a graph may still hold those.
void cast_slot(const AdapterSlots& slots, const std::string& slot, at::ScalarType type) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> numbers, casts;
  std::vector<at::Scalar> scales;
  for (const auto& [name, linear] : slots.layers()) {
    const LinearAdapter* adapter = linear->find(slot);
    if (adapter == nullptr || adapter->stays_zero() || is_current(*adapter, type)) continue;
    adapter->cast = std::make_shared<AdapterCast>(AdapterCast{.a = at::empty_like(adapter->a, type),
                                                              .b = at::empty_like(adapter->b, type),
                                                              .of_a = adapter->a,
                                                              .of_b = adapter->b,
                                                              .version_of_a = adapter->a._version(),
                                                              .version_of_b = adapter->b._version()});
    numbers.insert(numbers.end(), {adapter->a, adapter->b});
    casts.insert(casts.end(), {adapter->cast->a, adapter->cast->b});
    scales.insert(scales.end(), 2, adapter->scale);
  }
  at::_foreach_copy_(casts, at::_foreach_mul(numbers, scales));
}

}  // namespace

const AdapterCast& cast_adapter(const Linear& layer, const LinearAdapter& adapter, at::ScalarType type) {
  APO_ASSERT(layer.slots != nullptr);
  if (!is_current(adapter, type)) cast_slot(*layer.slots, adapter.slot, type);
  APO_ASSERT(is_current(adapter, type));
  return *adapter.cast;
}

}  // namespace apo::models
