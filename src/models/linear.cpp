#include "apo/models/linear.h"

#include <ATen/autocast_mode.h>
#include <torch/types.h>

namespace apo::models {

Linear::Linear(int64_t in_features, int64_t out_features, bool with_bias, const at::TensorOptions& options)
    : weight(at::empty({out_features, in_features}, options)) {
  if (with_bias) bias = at::empty({out_features}, options);
}

LinearAdapter* Linear::find(const std::string& slot) {
  for (LinearAdapter& adapter : adapters)
    if (adapter.slot == slot) return &adapter;
  return nullptr;
}

const LinearAdapter* Linear::find(const std::string& slot) const {
  return const_cast<Linear*>(this)->find(slot);
}

at::Tensor Linear::operator()(const at::Tensor& input) const { return rows(input, 0, weight.size(0)); }

at::Tensor Linear::rows(const at::Tensor& input, int64_t begin, int64_t end) const {
  const bool whole = begin == 0 && end == weight.size(0);
  const auto part = [&](const at::Tensor& tensor) {
    return whole || !tensor.defined() ? tensor : tensor.slice(0, begin, end);
  };
  const at::Tensor kernel = part(weight.dim() == 2 ? weight : weight.flatten(1)), shift = part(bias);
  const auto in_type = [&](const at::Tensor& tensor) {
    return at::autocast::is_autocast_enabled(input.device().type()) ? tensor : tensor.to(input.scalar_type());
  };
  const at::Tensor output =
      at::linear(input, in_type(kernel), shift.defined() ? std::optional(in_type(shift)) : std::nullopt);
  if (adapters.empty() || slots == nullptr || slots->active().empty()) return output;
  const LinearAdapter* adapter = find(slots->active());
  if (adapter == nullptr) return output;
  at::Tensor x = input.to(adapter->a.scalar_type());
  const double dropout = slots->options(adapter->slot).dropout;
  if (dropout > 0 && slots->training()) x = at::dropout(x, dropout, /*train=*/true);
  const at::Tensor update = at::linear(at::linear(x, adapter->a), part(adapter->b));
  return at::add(output, update.to(output.scalar_type()), adapter->scale);
}

at::Tensor adapter_product(const LinearAdapter& adapter) {
  const at::NoGradGuard no_grad;
  return at::matmul(adapter.b.to(at::kFloat), adapter.a.to(at::kFloat)) * adapter.scale;
}

}  // namespace apo::models
