// The network of OpenVLA: two vision towers, a projector and a Llama.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "apo/base/logits.h"
#include "models/openvla/llama.h"
#include "models/openvla/vision_tower.h"
#include "models/sequence/decoder.h"
#include "models/sequence/layers.h"

namespace apo::models {

struct OpenVlaShape {
  VisionTowerShape dino, siglip;
  int64_t projector = 8704;  ///< width of the projector's first hidden layer
  LlamaShape llama;

  /// The released 7B model.
  static OpenVlaShape released();
};

/// fc3(gelu(fc2(gelu(fc1 x)))), exact GELU.
struct Projector {
  Projector(int64_t in, int64_t hidden, int64_t out, const at::TensorOptions& options);
  at::Tensor operator()(const at::Tensor& x) const;
  void visit(LayerVisitor& v);

  Linear fc1, fc2, fc3;
};

/// The sequence is [begin token | patches | rest of the prompt | answer], causal; positions count what is no
/// padding.
///
/// Prompts of unequal length are padded at the left of their rest, so that all answers begin in the same
/// column; the mask hides the padding and positions leave it out, which gives the numbers of the released
/// right-padded layout. A second answer stands behind the first, sees only the prompt and itself, and shares
/// the first's positions.
/// Source  modeling_prismatic.py of openvla/openvla; timm and transformers for towers and Llama
class OpenVlaNetwork final : public SequenceNetwork {
 public:
  /// Uninitialised weights; `options` may name the meta device.
  OpenVlaNetwork(const OpenVlaShape& shape, const at::TensorOptions& options);
  OpenVlaNetwork(const OpenVlaNetwork&) = delete;
  OpenVlaNetwork& operator=(const OpenVlaNetwork&) = delete;

  void visit(LayerVisitor& v);
  const OpenVlaShape& shape() const { return shape_; }
  at::ScalarType type() const { return llama_.embedding.scalar_type(); }

  /// [B, 2, 3, Y, X] pictures, normalised for DINOv2 and for SigLIP -> [B, patches, width] for the Llama.
  at::Tensor picture_features(const at::Tensor& images) const;
  /// Logits [B, T, V] float32 that predict each answer ([B, T] ids), teacher forced.
  /// `features` [B, patches, width]; `prompt` [B, L] ids with the begin token first and padding next to it;
  /// `prompt_mask` [B, L] false at padding, undefined: none.
  std::vector<Logits> score(const at::Tensor& features, const at::Tensor& prompt,
                            const at::Tensor& prompt_mask, std::span<const at::Tensor> answers) const;
  /// Decodes `steps` tokens among the ids [first, last]; `choose` picks columns of these. Returns [B, steps]
  /// ids.
  at::Tensor decode(const at::Tensor& features, const at::Tensor& prompt, const at::Tensor& prompt_mask,
                    int64_t steps, std::pair<int64_t, int64_t> ids, const TokenChooser& choose) const;

  at::Tensor embed(const at::Tensor& ids, int64_t t) const override;
  at::Tensor run(at::Tensor x, const Rows& rows, int64_t first_row,
                 std::vector<KeyValueCache>* caches) const override;
  std::vector<KeyValueCache> make_caches(int64_t batch, int64_t room) const override;
  /// In float32 whatever the weights' type.
  at::Tensor logits(const at::Tensor& rows, int64_t begin, int64_t end) const override;

  bool activation_checkpointing = false;
  int64_t logits_piece_bytes = Logits::kPieceBytes;  ///< of what `score` makes at once

 private:
  at::Tensor prefix(const at::Tensor& features, const at::Tensor& prompt) const;

  OpenVlaShape shape_;
  VisionTower dino_, siglip_;
  Projector projector_;
  Llama llama_;
};

}  // namespace apo::models
