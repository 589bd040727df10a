// Networks copied whole, for policies that clone themselves.
#pragma once

#include <torch/types.h>

#include "apo/base/error.h"
#include "models/sequence/layers.h"

namespace apo::models {

/// Replaces every tensor of a walk by what `values` holds in the same order.
class TensorReplacer final : public LayerVisitor {
 public:
  explicit TensorReplacer(NamedTensors values) : values_(std::move(values)) {}

 protected:
  void parameter(const std::string& name, at::Tensor& value) override {
    APO_ASSERT(next_ < values_.size() && values_[next_].first == name);
    value = values_[next_++].second;
  }

 private:
  NamedTensors values_;
  size_t next_ = 0;
};

/// The linear layers of a walk.
class LinearList final : public LayerVisitor {
 public:
  std::vector<Linear*> layers;

 protected:
  void parameter(const std::string&, at::Tensor&) override {}
  void linear(const std::string&, Linear& layer) override { layers.push_back(&layer); }
};

/// Gives `target` copies of the base weights of `source`, a network of the same shape.
template <class Network>
void copy_weights(Network& source, Network& target) {
  LinearList from, to;
  source.visit(from);
  target.visit(to);
  for (size_t i = 0; i < from.layers.size(); ++i) {
    if (!from.layers[i]->is_quantized()) continue;
    to.layers[i]->quantized = from.layers[i]->quantized;  // copied below, as the rest
    to.layers[i]->weight = from.layers[i]->weight;
  }
  NamedTensors values = collect_parameters(source, ParameterKind::base);
  const at::NoGradGuard no_grad;
  for (auto& [name, tensor] : values) {
    const bool requires_grad = tensor.requires_grad();
    tensor = tensor.clone().set_requires_grad(requires_grad);
  }
  TensorReplacer replace(std::move(values));
  target.visit(replace);
}

/// Gives `target`, without slots yet, copies of every adapter, the active slot and the mode of `source`.
void copy_slots(const AdapterSlots& source, AdapterSlots& target);

}  // namespace apo::models
