#include "models/pi0_fast/network.h"

#include <torch/types.h>

#include <cmath>

#include "apo/base/error.h"
#include "apo/models/safetensors.h"

namespace apo::models {
namespace {

constexpr int64_t kSiglipHeadWidth = 72;  // of so400m

// [B, L] prompt mask -> [B, P + L], true where the prefix is no padding; undefined: nothing is.
at::Tensor prefix_validity(const at::Tensor& prompt_mask, int64_t patches) {
  if (!prompt_mask.defined()) return {};
  return at::cat({at::ones({prompt_mask.size(0), patches}, prompt_mask.options()), prompt_mask}, 1);
}

// The extent of one dimension of a tensor that has `rank` of them.
int64_t extent(const SafetensorsReader& weights, const std::string& name, size_t rank, size_t dimension) {
  APO_CHECK(DataError, weights.has(name), weights.path().string(), ": no tensor ", name);
  const std::vector<int64_t> shape = weights.shape(name);
  APO_CHECK(DataError, shape.size() == rank && shape[dimension] > 0, weights.path().string(), ": tensor ",
            name, ": expected ", rank, " dimensions, found ", at::IntArrayRef(shape));
  return shape[dimension];
}

int64_t count_layers(const SafetensorsReader& weights, const std::string& layers, const std::string& member) {
  int64_t count = 0;
  while (weights.has(concat(layers, count, ".", member))) ++count;
  APO_CHECK(DataError, count > 0, weights.path().string(), ": no tensor ", layers, "0.", member);
  return count;
}

SiglipShape read_siglip(const SafetensorsReader& weights, const std::string& tower) {
  const std::string position = tower + ".embeddings.position_embedding.weight";
  SiglipShape shape;
  shape.width = extent(weights, position, 2, 1);
  const int64_t patches = extent(weights, position, 2, 0);
  const auto side = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(patches))));
  APO_CHECK(DataError, side * side == patches, weights.path().string(), ": tensor ", position,
            ": expected a square number of patches, found ", patches);
  shape.patch_size = extent(weights, tower + ".embeddings.patch_embedding.weight", 4, 3);
  shape.image_size = side * shape.patch_size;
  shape.layers = count_layers(weights, tower + ".encoder.layers.", "layer_norm1.weight");
  APO_CHECK(DataError, shape.width % kSiglipHeadWidth == 0, weights.path().string(), ": tensor ", position,
            ": expected a width that is a multiple of ", kSiglipHeadWidth, " (SigLIP's heads), found ",
            shape.width);
  shape.heads = shape.width / kSiglipHeadWidth;
  shape.mlp = extent(weights, tower + ".encoder.layers.0.mlp.fc1.weight", 2, 0);
  return shape;
}

}  // namespace

Pi0FastShape Pi0FastShape::read(const SafetensorsReader& weights, const PaliGemmaNames& names) {
  Pi0FastShape shape;
  shape.siglip = read_siglip(weights, names.vision);
  LlamaShape& gemma = shape.gemma;
  const std::string table = names.embedding.empty() ? names.head : names.embedding;
  const std::string layers = names.language + ".layers.", first = layers + "0.self_attn.";
  gemma.vocabulary = extent(weights, table, 2, 0);
  gemma.width = extent(weights, table, 2, 1);
  gemma.layers = count_layers(weights, layers, "input_layernorm.weight");
  gemma.mlp = extent(weights, layers + "0.mlp.gate_proj.weight", 2, 0);
  const int64_t keys = extent(weights, first + "k_proj.weight", 2, 0),
                queries = extent(weights, first + "q_proj.weight", 2, 0);
  APO_CHECK(DataError, keys % 2 == 0, weights.path().string(), ": tensor ", first,
            "k_proj.weight: expected an even number of rows, found ", keys);
  gemma.key_heads = 1;
  gemma.head_size = keys;
  APO_CHECK(DataError, queries % keys == 0, weights.path().string(), ": tensor ", first,
            "q_proj.weight: expected a multiple of ", keys, " rows (those of k_proj), found ", queries);
  gemma.heads = queries / gemma.head_size;
  return shape;
}

Pi0FastNetwork::Pi0FastNetwork(const Pi0FastShape& shape, PaliGemmaNames names,
                               const at::TensorOptions& options)
    : shape_(shape),
      names_(std::move(names)),
      siglip_(shape.siglip, options),
      projector_(shape.siglip.width, shape.gemma.width, true, options),
      gemma_(shape.gemma, options) {}

