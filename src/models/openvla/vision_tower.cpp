#include "models/openvla/vision_tower.h"

#include <torch/types.h>

#include "base/checkpointed.h"

namespace apo::models {
namespace {

constexpr double kEpsilon = 1e-6;

// A linear layer whose weight is a convolution kernel [out, in, size, size].
Linear patch_projection(int64_t out, int64_t in, int64_t size, const at::TensorOptions& options) {
  Linear layer(in * size * size, out, /*with_bias=*/true, options);
  layer.weight = at::empty({out, in, size, size}, options);
  return layer;
}

// [B, C, Y, X] -> [B, patches, C size size], as a convolution of that stride reads them.
at::Tensor cut_patches(const at::Tensor& images, int64_t size) {
  const int64_t batch = images.size(0), channels = images.size(1);
  const int64_t rows = images.size(2) / size, columns = images.size(3) / size;
  return images.reshape({batch, channels, rows, size, columns, size})
      .permute({0, 2, 4, 1, 3, 5})
      .reshape({batch, rows * columns, channels * size * size});
}

}  // namespace

VisionBlock::VisionBlock(const VisionTowerShape& shape, const at::TensorOptions& options)
    : heads(shape.heads),
      norm1(shape.width, kEpsilon, options),
      qkv(shape.width, 3 * shape.width, true, options),
      proj(shape.width, shape.width, true, options),
      norm2(shape.width, kEpsilon, options),
      fc1(shape.width, shape.mlp, true, options),
      fc2(shape.mlp, shape.width, true, options) {
  if (!shape.layer_scale) return;
  scale1 = at::empty({shape.width}, options);
  scale2 = at::empty({shape.width}, options);
}

at::Tensor VisionBlock::operator()(const at::Tensor& x) const {
  const int64_t batch = x.size(0), length = x.size(1), width = x.size(2);
  const auto parts =
      qkv(norm1(x)).view({batch, length, 3, heads, width / heads}).permute({2, 0, 3, 1, 4}).unbind(0);
  at::Tensor update = at::scaled_dot_product_attention(parts[0], parts[1], parts[2]);
  update = proj(update.transpose(1, 2).reshape(x.sizes()));
  const at::Tensor y = scale1.defined() ? at::addcmul(x, update, scale1) : x + update;
  update = fc2(at::gelu(fc1(norm2(y))));
  return scale2.defined() ? at::addcmul(y, update, scale2) : y + update;
}

void VisionBlock::visit(LayerVisitor& v) {
  v("norm1", norm1);
  v("attn.qkv", qkv);
  v("attn.proj", proj);
  v("ls1.scale_factor", scale1);
  v("norm2", norm2);
  v("mlp.fc1", fc1);
  v("mlp.fc2", fc2);
  v("ls2.scale_factor", scale2);
}

AttentionPool::AttentionPool(const VisionTowerShape& shape, const at::TensorOptions& options)
    : latent(at::empty({1, 1, shape.width}, options)),
      q(shape.width, shape.width, true, options),
      kv(shape.width, 2 * shape.width, true, options),
      proj(shape.width, shape.width, true, options),
      norm(shape.width, kEpsilon, options),
      fc1(shape.width, shape.mlp, true, options),
      fc2(shape.mlp, shape.width, true, options) {}

void AttentionPool::visit(LayerVisitor& v) {
  v("latent", latent);
  v("q", q);
  v("kv", kv);
  v("proj", proj);
  v("norm", norm);
  v("mlp.fc1", fc1);
  v("mlp.fc2", fc2);
}

VisionTower::VisionTower(const VisionTowerShape& shape, const at::TensorOptions& options)
    : shape_(shape),
      position_(at::empty({1, shape.patches(), shape.width}, options)),
      patch_(patch_projection(shape.width, 3, shape.patch_size, options)),
      norm_(shape.width, kEpsilon, options) {
  if (shape.class_token) class_token_ = at::empty({1, 1, shape.width}, options);
  if (shape.registers > 0) registers_ = at::empty({1, shape.registers, shape.width}, options);
  blocks_.reserve(static_cast<size_t>(shape.depth));
  for (int64_t i = 0; i < shape.depth; ++i) blocks_.emplace_back(shape, options);
  if (shape.attention_pool) pool_.emplace(shape, options);
}

at::Tensor VisionTower::operator()(const at::Tensor& images, bool activation_checkpointing) const {
  const int64_t batch = images.size(0), patches = position_.size(1);
  const at::Tensor embedded = patch_(cut_patches(images, shape_.patch_size)) + position_;
  std::vector<at::Tensor> sequence;
  for (const at::Tensor* prefix : {&class_token_, &registers_})
    if (prefix->defined()) sequence.push_back(prefix->expand({batch, -1, -1}));
  sequence.push_back(embedded);
  at::Tensor x = at::cat(sequence, 1);
  for (size_t i = 0; i + 1 < blocks_.size(); ++i)
    x = checkpointed([&block = blocks_[i]](const at::Tensor& in) { return block(in); }, x,
                     activation_checkpointing);
  return x.narrow(1, x.size(1) - patches, patches);
}

void VisionTower::visit(LayerVisitor& v) {
  v("cls_token", class_token_);
  v("reg_token", registers_);
  v("pos_embed", position_);
  v("patch_embed.proj", patch_);
  v("blocks", blocks_);
  v("norm", norm_);
  if (pool_) v("attn_pool", *pool_);
}

}  // namespace apo::models
