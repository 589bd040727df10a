// The small parts that networks are made of, and the one walk over them. Plain structs: tensors and their
// formula.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apo/models/linear.h"
#include "apo/models/policy.h"

namespace apo::models {

/// Walks a network: each part names its members once in `visit(LayerVisitor&)`, and counting, initialising,
/// loading, saving and adapting follow. Tensors come by reference, so that a walk may replace them
/// (memory-mapped weights).
class LayerVisitor {
 public:
  virtual ~LayerVisitor() = default;

  void operator()(std::string_view name, at::Tensor& value) {
    if (value.defined()) parameter(prefix_ + std::string(name), value);
  }
  void operator()(std::string_view name, Linear& layer) { linear(prefix_ + std::string(name), layer); }
  template <class Layer>
  void operator()(std::string_view name, Layer& layer) {
    const std::string before = prefix_;
    prefix_ += std::string(name) + ".";
    layer.visit(*this);
    prefix_ = before;
  }
  template <class Layer>
  void operator()(std::string_view name, std::vector<Layer>& layers) {
    for (size_t i = 0; i < layers.size(); ++i)
      (*this)(std::string(name) + "." + std::to_string(i), layers[i]);
  }

 protected:
  virtual void parameter(const std::string& name, at::Tensor& value) = 0;
  virtual void linear(const std::string& name, Linear& layer) {
    if (layer.is_quantized()) {
      parameter(name + ".weight.codes", layer.quantized.codes);
      parameter(name + ".weight.scales", layer.quantized.scales);
    } else {
      parameter(name + ".weight", layer.weight);
    }
    if (layer.bias.defined()) parameter(name + ".bias", layer.bias);
  }

 private:
  std::string prefix_;
};

/// Which tensors of a network `collect_parameters` returns.
enum class ParameterKind { base, base_and_adapters };

/// Makes a list of parameters out of a walk; adapters follow their layer as "<layer>.lora_A.<slot>.weight".
class ParameterList final : public LayerVisitor {
 public:
  explicit ParameterList(ParameterKind kind) : kind_(kind) {}
  NamedTensors take() { return std::move(list_); }

 protected:
  void parameter(const std::string& name, at::Tensor& value) override;
  void linear(const std::string& name, Linear& layer) override;

 private:
  ParameterKind kind_;
  NamedTensors list_;
};

template <class Network>
NamedTensors collect_parameters(Network& network, ParameterKind kind) {
  ParameterList list(kind);
  network.visit(list);
  return list.take();
}

/// Attaches every linear layer of a walk to adapter slots.
class SlotAttacher final : public LayerVisitor {
 public:
  explicit SlotAttacher(AdapterSlots& slots) : slots_(slots) {}

 protected:
  void parameter(const std::string&, at::Tensor&) override {}
  void linear(const std::string& name, Linear& layer) override { slots_.attach(name, layer); }

 private:
  AdapterSlots& slots_;
};

/// Layer normalisation over the last dimension.
struct LayerNorm {
  LayerNorm(int64_t width, double epsilon, const at::TensorOptions& options);
  at::Tensor operator()(const at::Tensor& x) const;
  void visit(LayerVisitor& v);

  at::Tensor weight, bias;  // [width]
  double epsilon;
};

/// A 2-D convolution with bias and a square kernel.
struct Convolution {
  Convolution(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t padding,
              const at::TensorOptions& options);
  at::Tensor operator()(const at::Tensor& x) const;
  void visit(LayerVisitor& v);

  at::Tensor weight, bias;  // [out, in, kernel, kernel], [out]
  int64_t stride, padding;
};

/// A pre-norm transformer block: attention over heads, then a GELU layer of four times the width.
struct Block {
  /// Queries, keys and values, [B, heads, T, width / heads] each.
  struct Heads {
    at::Tensor query, key, value;
  };

  Block(int64_t width, int64_t heads, const at::TensorOptions& options);
  Heads project(const at::Tensor& x) const;
  /// What the block adds to `x` [B, T, width] after attention gave `attended` [B, heads, T, width / heads].
  at::Tensor finish(const at::Tensor& x, const at::Tensor& attended) const;
  void visit(LayerVisitor& v);

  int64_t heads;
  LayerNorm norm1;
  Linear qkv, out;
  LayerNorm norm2;
  Linear fc1, fc2;
};

}  // namespace apo::models