void Pi0FastNetwork::visit(LayerVisitor& v) {
  v(names_.vision, siglip_);
  v(names_.projector, projector_);
  if (!names_.embedding.empty()) v(names_.embedding, gemma_.embedding);
  v(names_.language + ".layers", gemma_.layers);
  v(names_.language + ".norm", gemma_.norm);
  if (!names_.head.empty()) v(names_.head, gemma_.head.weight);
}

void Pi0FastNetwork::tie() {
  if (names_.embedding.empty())
    gemma_.embedding = gemma_.head.weight;
  else if (names_.head.empty())
    gemma_.head.weight = gemma_.embedding;
}

at::Tensor Pi0FastNetwork::picture_features(const at::Tensor& images) const {
  const at::Tensor features = projector_(siglip_(images.flatten(0, 1), activation_checkpointing));
  return features.view({images.size(0), images.size(1) * features.size(1), features.size(2)});
}

at::Tensor Pi0FastNetwork::embed(const at::Tensor& ids, int64_t) const { return gemma_.embed(ids); }

at::Tensor Pi0FastNetwork::run(at::Tensor x, const Rows& rows, int64_t first_row,
                               std::vector<KeyValueCache>* caches) const {
  return gemma_.run(std::move(x), rows, first_row, caches, activation_checkpointing);
}

std::vector<KeyValueCache> Pi0FastNetwork::make_caches(int64_t batch, int64_t room) const {
  return gemma_.make_caches(batch, room);
}

at::Tensor Pi0FastNetwork::logits(const at::Tensor& rows, int64_t begin, int64_t end) const {
  return gemma_.logits(rows, begin, end);
}

// [B, 1, width], or undefined without such a token.
at::Tensor Pi0FastNetwork::begin_row(const AnswerStyle& style, const at::Tensor& prompt) const {
  if (!style.begin) return {};
  return gemma_.embed(at::full({prompt.size(0), 1}, *style.begin, prompt.options()));
}

std::vector<Logits> Pi0FastNetwork::score(const at::Tensor& features, const at::Tensor& prompt,
                                          const at::Tensor& prompt_mask, std::span<const at::Tensor> answers,
                                          const AnswerStyle& style) const {
  const at::Tensor begin = begin_row(style, prompt);
  std::vector<at::Tensor> sequence{features, gemma_.embed(prompt)};
  const int64_t prefix = features.size(1) + prompt.size(1);
  std::vector<int64_t> lengths;  // of what stands for an answer: every row predicts a token
  for (const at::Tensor& answer : answers) {
    const int64_t given = answer.size(1) - 1;
    if (begin.defined()) sequence.push_back(begin);
    if (given > 0) sequence.push_back(gemma_.embed(answer.narrow(1, 0, given)));
    lengths.push_back(given + begin.defined());
  }
  const at::Tensor x = at::cat(sequence, 1);
  const SequenceLayout layout(prefix_validity(prompt_mask, features.size(1)), prefix, x.device(),
                              PrefixAttention::full, lengths);
  const at::Tensor hidden = run(x, {layout, 0, layout.size(), layout.whole(x.scalar_type())},
                                begin.defined() ? prefix : prefix - 1, nullptr);
  const int64_t vocabulary = shape_.gemma.vocabulary;
  const auto head = [this, vocabulary](const at::Tensor& rows) { return logits(rows, 0, vocabulary); };
  std::vector<Logits> scores;
  for (const at::Tensor& rows : layout.predicting(hidden, /*with_prefix=*/!begin.defined()))
    scores.emplace_back(rows, vocabulary, head, logits_piece_bytes);
  return scores;
}

at::Tensor Pi0FastNetwork::decode(const at::Tensor& features, const at::Tensor& prompt,
                                  const at::Tensor& prompt_mask, const AnswerStyle& style, int64_t steps,
                                  int64_t stop, const TokenChooser& choose) const {
  const at::NoGradGuard no_grad;
  at::Tensor begin = begin_row(style, prompt), prefix = at::cat({features, gemma_.embed(prompt)}, 1),
             valid = prefix_validity(prompt_mask, features.size(1));
  if (begin.defined() && style.begin_in_prefix) {
    prefix = at::cat({prefix, begin}, 1);
    if (valid.defined()) valid = at::cat({valid, at::ones({valid.size(0), 1}, valid.options())}, 1);
    begin = at::Tensor();
  }
  return models::decode(*this, {.prefix = prefix,
                                .begin = begin,
                                .attention = PrefixAttention::full,
                                .valid = valid,
                                .steps = steps,
                                .ids = {0, shape_.gemma.vocabulary - 1},
                                .stop = stop,
                                .position_gap = style.position_gap,
                                .choose = choose});
}

}  // namespace apo::models
