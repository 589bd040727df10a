#include "models/sequence/layers.h"

#include <torch/types.h>

#include <array>

namespace apo::models {

void ParameterList::parameter(const std::string& name, at::Tensor& value) { list_.emplace_back(name, value); }

void ParameterList::linear(const std::string& name, Linear& layer) {
  LayerVisitor::linear(name, layer);
  if (kind_ == ParameterKind::base) return;
  for (const LinearAdapter& adapter : layer.adapters) {
    list_.emplace_back(name + ".lora_A." + adapter.slot + ".weight", adapter.a);
    list_.emplace_back(name + ".lora_B." + adapter.slot + ".weight", adapter.b);
  }
}

LayerNorm::LayerNorm(int64_t width, double epsilon, const at::TensorOptions& options)
    : weight(at::empty({width}, options)), bias(at::empty({width}, options)), epsilon(epsilon) {}

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
  return at::layer_norm(x, weight.sizes(), weight, bias, epsilon);
}

void LayerNorm::visit(LayerVisitor& v) {
  v("weight", weight);
  v("bias", bias);
}

Convolution::Convolution(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t padding,
                         const at::TensorOptions& options)
    : weight(at::empty({out, in, kernel, kernel}, options)),
      bias(at::empty({out}, options)),
      stride(stride),
      padding(padding) {}

at::Tensor Convolution::operator()(const at::Tensor& x) const {
  // of both sides, as PyTorch's profiler wants it to count the work
  const std::array<int64_t, 2> strides = {stride, stride}, paddings = {padding, padding}, dilation = {1, 1};
  return at::conv2d(x, weight, bias, strides, paddings, dilation);
}

void Convolution::visit(LayerVisitor& v) {
  v("weight", weight);
  v("bias", bias);
}

Block::Block(int64_t width, int64_t heads, const at::TensorOptions& options)
    : heads(heads),
      norm1(width, 1e-5, options),
      qkv(width, 3 * width, /*with_bias=*/false, options),
      out(width, width, /*with_bias=*/false, options),
      norm2(width, 1e-5, options),
      fc1(width, 4 * width, /*with_bias=*/true, options),
      fc2(4 * width, width, /*with_bias=*/true, options) {}

Block::Heads Block::project(const at::Tensor& x) const {
  const int64_t batch = x.size(0), length = x.size(1), width = x.size(2);
  const at::Tensor joint =
      qkv(norm1(x)).view({batch, length, 3, heads, width / heads}).permute({2, 0, 3, 1, 4});
  const auto parts = joint.unbind(0);
  return {parts[0], parts[1], parts[2]};
}

at::Tensor Block::finish(const at::Tensor& x, const at::Tensor& attended) const {
  const at::Tensor y = x + out(attended.transpose(1, 2).reshape(x.sizes()));
  return y + fc2(at::gelu(fc1(norm2(y))));
}

void Block::visit(LayerVisitor& v) {
  v("norm1", norm1);
  v("qkv", qkv);
  v("out", out);
  v("norm2", norm2);
  v("fc1", fc1);
  v("fc2", fc2);
}

}  // namespace apo::models
