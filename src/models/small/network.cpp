#include "models/small/network.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <cmath>
#include <tuple>

#include "apo/base/error.h"
#include "apo/base/random.h"

namespace apo::models {
namespace {

constexpr int64_t kStateFeatures = 5;  // of each number: v, sin 2v, cos 2v, sin 5v, cos 5v
constexpr double kPromptGain =
    8;  // word embeddings are small; this brings their mean to the scale of the rest

// x (1 + gain) + shift, with gain and shift [B, 2C] from the prompt, one pair a channel.
at::Tensor modulate(const at::Tensor& x, const at::Tensor& gain_and_shift) {
  const auto parts = gain_and_shift.unsqueeze(-1).unsqueeze(-1).chunk(2, 1);
  return at::addcmul(parts[1], x, parts[0] + 1);
}

at::Tensor state_features(const at::Tensor& state) {
  const at::Tensor twice = 2 * state, five = 5 * state;
  return at::cat({state, twice.sin(), twice.cos(), five.sin(), five.cos()}, 1);
}

// Uniform in +-1/sqrt(fan_in), the start of every bias and convolution.
void fill_uniform(at::Tensor& tensor, int64_t fan_in, at::Generator& generator) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(fan_in));
  tensor.uniform_(-bound, bound, generator);
}

void fill_convolution(Convolution& layer, at::Generator& generator) {
  const int64_t fan_in = layer.weight.numel() / layer.weight.size(0);
  fill_uniform(layer.weight, fan_in, generator);
  fill_uniform(layer.bias, fan_in, generator);
}

void fill_linear(Linear& layer, double deviation, at::Generator& generator) {
  layer.weight.normal_(0, deviation, generator);
  if (layer.bias.defined()) fill_uniform(layer.bias, layer.in_features(), generator);
}

void fill_norm(LayerNorm& layer) {
  layer.weight.fill_(1);
  layer.bias.zero_();
}

std::vector<Block> make_blocks(const SmallShape& shape, const at::TensorOptions& options) {
  std::vector<Block> blocks;
  blocks.reserve(static_cast<size_t>(shape.layers));
  for (int64_t i = 0; i < shape.layers; ++i) blocks.emplace_back(shape.width, shape.heads, options);
  return blocks;
}

}  // namespace

SmallNetwork::SmallNetwork(const SmallShape& shape, const at::TensorOptions& options)
    : shape_(shape),
      conv1_(3, shape.channels, 5, 2, 2, options),
      conv2_(shape.channels, 2 * shape.channels, 3, 2, 1, options),
      conv3_(2 * shape.channels, 2 * shape.channels, 3, 2, 1, options),
      patch_(2 * shape.channels, shape.width, 2, 2, 0, options),
      film1_(shape.width, 2 * shape.channels, true, options),
      film2_(shape.width, 4 * shape.channels, true, options),
      film3_(shape.width, 4 * shape.channels, true, options),
      word_(at::empty({shape.vocabulary, shape.width}, options)),
      begin_(at::empty({shape.width}, options)),
      action_(at::empty({shape.action_bins, shape.width}, options)),
      position_(
          at::empty({shape.patches() + shape.prompt_length + (shape.state_size > 0) + shape.answer_length(),
                     shape.width},
                    options)),
      blocks_(make_blocks(shape, options)),
      norm_(shape.width, 1e-5, options),
      head_(shape.width, shape.action_bins, true, options) {
  if (shape.state_size == 0) return;
  state1_ = Linear(kStateFeatures * shape.state_size, shape.width, true, options);
  state2_ = Linear(shape.width, shape.width, true, options);
}

void SmallNetwork::visit(LayerVisitor& v) {
  v("conv1", conv1_);
  v("conv2", conv2_);
  v("conv3", conv3_);
  v("patch", patch_);
  v("film1", film1_);
  v("film2", film2_);
  v("film3", film3_);
  v("word", word_);
  if (shape_.state_size > 0) {
    v("state1", state1_);
    v("state2", state2_);
  }
  v("begin", begin_);
  v("action", action_);
  v("position", position_);
  v("blocks", blocks_);
  v("norm", norm_);
  v("head", head_);
}

