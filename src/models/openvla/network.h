// The network of OpenVLA: two vision towers, a projector and a Llama.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
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
  int64_t state_size = 0;  ///< numbers that a state projector takes; 0: there is none

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

/// OpenVLA-OFT's projector of the proprioceptive state, fc2(gelu(fc1 x)), exact GELU. It never trains and
/// carries no adapter.
struct StateProjector {
  StateProjector(int64_t in, int64_t out, const at::TensorOptions& options);
  /// [B, in] normalised -> [B, 1, out]
  at::Tensor operator()(const at::Tensor& state) const;
  void visit(LayerVisitor& v);

  at::Tensor weight1, bias1, weight2, bias2;  // undefined where there is no state
};

/// Where OpenVLA-OFT's answer is read.
struct ActionPlaces {
  int64_t count = 0;                 ///< H A, one token each
  std::optional<int64_t> stop = {};  ///< end token behind them; nothing: the sequence ends with them
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

  /// [B, 2 N, 3, Y, X] N pictures, each normalised for DINOv2 and for SigLIP -> [B, N patches, width] for the
  /// Llama, picture after picture.
  at::Tensor picture_features(const at::Tensor& images) const;
  /// [B, state_size] normalised -> [B, 1, width], which follows the pictures' patches.
  at::Tensor state_feature(const at::Tensor& state) const;
  /// Logits [B, T, V] float32 that predict each answer ([B, T] ids), teacher forced.
  /// `features` [B, patches, width]; `prompt` [B, L] ids with the begin token first and padding next to it;
  /// `prompt_mask` [B, L] false at padding, undefined: none.
  std::vector<Logits> score(const at::Tensor& features, const at::Tensor& prompt,
                            const at::Tensor& prompt_mask, std::span<const at::Tensor> answers) const;
  /// Decodes `steps` tokens among the ids [first, last]; `choose` picks columns of these, and `draft` may
  /// guess them (Decoding). Returns [B, steps] ids.
  at::Tensor decode(const at::Tensor& features, const at::Tensor& prompt, const at::Tensor& prompt_mask,
                    int64_t steps, std::pair<int64_t, int64_t> ids, const TokenChooser& choose,
                    const at::Tensor& draft = {}) const;

  /// OpenVLA-OFT: hidden states [B, places, width] that predict the tokens of all places at once, whatever
  /// these are. The prefix as in `score`, then a zero vector for each place, then the end token: every row
  /// sees all others, and each place is read one row before its own (the first at the prompt's last token).
  /// Source  modeling_prismatic.py of moojink/openvla-oft on its fork of transformers, where Llama has no
  ///         causal mask
  at::Tensor parallel(const at::Tensor& features, const at::Tensor& prompt, const at::Tensor& prompt_mask,
                      const ActionPlaces& places) const;
  /// Logits of the ids [first, last] of rows [B, T, width], made when they are read where they are many.
  Logits logits_of(const at::Tensor& rows, std::pair<int64_t, int64_t> ids) const;

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
  StateProjector state_projector_;
  Llama llama_;
};

}  // namespace apo::models
