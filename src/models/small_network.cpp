#include "models/small_network.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <cmath>
#include <limits>

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
      position_(at::empty(
          {shape.patches() + shape.prompt_length + (shape.state_size > 0) + shape.action_size, shape.width},
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
  // Channels last: the layout that convolutions work in, and the one in which `encode` stacks camera pictures.
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

at::Tensor SmallNetwork::positions(int64_t prompt_length, int64_t length, int64_t answers) const {
  const int64_t after_prompt = shape_.patches() + shape_.prompt_length, state = shape_.state_size > 0 ? 1 : 0;
  std::vector<at::Tensor> parts{position_.narrow(0, 0, shape_.patches() + prompt_length)};
  parts.push_back(position_.narrow(0, after_prompt, state + (answers > 0 ? length : 0)));
  for (int64_t i = 1; i < answers; ++i) parts.push_back(position_.narrow(0, after_prompt + state, length));
  return at::cat(parts, 0);
}

at::Tensor SmallNetwork::attention_mask(const PolicyInput& input, int64_t prefix,
                                        std::span<const int64_t> lengths) const {
  int64_t total = prefix;
  for (const int64_t length : lengths) total += length;
  const at::TensorOptions options = word_.options().requires_grad(false);
  const double hidden = -std::numeric_limits<double>::infinity();
  at::Tensor mask = at::full({total, total}, hidden, options);
  mask.narrow(1, 0, prefix).zero_();  // everyone sees the whole prefix
  int64_t begin = prefix;
  for (const int64_t length : lengths) {  // an answer sees its own past
    mask.narrow(0, begin, length)
        .narrow(1, begin, length)
        .copy_(at::full({length, length}, hidden, options).triu(1));
    begin += length;
  }
  if (!input.prompt_mask.defined()) return mask;
  at::Tensor columns = at::zeros({input.size(), 1, 1, total}, options);
  columns.narrow(3, shape_.patches(), input.prompt.size(1))
      .masked_fill_(input.prompt_mask.logical_not().view({input.size(), 1, 1, -1}), hidden);
  return mask + columns;
}

std::vector<at::Tensor> SmallNetwork::score(const PolicyInput& input,
                                            std::span<const at::Tensor> answers) const {
  std::vector<at::Tensor> tokens = prefix_tokens(input);
  std::vector<int64_t> lengths;
  int64_t prefix = 0, answered = 0;
  for (const at::Tensor& part : tokens) prefix += part.size(1);
  for (const at::Tensor& answer : answers) {
    lengths.push_back(answer.size(1));
    answered += lengths.back();
    tokens.push_back(begin_.expand({input.size(), 1, shape_.width}));
    tokens.push_back(at::embedding(action_, answer.narrow(1, 0, lengths.back() - 1)));
  }
  at::Tensor x = at::cat(tokens, 1);
  x = x + positions(input.prompt.size(1), lengths[0], static_cast<int64_t>(lengths.size()));
  at::Tensor mask = attention_mask(input, prefix, lengths);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    Block::Heads heads = blocks_[i].project(x);
    if (i + 1 == blocks_.size()) {  // only the answers are asked for anything
      x = x.narrow(1, prefix, answered);
      heads.query = heads.query.narrow(2, prefix, answered);
      mask = mask.narrow(-2, prefix, answered);
    }
    x = blocks_[i].finish(x, at::scaled_dot_product_attention(heads.query, heads.key, heads.value, mask));
  }
  return head_(norm_(x)).split_with_sizes(lengths, 1);
}

at::Tensor SmallNetwork::decode(const PolicyInput& input,
                                const std::function<at::Tensor(const at::Tensor&)>& choose) const {
  const at::NoGradGuard no_grad;
  const int64_t batch = input.size(), prompt_length = input.prompt.size(1), steps = shape_.action_size;
  at::Tensor x = at::cat(prefix_tokens(input), 1);
  const int64_t prefix = x.size(1);
  const at::Tensor position = positions(prompt_length, steps, 1);
  x = x + position.narrow(0, 0, prefix);

  // Keys and values of every layer, with room for the action tokens.
  std::vector<std::pair<at::Tensor, at::Tensor>> cache;
  std::optional<at::Tensor> mask;
  if (input.prompt_mask.defined()) mask = attention_mask(input, prefix, std::vector<int64_t>{steps});
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Block::Heads heads = blocks_[i].project(x);
    const std::vector<int64_t> room{batch, shape_.heads, prefix + steps, shape_.width / shape_.heads};
    cache.emplace_back(at::empty(room, heads.key.options()), at::empty(room, heads.value.options()));
    cache.back().first.narrow(2, 0, prefix).copy_(heads.key);
    cache.back().second.narrow(2, 0, prefix).copy_(heads.value);
    if (i + 1 == blocks_.size()) break;  // nobody reads the prefix after the last layer's keys and values
    const auto seen = mask ? std::optional(mask->narrow(-2, 0, prefix).narrow(-1, 0, prefix)) : std::nullopt;
    x = blocks_[i].finish(x, at::scaled_dot_product_attention(heads.query, heads.key, heads.value, seen));
  }

  at::Tensor token = begin_.expand({batch, 1, shape_.width}),
             ids = at::empty({batch, steps}, input.prompt.options());
  for (int64_t t = 0; t < steps; ++t) {
    x = token + position.narrow(0, prefix + t, 1);
    const int64_t length = prefix + t + 1;
    const auto seen =
        mask ? std::optional(mask->narrow(-2, length - 1, 1).narrow(-1, 0, length)) : std::nullopt;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      const Block::Heads heads = blocks_[i].project(x);
      cache[i].first.narrow(2, length - 1, 1).copy_(heads.key);
      cache[i].second.narrow(2, length - 1, 1).copy_(heads.value);
      x = blocks_[i].finish(x,
                            at::scaled_dot_product_attention(heads.query, cache[i].first.narrow(2, 0, length),
                                                             cache[i].second.narrow(2, 0, length), seen));
    }
    const at::Tensor chosen = choose(head_(norm_(x)).squeeze(1));
    ids.select(1, t).copy_(chosen);
    if (t + 1 < steps) token = at::embedding(action_, chosen.unsqueeze(1));
  }
  return ids;
}

}  // namespace apo::models
