// The network of pi0-FAST: PaliGemma, whose answers are action tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "apo/base/logits.h"
#include "models/openvla/llama.h"
#include "models/pi0_fast/names.h"
#include "models/pi0_fast/siglip.h"
#include "models/sequence/decoder.h"
#include "models/sequence/layers.h"

namespace apo::models {

class SafetensorsReader;

struct Pi0FastShape {
  SiglipShape siglip;
  LlamaShape gemma{.vocabulary = 257152,
                   .width = 2048,
                   .layers = 18,
                   .heads = 8,
                   .key_heads = 1,
                   .head_size = 256,
                   .mlp = 16384,
                   .gemma = true};

  /// Of the tensors in a file: a head has as many numbers as the key projection has rows: all of its queries
  /// share one key. DataError naming a tensor that is missing or does not fit.
  static Pi0FastShape read(const SafetensorsReader& weights, const PaliGemmaNames& names);
};

/// How answers stand behind a prefix.
struct AnswerStyle {
  /// a token that stands before every answer and is no part of it; nothing: the prompt's last token predicts
  /// the first of an answer
  std::optional<int64_t> begin;
  bool begin_in_prefix = false;  ///< decoding: the prompt sees that token
  int64_t position_gap = 0;      ///< decoding: positions left out before the answer
};

/// The sequence is [patches of each picture | prompt | answer]: pictures and prompt see each other, an answer
/// sees them and its own past. Image features are not scaled, words are.
///
/// Prompts of unequal length are padded behind their first token, so that all answers begin in the same
/// column; the mask hides the padding and positions leave it out.
/// Source  openpi's pi0_fast.py, LeRobot's modeling_pi0_fast.py, transformers' modeling_paligemma.py
class Pi0FastNetwork final : public SequenceNetwork {
 public:
  /// Uninitialised weights; `options` may name the meta device.
  Pi0FastNetwork(const Pi0FastShape& shape, PaliGemmaNames names, const at::TensorOptions& options);
  Pi0FastNetwork(const Pi0FastNetwork&) = delete;
  Pi0FastNetwork& operator=(const Pi0FastNetwork&) = delete;

  /// Under the names of the file; words and head that are one table come once.
  void visit(LayerVisitor& v);
  /// Makes words and head one table again, once a visitor has put other tensors into the network.
  void tie();
  const Pi0FastShape& shape() const { return shape_; }
  const PaliGemmaNames& names() const { return names_; }
  at::ScalarType type() const { return gemma_.norm.weight.scalar_type(); }

  /// [B, N, 3, Y, X] pictures within [-1, 1] -> [B, N · patches, width].
  at::Tensor picture_features(const at::Tensor& images) const;
  /// Logits [B, T, V] float32 that predict each answer ([B, T] ids), teacher forced.
  /// `features` [B, P, width]; `prompt` [B, L] ids; `prompt_mask` [B, L], undefined: no padding.
  std::vector<Logits> score(const at::Tensor& features, const at::Tensor& prompt,
                            const at::Tensor& prompt_mask, std::span<const at::Tensor> answers,
                            const AnswerStyle& style) const;
  /// Decodes up to `steps` tokens, until every row has ended with `stop`; 0 behind it. [B, T] ids.
  at::Tensor decode(const at::Tensor& features, const at::Tensor& prompt, const at::Tensor& prompt_mask,
                    const AnswerStyle& style, int64_t steps, int64_t stop, const TokenChooser& choose) const;

  at::Tensor embed(const at::Tensor& ids, int64_t t) const override;
  at::Tensor run(at::Tensor x, const Rows& rows, int64_t first_row,
                 std::vector<KeyValueCache>* caches) const override;
  std::vector<KeyValueCache> make_caches(int64_t batch, int64_t room) const override;
  at::Tensor logits(const at::Tensor& rows, int64_t begin, int64_t end) const override;

  bool activation_checkpointing = false;
  int64_t logits_piece_bytes = Logits::kPieceBytes;  ///< of what `score` makes at once

 private:
  at::Tensor begin_row(const AnswerStyle& style, const at::Tensor& prompt) const;

  Pi0FastShape shape_;
  PaliGemmaNames names_;
  SiglipTower siglip_;
  Linear projector_;
  Llama gemma_;
};

}  // namespace apo::models
