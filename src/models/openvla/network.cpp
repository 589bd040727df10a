#include "models/openvla/network.h"

#include <torch/types.h>

#include <limits>

#include "apo/base/error.h"

namespace apo::models {
namespace {

// [B, L] prompt mask -> [B, P + L] true where the prefix is no padding; undefined: nothing is.
at::Tensor prefix_validity(const at::Tensor& prompt_mask, int64_t patches) {
  if (!prompt_mask.defined()) return {};
  return at::cat(
      {prompt_mask.narrow(1, 0, 1), at::ones({prompt_mask.size(0), patches}, prompt_mask.options()),
       prompt_mask.narrow(1, 1, prompt_mask.size(1) - 1)},
      1);
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

StateProjector::StateProjector(int64_t in, int64_t out, const at::TensorOptions& options) {
  if (in == 0) return;
  weight1 = at::empty({out, in}, options), bias1 = at::empty({out}, options);
  weight2 = at::empty({out, out}, options), bias2 = at::empty({out}, options);
}

at::Tensor StateProjector::operator()(const at::Tensor& state) const {
  return at::linear(at::gelu(at::linear(state, weight1, bias1)), weight2, bias2).unsqueeze(1);
}

void StateProjector::visit(LayerVisitor& v) {
  v("fc1.weight", weight1);
  v("fc1.bias", bias1);
  v("fc2.weight", weight2);
  v("fc2.bias", bias2);
}

OpenVlaNetwork::OpenVlaNetwork(const OpenVlaShape& shape, const at::TensorOptions& options)
    : shape_(shape),
      dino_(shape.dino, options),
      siglip_(shape.siglip, options),
      projector_(shape.dino.width + shape.siglip.width, shape.projector, shape.llama.width, options),
      state_projector_(shape.state_size, shape.llama.width, options),
      llama_(shape.llama, options) {}

void OpenVlaNetwork::visit(LayerVisitor& v) {
  v("vision_backbone.featurizer", dino_);
  v("vision_backbone.fused_featurizer", siglip_);
  v("projector", projector_);
  v("language_model", llama_);
  v("proprio_projector", state_projector_);
}

at::Tensor OpenVlaNetwork::picture_features(const at::Tensor& images) const {
  const int64_t batch = images.size(0), count = images.size(1) / 2;
  const at::Tensor pairs = images.view({batch * count, 2, 3, images.size(3), images.size(4)});
  const at::Tensor of_dino = dino_(pairs.select(1, 0), activation_checkpointing),
                   of_siglip = siglip_(pairs.select(1, 1), activation_checkpointing);
  const at::Tensor features = projector_(at::cat({of_dino, of_siglip}, 2));
  return count == 1 ? features : features.view({batch, count * features.size(1), features.size(2)});
}

at::Tensor OpenVlaNetwork::state_feature(const at::Tensor& state) const {
  return state_projector_(state.to(type()));
}

at::Tensor OpenVlaNetwork::prefix(const at::Tensor& features, const at::Tensor& prompt) const {
  const at::Tensor words = llama_.embed(prompt);
  return at::cat({words.narrow(1, 0, 1), features, words.narrow(1, 1, words.size(1) - 1)}, 1);
}

at::Tensor OpenVlaNetwork::logits(const at::Tensor& rows, int64_t begin, int64_t end) const {
  return llama_.logits(rows, begin, end);
}

at::Tensor OpenVlaNetwork::embed(const at::Tensor& ids, int64_t) const { return llama_.embed(ids); }

at::Tensor OpenVlaNetwork::run(at::Tensor x, const Rows& rows, int64_t first_row,
                               std::vector<KeyValueCache>* caches) const {
  return llama_.run(std::move(x), rows, first_row, caches, activation_checkpointing);
}

std::vector<KeyValueCache> OpenVlaNetwork::make_caches(int64_t batch, int64_t room) const {
  return llama_.make_caches(batch, room);
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
  const SequenceLayout layout(prefix_validity(prompt_mask, features.size(1)), begin, x.device(),
                              PrefixAttention::causal, lengths);
  // the prefix's last token predicts every answer's first
  const at::Tensor hidden =
      run(x, {layout, 0, layout.size(), layout.whole(x.scalar_type())}, begin - 1, nullptr);

  std::vector<Logits> scores;
  for (const at::Tensor& rows : layout.predicting(hidden, /*with_prefix=*/true))
    scores.push_back(logits_of(rows, {0, shape_.llama.vocabulary - 1}));
  return scores;
}

Logits OpenVlaNetwork::logits_of(const at::Tensor& rows, std::pair<int64_t, int64_t> ids) const {
  const int64_t begin = ids.first, end = ids.second + 1;
  const auto head = [this, begin, end](const at::Tensor& some) { return logits(some, begin, end); };
  // an adapter on the head is another one by the time that pieces are read
  const int64_t piece_bytes = llama_.head.adapters.empty() ? logits_piece_bytes : Logits::kAtOnce;
  return {rows, end - begin, head, piece_bytes};
}

// One sequence that is all prefix, seen whole by each of its rows.
at::Tensor OpenVlaNetwork::parallel(const at::Tensor& features, const at::Tensor& prompt,
                                    const at::Tensor& prompt_mask, const ActionPlaces& places) const {
  const at::Tensor before = prefix(features, prompt);
  const int64_t batch = before.size(0), first = before.size(1) - 1;
  std::vector<at::Tensor> sequence{before, before.new_zeros({batch, places.count, before.size(2)})};
  if (places.stop)
    sequence.push_back(llama_.embed(at::full({1, 1}, *places.stop, prompt.options())).expand({batch, 1, -1}));
  const at::Tensor x = at::cat(sequence, 1);
  at::Tensor valid = prefix_validity(prompt_mask, features.size(1));
  if (valid.defined())
    valid = at::cat({valid, at::ones({batch, x.size(1) - before.size(1)}, valid.options())}, 1);
  const SequenceLayout layout(valid, x.size(1), x.device(), PrefixAttention::full, {});
  const at::Tensor hidden = run(x, {layout, 0, x.size(1), layout.prefill(x.scalar_type())}, first, nullptr);
  return hidden.narrow(1, 0, places.count);
}

at::Tensor OpenVlaNetwork::decode(const at::Tensor& features, const at::Tensor& prompt,
                                  const at::Tensor& prompt_mask, int64_t steps,
                                  std::pair<int64_t, int64_t> ids, const TokenChooser& choose,
                                  const at::Tensor& draft) const {
  return models::decode(*this, {.prefix = prefix(features, prompt),
                                .valid = prefix_validity(prompt_mask, features.size(1)),
                                .steps = steps,
                                .ids = ids,
                                .draft = draft,
                                .choose = choose});
}

}  // namespace apo::models
