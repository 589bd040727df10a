// The network of the built-in policy: pictures, words and state become one sequence, action tokens follow it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "models/sequence/decoder.h"
#include "models/sequence/layers.h"

namespace apo::models {

/// The sizes of a small network (config.json).
struct SmallShape {
  int64_t cameras = 1;
  int64_t image_size = 64;  ///< pixels, a multiple of 16
  int64_t channels = 16;    ///< of the first convolution
  int64_t width = 64;       ///< of the transformer, even
  int64_t layers = 3;
  int64_t heads = 4;
  int64_t vocabulary = 2;      ///< words
  int64_t prompt_length = 16;  ///< longest prompt
  int64_t state_size = 0;      ///< 0: no state token
  int64_t action_size = 7;
  int64_t action_bins = 256;
  int64_t horizon = 1;  ///< H, actions of an answer

  /// Tokens of an answer.
  int64_t answer_length() const { return horizon * action_size; }
  int64_t patches() const { return cameras * (image_size / 16) * (image_size / 16); }
};

/// Convolutions (5x5, 3x3, 3x3, each of stride 2 and modulated by the prompt, then 2x2 patches) give picture
/// tokens; the prompt's words and one state token follow; they attend to each other. Then come a begin token
/// and the action tokens, action by action, which attend to what stands before them. The logits at the begin
/// token predict the first action token.
///
/// Source  our own; sizes of the default are those that learn the tabletop task on one core.
class SmallNetwork final : public SequenceNetwork {
 public:
  /// Uninitialised weights; `options` may name the meta device.
  SmallNetwork(const SmallShape& shape, const at::TensorOptions& options);
  SmallNetwork(const SmallNetwork&) = delete;
  SmallNetwork& operator=(const SmallNetwork&) = delete;

  /// Random initial weights, equal on every machine for the same seed (CPU only).
  void initialize(uint64_t seed);
  void visit(LayerVisitor& v);
  const SmallShape& shape() const { return shape_; }

  /// Teacher-forced logits of each answer ([B, T] ids, T <= answer_length), [B, T, bins]; the observation is
  /// encoded once and the answers do not see each other.
  std::vector<at::Tensor> score(const PolicyInput& input, std::span<const at::Tensor> answers) const;
  /// Decodes answer_length tokens, [B, answer_length].
  at::Tensor decode(const PolicyInput& input, const TokenChooser& choose) const;

  at::Tensor embed(const at::Tensor& ids, int64_t t) const override;
  at::Tensor run(at::Tensor x, const Rows& rows, int64_t first_row,
                 std::vector<KeyValueCache>* caches) const override;
  std::vector<KeyValueCache> make_caches(int64_t batch, int64_t room) const override;
  at::Tensor logits(const at::Tensor& rows, int64_t begin, int64_t end) const override;

 private:
  /// Picture, word and state tokens, without positions.
  std::vector<at::Tensor> prefix_tokens(const PolicyInput& input) const;
  at::Tensor picture_tokens(const at::Tensor& images, const at::Tensor& prompt_meaning) const;
  /// [B, P] bool false at padded words; undefined: nothing is padded.
  at::Tensor validity(const PolicyInput& input) const;
  /// Position vectors of a prefix with a prompt of `prompt_length`, followed by `answers` times the first
  /// `length` action positions, [T, width].
  at::Tensor positions(int64_t prompt_length, int64_t length, int64_t answers) const;
  int64_t first_action_position() const;

  SmallShape shape_;
  Convolution conv1_, conv2_, conv3_, patch_;
  Linear film1_, film2_, film3_;
  at::Tensor word_;  // [vocabulary, width]
  Linear state1_, state2_;
  at::Tensor begin_;     // [width]
  at::Tensor action_;    // [bins, width]
  at::Tensor position_;  // [patches + prompt_length + (state ? 1 : 0) + answer_length, width]
  std::vector<Block> blocks_;
  LayerNorm norm_;
  Linear head_;
};

}  // namespace apo::models
