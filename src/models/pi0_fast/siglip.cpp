#include "models/pi0_fast/siglip.h"

#include <torch/types.h>

#include <array>

#include "base/checkpointed.h"

namespace apo::models {
namespace {

constexpr double kEpsilon = 1e-6;

}  // namespace

SiglipLayer::SiglipLayer(const SiglipShape& shape, const at::TensorOptions& options)
    : heads(shape.heads),
      norm1(shape.width, kEpsilon, options),
      query(shape.width, shape.width, true, options),
      key(shape.width, shape.width, true, options),
      value(shape.width, shape.width, true, options),
      output(shape.width, shape.width, true, options),
      norm2(shape.width, kEpsilon, options),
      fc1(shape.width, shape.mlp, true, options),
      fc2(shape.mlp, shape.width, true, options) {}

at::Tensor SiglipLayer::operator()(const at::Tensor& x) const {
  const at::Tensor z = norm1(x);
  const auto split = [&](const Linear& projection) {
    return projection(z).view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
  };
  const at::Tensor attended = at::scaled_dot_product_attention(split(query), split(key), split(value));
  const at::Tensor y = x + output(attended.transpose(1, 2).reshape(x.sizes()));
  return y + fc2(at::gelu(fc1(norm2(y)), "tanh"));
}

void SiglipLayer::visit(LayerVisitor& v) {
  v("layer_norm1", norm1);
  v("self_attn.q_proj", query);
  v("self_attn.k_proj", key);
  v("self_attn.v_proj", value);
  v("self_attn.out_proj", output);
  v("layer_norm2", norm2);
  v("mlp.fc1", fc1);
  v("mlp.fc2", fc2);
}

SiglipTower::SiglipTower(const SiglipShape& shape, const at::TensorOptions& options)
    : shape_(shape),
      patch_weight_(at::empty({shape.width, 3, shape.patch_size, shape.patch_size}, options)),
      patch_bias_(at::empty({shape.width}, options)),
      position_(at::empty({shape.patches(), shape.width}, options)),
      norm_(shape.width, kEpsilon, options) {
  layers_.reserve(static_cast<size_t>(shape.layers));
  for (int64_t i = 0; i < shape.layers; ++i) layers_.emplace_back(shape, options);
}

at::Tensor SiglipTower::operator()(const at::Tensor& images, bool activation_checkpointing) const {
  const std::array<int64_t, 2> stride = {shape_.patch_size, shape_.patch_size}, none = {0, 0},
                               dilation = {1, 1};
  const at::Tensor patches = at::conv2d(images, patch_weight_, patch_bias_, stride, none, dilation);
  at::Tensor x = patches.flatten(2).transpose(1, 2) + position_;
  for (const SiglipLayer& layer : layers_)
    x = checkpointed([&layer](const at::Tensor& in) { return layer(in); }, x, activation_checkpointing);
  return norm_(x);
}

void SiglipTower::visit(LayerVisitor& v) {
  v("embeddings.patch_embedding.weight", patch_weight_);
  v("embeddings.patch_embedding.bias", patch_bias_);
  v("embeddings.position_embedding.weight", position_);
  v("encoder.layers", layers_);
  v("post_layernorm", norm_);
}

}  // namespace apo::models
