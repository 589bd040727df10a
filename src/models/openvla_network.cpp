#include "models/openvla_network.h"

#include <ATen/autocast_mode.h>
#include <torch/types.h>

#include <algorithm>
#include <limits>

#include "apo/base/error.h"
#include "base/checkpointed.h"

namespace apo::models {
namespace {

constexpr int64_t kHeadBlock = 8192;

// Autocast off while it lives.
class FullPrecision {
 public:
  explicit FullPrecision(at::DeviceType device)
      : device_(device), before_(at::autocast::is_autocast_enabled(device)) {
    at::autocast::set_autocast_enabled(device_, false);
  }
  ~FullPrecision() { at::autocast::set_autocast_enabled(device_, before_); }
  FullPrecision(const FullPrecision&) = delete;
  FullPrecision& operator=(const FullPrecision&) = delete;

 private:
  at::DeviceType device_;
  bool before_;
};

// [B, L] prompt mask (or undefined) -> [B or 1, P + L] true where the prefix is no padding.
at::Tensor prefix_validity(const at::Tensor& prompt, const at::Tensor& prompt_mask, int64_t patches) {
  if (!prompt_mask.defined())
    return at::ones({1, prompt.size(1) + patches}, prompt.options().dtype(at::kBool));
  return at::cat({prompt_mask.narrow(1, 0, 1), at::ones({prompt.size(0), patches}, prompt_mask.options()),
                  prompt_mask.narrow(1, 1, prompt_mask.size(1) - 1)},
                 1);
}

// 0 where `visible` [B, T, keys], else -inf: [B, 1, T, keys]. Rows lie a multiple of 8 numbers apart, which
// is how attention kernels read a mask without copying it first.
at::Tensor additive(const at::Tensor& visible, at::ScalarType type) {
  const int64_t keys = visible.size(2);
  at::Tensor mask =
      at::zeros({visible.size(0), visible.size(1), (keys + 7) / 8 * 8}, visible.options().dtype(type))
          .narrow(2, 0, keys);
  return mask.masked_fill_(visible.logical_not(), -std::numeric_limits<double>::infinity()).unsqueeze(1);
}

// What is added to attention scores. Rows of padding see themselves, so that no row is all -inf.
at::Tensor additive_mask(const at::Tensor& visible, at::ScalarType type) {
  return additive(visible.logical_or(at::eye(visible.size(-1), visible.options())), type);
}

}  // namespace

OpenVlaShape OpenVlaShape::released() {
  OpenVlaShape shape;
  shape.dino = {.width = 1024,
                .depth = 24,
                .heads = 16,
                .mlp = 4096,
                .class_token = true,
                .registers = 4,
                .layer_scale = true};
  shape.siglip = {.width = 1152, .depth = 27, .heads = 16, .mlp = 4304, .attention_pool = true};
  return shape;
}

Projector::Projector(int64_t in, int64_t hidden, int64_t out, const at::TensorOptions& options)
    : fc1(in, hidden, true, options), fc2(hidden, out, true, options), fc3(out, out, true, options) {}

at::Tensor Projector::operator()(const at::Tensor& x) const { return fc3(at::gelu(fc2(at::gelu(fc1(x))))); }

void Projector::visit(LayerVisitor& v) {
  v("fc1", fc1);
  v("fc2", fc2);
  v("fc3", fc3);
}

OpenVlaNetwork::OpenVlaNetwork(const OpenVlaShape& shape, const at::TensorOptions& options)
    : shape_(shape),
      dino_(shape.dino, options),
      siglip_(shape.siglip, options),
      projector_(shape.dino.width + shape.siglip.width, shape.projector, shape.llama.width, options),
      llama_(shape.llama, options) {}

void OpenVlaNetwork::visit(LayerVisitor& v) {
  v("vision_backbone.featurizer", dino_);
  v("vision_backbone.fused_featurizer", siglip_);
  v("projector", projector_);
  v("language_model", llama_);
}

at::Tensor OpenVlaNetwork::picture_features(const at::Tensor& images) const {
  const at::Tensor of_dino = dino_(images.select(1, 0), activation_checkpointing),
                   of_siglip = siglip_(images.select(1, 1), activation_checkpointing);
  return projector_(at::cat({of_dino, of_siglip}, 2));
}

at::Tensor OpenVlaNetwork::prefix(const at::Tensor& features, const at::Tensor& prompt) const {
  const at::Tensor words = llama_.embed(prompt);
  return at::cat({words.narrow(1, 0, 1), features, words.narrow(1, 1, words.size(1) - 1)}, 1);
}

// In blocks of the vocabulary, recomputed in the backward pass: a float32 copy of a large head never exists whole.
at::Tensor OpenVlaNetwork::logits(const at::Tensor& rows, int64_t begin, int64_t end) const {
  const FullPrecision full(rows.device().type());
  const at::Tensor x = rows.to(at::kFloat);
  if (type() == at::kFloat) return llama_.head.rows(x, begin, end);
  std::vector<at::Tensor> blocks;
  for (int64_t first = begin; first < end; first += kHeadBlock) {
    const int64_t last = std::min(first + kHeadBlock, end);
    blocks.push_back(checkpointed(
        [this, first, last](const at::Tensor& in) { return llama_.head.rows(in, first, last); }, x, true));
  }
  return at::cat(blocks, -1);
}

std::vector<Logits> OpenVlaNetwork::score(const at::Tensor& features, const at::Tensor& prompt,
                                          const at::Tensor& prompt_mask,
                                          std::span<const at::Tensor> answers) const {
  std::vector<at::Tensor> sequence{prefix(features, prompt)};
  const int64_t begin = sequence[0].size(1);  // length of the prefix
  std::vector<int64_t> lengths;  // of what follows it: every token but an answer's last predicts one
  for (const at::Tensor& answer : answers) {
    lengths.push_back(answer.size(1) - 1);
    if (lengths.back() > 0) sequence.push_back(llama_.embed(answer.narrow(1, 0, lengths.back())));
  }
  const at::Tensor x = at::cat(sequence, 1);
  const int64_t total = x.size(1);

  const at::Tensor valid = prefix_validity(prompt, prompt_mask, features.size(1));
  const at::Tensor prefix_length = valid.to(at::kLong).sum(1, /*keepdim=*/true);
  std::vector<at::Tensor> positions{(valid.to(at::kLong).cumsum(1) - 1).clamp_min(0)};
  for (const int64_t length : lengths)
    positions.push_back(prefix_length + at::arange(length, prefix_length.options()).unsqueeze(0));
  const Rotation rotation(at::cat(positions, 1), shape_.llama.head_size, shape_.llama.rope_theta,
                          x.scalar_type());

  // every row sees what stands before it and is no padding; the second answer does not see the first
  at::Tensor visible = at::ones({total, total}, valid.options()).tril().unsqueeze(0);
  visible = visible.logical_and(
      at::cat({valid, at::ones({valid.size(0), total - begin}, valid.options())}, 1).unsqueeze(1));
  int64_t column = begin;
  for (const int64_t length : lengths) {
    const int64_t after = column + length;
    if (after < total) visible.slice(1, after, total).slice(2, column, after).fill_(false);
    column = after;
  }
  const at::Tensor hidden =
      llama_.run(x, rotation, additive_mask(visible, x.scalar_type()), begin - 1, activation_checkpointing);

  // row 0 stands for the prefix's last token, which predicts every answer's first
  const int64_t vocabulary = shape_.llama.vocabulary;
  const auto head = [this, vocabulary](const at::Tensor& rows) { return logits(rows, 0, vocabulary); };
  // an adapter on the head is another one by the time that pieces are read
  const int64_t piece_bytes =
      llama_.head.adapters.empty() ? logits_piece_bytes : std::numeric_limits<int64_t>::max();
  std::vector<Logits> scores;
  int64_t row = 1;
  const at::Tensor first = hidden.narrow(1, 0, 1);
  for (const int64_t length : lengths) {
    const at::Tensor rows =
        row == 1 ? hidden.narrow(1, 0, length + 1) : at::cat({first, hidden.narrow(1, row, length)}, 1);
    scores.emplace_back(rows, vocabulary, head, piece_bytes);
    row += length;
  }
  return scores;
}

at::Tensor OpenVlaNetwork::decode(const at::Tensor& features, const at::Tensor& prompt,
                                  const at::Tensor& prompt_mask, int64_t steps,
                                  std::pair<int64_t, int64_t> range,
                                  const std::function<at::Tensor(const at::Tensor&)>& choose) const {
  const at::NoGradGuard no_grad;
  at::Tensor x = prefix(features, prompt);
  const int64_t batch = x.size(0), begin = x.size(1), room = begin + steps - 1;
  const LlamaShape& llama = shape_.llama;
  const at::Tensor valid = prefix_validity(prompt, prompt_mask, features.size(1));
  const at::Tensor prefix_length = valid.to(at::kLong).sum(1, /*keepdim=*/true);

  std::vector<KeyValueCache> caches;
  for (size_t i = 0; i < llama_.layers.size(); ++i)
    caches.push_back({at::empty({batch, llama.key_heads, room, llama.head_size}, x.options()),
                      at::empty({batch, llama.key_heads, room, llama.head_size}, x.options())});
  at::Tensor mask, later_mask;  // undefined: nothing is padded
  if (prompt_mask.defined()) {
    mask = additive_mask(
        at::ones({begin, begin}, valid.options()).tril().unsqueeze(0).logical_and(valid.unsqueeze(1)),
        x.scalar_type());
    const at::Tensor seen = at::cat({valid, at::ones({valid.size(0), steps - 1}, valid.options())}, 1);
    later_mask = additive(seen.unsqueeze(1), x.scalar_type());
  }

  Rotation rotation((valid.to(at::kLong).cumsum(1) - 1).clamp_min(0), llama.head_size, llama.rope_theta,
                    x.scalar_type());
  at::Tensor ids = at::empty({batch, steps}, prompt.options());
  for (int64_t t = 0; t < steps; ++t) {
    if (t > 0) {
      x = llama_.embed(ids.narrow(1, t - 1, 1));
      rotation = Rotation(prefix_length + (t - 1), llama.head_size, llama.rope_theta, x.scalar_type());
      mask = later_mask.defined() ? later_mask.narrow(3, 0, begin + t) : later_mask;
    }
    for (size_t i = 0; i < llama_.layers.size(); ++i) {
      // of the last layer only the last row is read
      const int64_t first = i + 1 == llama_.layers.size() ? x.size(1) - 1 : 0;
      const at::Tensor seen = mask.defined() && first > 0 ? mask.narrow(2, first, 1) : mask;
      x = llama_.layers[i](x, rotation, seen, first, &caches[i]);
    }
    const at::Tensor logits = this->logits(llama_.norm(x), range.first, range.second + 1).squeeze(1);
    ids.select(1, t).copy_(choose(logits) + range.first);
  }
  return ids;
}

}  // namespace apo::models