void SmallNetwork::initialize(uint64_t seed) {
  const at::NoGradGuard no_grad;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(mix_seed(seed, "small network"));
  for (Convolution* layer : {&conv1_, &conv2_, &conv3_, &patch_}) fill_convolution(*layer, generator);
  for (Linear* layer : {&film1_, &film2_, &film3_}) fill_linear(*layer, 0.02, generator);
  word_.normal_(0, 0.02, generator);
  if (shape_.state_size > 0) {
    fill_linear(state1_, 0.15, generator);
    fill_linear(state2_, 0.15, generator);
  }
  begin_.zero_();
  // Neighbouring bins start with similar embeddings.
  const at::Tensor value = at::linspace(-1, 1, shape_.action_bins).unsqueeze(1);
  const at::Tensor frequency = at::arange(1, shape_.width / 2 + 1).unsqueeze(0) * 1.5;
  action_.copy_(at::cat({(value * frequency).sin(), (value * frequency).cos()}, 1) * 0.05);
  position_.normal_(0, 0.02, generator);
  for (Block& block : blocks_) {
    fill_norm(block.norm1);
    fill_norm(block.norm2);
    for (Linear* layer : {&block.qkv, &block.out, &block.fc1, &block.fc2})
      fill_linear(*layer, 0.02, generator);
  }
  fill_norm(norm_);
  fill_linear(head_, 0.01, generator);
}

at::Tensor SmallNetwork::picture_tokens(const at::Tensor& images, const at::Tensor& prompt_meaning) const {
  const int64_t batch = images.size(0), cameras = images.size(1);
  // One row a camera; every camera of a sample sees the same prompt.
  const at::Tensor meaning = cameras == 1 ? prompt_meaning : prompt_meaning.repeat_interleave(cameras, 0);
  // Channels last: the layout that convolutions work in, and the one in which `encode` stacks camera
  // pictures.
  at::Tensor x = images.flatten(0, 1).contiguous(at::MemoryFormat::ChannelsLast);
  x = at::gelu(modulate(conv1_(x), film1_(meaning)));
  x = at::gelu(modulate(conv2_(x), film2_(meaning)));
  x = at::gelu(modulate(conv3_(x), film3_(meaning)));
  x = patch_(x).flatten(2).transpose(1, 2);  // [B * cameras, patches of one, width]
  return x.reshape({batch, -1, shape_.width});
}

std::vector<at::Tensor> SmallNetwork::prefix_tokens(const PolicyInput& input) const {
  const at::Tensor words = at::embedding(word_, input.prompt);
  at::Tensor meaning;
  if (input.prompt_mask.defined()) {
    const at::Tensor mask = input.prompt_mask.unsqueeze(-1).to(words.scalar_type());
    meaning = (words * mask).sum(1) / mask.sum(1).clamp_min(1);
  } else {
    meaning = words.mean(1);
  }
  std::vector<at::Tensor> tokens{picture_tokens(input.images, meaning * kPromptGain), words};
  if (shape_.state_size > 0)
    tokens.push_back(state2_(at::gelu(state1_(state_features(input.state)))).unsqueeze(1));
  return tokens;
}

at::Tensor SmallNetwork::validity(const PolicyInput& input) const {
  if (!input.prompt_mask.defined()) return {};
  const at::TensorOptions options = input.prompt_mask.options();
  return at::cat({at::ones({input.size(), shape_.patches()}, options), input.prompt_mask,
                  at::ones({input.size(), shape_.state_size > 0 ? 1 : 0}, options)},
                 1);
}

int64_t SmallNetwork::first_action_position() const {
  return shape_.patches() + shape_.prompt_length + (shape_.state_size > 0 ? 1 : 0);
}

