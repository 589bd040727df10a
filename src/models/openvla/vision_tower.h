// The vision transformers of VLA policies: timm's VisionTransformer as DINOv2 and SigLIP are built from it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "models/sequence/layers.h"

namespace apo::models {

/// The sizes of a tower; all but the heads can be read off a checkpoint's tensors.
struct VisionTowerShape {
  int64_t image_size = 224;  ///< pixels, square
  int64_t patch_size = 14;
  int64_t width = 1024;
  int64_t depth = 24;  ///< blocks in the checkpoint; the last one never runs
  int64_t heads = 16;
  int64_t mlp = 4096;
  bool class_token = false;
  int64_t registers = 0;
  bool layer_scale = false;
  bool attention_pool = false;  ///< carried along, never runs

  int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
};

/// A pre-norm block: x += s1 attention(norm1 x), x += s2 mlp(norm2 x); s1 = s2 = 1 without layer scale.
struct VisionBlock {
  VisionBlock(const VisionTowerShape& shape, const at::TensorOptions& options);
  at::Tensor operator()(const at::Tensor& x) const;
  void visit(LayerVisitor& v);

  int64_t heads;
  LayerNorm norm1;
  Linear qkv, proj;
  at::Tensor scale1, scale2;  // [width], undefined without layer scale
  LayerNorm norm2;
  Linear fc1, fc2;
};

/// timm's attention pooling head. OpenVLA never runs it; it is here so that a checkpoint can be written back
/// whole and adapters on it survive.
struct AttentionPool {
  AttentionPool(const VisionTowerShape& shape, const at::TensorOptions& options);
  void visit(LayerVisitor& v);

  at::Tensor latent;  // [1, 1, width]
  Linear q, kv, proj;
  LayerNorm norm;
  Linear fc1, fc2;
};

/// Pictures to patch features: the residual stream after the second-to-last block, without the final norm,
/// class token and registers cut off (timm's get_intermediate_layers(n={depth - 2})).
///
/// Shapes   [B, 3, Y, X] normalised -> [B, (Y / patch) (X / patch), width]; patches row by row
/// Numeric  exact (erf) GELU, layer-norm epsilon 1e-6; positions are added to the patches before class token
///          and registers come in front
/// Source   timm vision_transformer.py; prismatic/models/backbones/vision/dinosiglip_vit.py
class VisionTower {
 public:
  VisionTower(const VisionTowerShape& shape, const at::TensorOptions& options);
  at::Tensor operator()(const at::Tensor& images, bool activation_checkpointing = false) const;
  void visit(LayerVisitor& v);
  const VisionTowerShape& shape() const { return shape_; }

 private:
  VisionTowerShape shape_;
  at::Tensor class_token_;  // [1, 1, width]
  at::Tensor registers_;    // [1, registers, width]
  at::Tensor position_;     // [1, patches, width]
  Linear patch_;            // kernel [width, 3, patch, patch]: a linear layer on patches
  std::vector<VisionBlock> blocks_;
  LayerNorm norm_;
  std::optional<AttentionPool> pool_;
};

}  // namespace apo::models
