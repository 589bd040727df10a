// The vision tower of PaliGemma: SigLIP as transformers builds it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "models/sequence/layers.h"

namespace apo::models {

/// The sizes of a tower, all of which can be read off a checkpoint's tensors.
struct SiglipShape {
  int64_t image_size = 224;  ///< pixels, square
  int64_t patch_size = 14;
  int64_t width = 1152;
  int64_t layers = 27;
  int64_t heads = 16;
  int64_t mlp = 4304;
  int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
};

/// x += attention(norm1 x), x += fc2(gelu_tanh(fc1(norm2 x))).
struct SiglipLayer {
  SiglipLayer(const SiglipShape& shape, const at::TensorOptions& options);
  at::Tensor operator()(const at::Tensor& x) const;
  void visit(LayerVisitor& v);

  int64_t heads;
  LayerNorm norm1;
  Linear query, key, value, output;
  LayerNorm norm2;
  Linear fc1, fc2;
};

/// Pictures to patch features, after the last layer and the final norm, under transformers' names
/// (embeddings.patch_embedding, encoder.layers.0.self_attn.q_proj, ..., post_layernorm).
///
/// Shapes   [B, 3, Y, X] within [-1, 1] -> [B, patches, width]; patches row by row
/// Source   transformers modeling_siglip.py
class SiglipTower {
 public:
  SiglipTower(const SiglipShape& shape, const at::TensorOptions& options);
  at::Tensor operator()(const at::Tensor& images, bool activation_checkpointing) const;
  void visit(LayerVisitor& v);

 private:
  SiglipShape shape_;
  at::Tensor patch_weight_, patch_bias_;  // [width, 3, patch, patch], [width]
  at::Tensor position_;                   // [patches, width]
  std::vector<SiglipLayer> layers_;
  LayerNorm norm_;
};

}  // namespace apo::models
