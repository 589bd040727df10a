#include "apo/models/linear.h"

#include <ATen/autocast_mode.h>
#include <torch/types.h>

#include "models/adapters/adapter_cast.h"
#include "models/sequence/product.h"
#include "models/sequence/quantized.h"

namespace apo::models {

Linear::Linear(int64_t in_features, int64_t out_features, bool with_bias, const at::TensorOptions& options)
    : weight(at::empty({out_features, in_features}, options)) {
  if (with_bias) bias = at::empty({out_features}, options);
}

bool LinearAdapter::stays_zero() const {
  return was_zero && !b.requires_grad() && version_looked_at == b._version();
}

LinearAdapter* Linear::find(const std::string& slot) {
  for (LinearAdapter& adapter : adapters)
    if (adapter.slot == slot) return &adapter;
  return nullptr;
}

const LinearAdapter* Linear::find(const std::string& slot) const {
  return const_cast<Linear*>(this)->find(slot);
}

at::Tensor Linear::plain_weight() const {
  return is_quantized() ? decoded(quantized, weight.scalar_type()) : weight;
}

at::Tensor Linear::operator()(const at::Tensor& input) const { return rows(input, 0, weight.size(0)); }

at::Tensor Linear::rows(const at::Tensor& given, int64_t begin, int64_t end) const {
  const at::DeviceType on = given.device().type();
  const bool autocast = at::autocast::is_autocast_enabled(on);
  const at::Tensor input =
      is_quantized() && autocast ? given.to(at::autocast::get_autocast_dtype(on)) : given;
  const bool whole = begin == 0 && end == weight.size(0);
  const auto part = [&](const at::Tensor& tensor) { return whole ? tensor : tensor.slice(0, begin, end); };
  const auto in_type = [&](const at::Tensor& tensor) {
    return autocast && !is_quantized() ? tensor : tensor.to(input.scalar_type());
  };
  BaseWeight base;
  if (is_quantized())
    base.quantized = whole ? quantized : rows_of(quantized, begin, end);
  else
    base.plain = in_type(part(weight.dim() == 2 ? weight : weight.flatten(1)));
  std::optional<at::Tensor> shift;
  if (bias.defined()) shift = in_type(part(bias));
  const LinearAdapter* adapter = adapters.empty() || slots == nullptr ? nullptr : find(slots->active());
  const double dropout = adapter != nullptr && slots->training() ? slots->options(adapter->slot).dropout : 0;

  LowRank update;
  if (adapter != nullptr && dropout == 0) {
    update = {adapter->a, part(adapter->b), adapter->scale, {}, {}, adapter->stays_zero()};
    const at::ScalarType type = is_quantized() ? input.scalar_type() : base.plain.scalar_type();
    if (!update.stays_zero && adapter->a.scalar_type() == at::kFloat && at::isReducedFloatingType(type) &&
        type == input.scalar_type()) {
      const AdapterCast& cast = cast_adapter(*this, *adapter, input.scalar_type());
      update.scaled_a = cast.a;
      update.scaled_b = part(cast.b);
    }
  }
  const bool fused = can_fuse(input, base, shift, update);
  const bool is_zero = update.stays_zero;
  if (is_quantized() && !fused) update = {};
  const at::Tensor output = fused || is_quantized() ? adapted_product(input, base, shift, update)
                                                    : at::linear(input, base.plain, shift);
  if (adapter == nullptr || is_zero || (fused && update.a.defined())) return output;

  at::Tensor x = input.to(adapter->a.scalar_type());
  if (dropout > 0) x = at::dropout(x, dropout, /*train=*/true);
  const at::Tensor added = at::linear(at::linear(x, adapter->a), part(adapter->b));
  return at::add(output, added.to(output.scalar_type()), adapter->scale);
}

at::Tensor adapter_product(const LinearAdapter& adapter) {
  const at::NoGradGuard no_grad;
  return at::matmul(adapter.b.to(at::kFloat), adapter.a.to(at::kFloat)) * adapter.scale;
}

}  // namespace apo::models