at::Tensor SmallNetwork::positions(int64_t prompt_length, int64_t length, int64_t answers) const {
  const int64_t after_prompt = shape_.patches() + shape_.prompt_length,
                state = first_action_position() - after_prompt;
  std::vector<at::Tensor> parts{position_.narrow(0, 0, shape_.patches() + prompt_length)};
  parts.push_back(position_.narrow(0, after_prompt, state + (answers > 0 ? length : 0)));
  for (int64_t i = 1; i < answers; ++i) parts.push_back(position_.narrow(0, first_action_position(), length));
  return at::cat(parts, 0);
}

at::Tensor SmallNetwork::embed(const at::Tensor& ids, int64_t t) const {
  return at::embedding(action_, ids) + position_.narrow(0, first_action_position() + t, ids.size(1));
}

at::Tensor SmallNetwork::run(at::Tensor x, const Rows& rows, int64_t first_row,
                             std::vector<KeyValueCache>* caches) const {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    Block::Heads heads = blocks_[i].project(x);
    if (caches != nullptr) std::tie(heads.key, heads.value) = (*caches)[i].append(heads.key, heads.value);
    AttentionMask mask = rows.mask;
    if (i + 1 == blocks_.size() && first_row > 0) {
      const int64_t wanted = x.size(1) - first_row;
      if (wanted == 0) return x;
      x = x.narrow(1, first_row, wanted);
      heads.query = heads.query.narrow(2, first_row, wanted);
      mask = mask.from(first_row);
    }
    x = blocks_[i].finish(x, attend(heads.query, heads.key, heads.value, mask));
  }
  return norm_(x);
}

std::vector<KeyValueCache> SmallNetwork::make_caches(int64_t batch, int64_t room) const {
  std::vector<KeyValueCache> caches;
  const std::vector<int64_t> shape{batch, shape_.heads, room, shape_.width / shape_.heads};
  for (size_t i = 0; i < blocks_.size(); ++i)
    caches.push_back({at::empty(shape, word_.options().requires_grad(false)),
                      at::empty(shape, word_.options().requires_grad(false))});
  return caches;
}

at::Tensor SmallNetwork::logits(const at::Tensor& rows, int64_t begin, int64_t end) const {
  const at::Tensor all = head_(rows);
  return begin == 0 && end == shape_.action_bins ? all : all.narrow(-1, begin, end - begin);
}

std::vector<at::Tensor> SmallNetwork::score(const PolicyInput& input,
                                            std::span<const at::Tensor> answers) const {
  std::vector<at::Tensor> tokens = prefix_tokens(input);
  std::vector<int64_t> lengths;
  int64_t prefix = 0;
  for (const at::Tensor& part : tokens) prefix += part.size(1);
  for (const at::Tensor& answer : answers) {
    lengths.push_back(answer.size(1));
    tokens.push_back(begin_.expand({input.size(), 1, shape_.width}));
    tokens.push_back(at::embedding(action_, answer.narrow(1, 0, lengths.back() - 1)));
  }
  at::Tensor x = at::cat(tokens, 1);
  x = x + positions(input.prompt.size(1), lengths[0], std::ssize(lengths));
  const SequenceLayout layout(validity(input), prefix, x.device(), PrefixAttention::full, lengths);
  const at::Tensor rows =
      run(x, {layout, 0, layout.size(), layout.whole(word_.scalar_type())}, prefix, nullptr);
  return layout.predicting(logits(rows, 0, shape_.action_bins), /*with_prefix=*/false);
}

at::Tensor SmallNetwork::decode(const PolicyInput& input, const TokenChooser& choose) const {
  const at::NoGradGuard no_grad;
  const at::Tensor begin = begin_ + position_[first_action_position()];
  return models::decode(*this,
                        {.prefix = at::cat(prefix_tokens(input), 1) + positions(input.prompt.size(1), 0, 0),
                         .begin = begin.expand({input.size(), 1, shape_.width}),
                         .attention = PrefixAttention::full,
                         .valid = validity(input),
                         .steps = shape_.answer_length(),
                         .ids = {0, shape_.action_bins - 1},
                         .choose = choose});
}

}  // namespace apo::models
