#include "models/openvla/llama.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "apo/base/error.h"
#include "base/checkpointed.h"
#include "models/sequence/elementwise.h"

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

// [B, T, heads size] -> [B, heads, T, size]
at::Tensor split_heads(const at::Tensor& x, int64_t heads) {
  return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
}

void refuse_second_derivative() {
  APO_CHECK(RunError, !at::GradMode::is_enabled(),
            "policy: its layers have no second derivative; call backward without create_graph");
}

// Keeps only its two inputs for the backward pass.
struct GatedUnit : torch::autograd::Function<GatedUnit> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& gate,
                            const at::Tensor& up) {
    context->save_for_backward({gate, up});
    return gated_unit(gate, up);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradient) {
    refuse_second_derivative();
    const auto saved = context->get_saved_variables();
    const auto [of_gate, of_up] = gated_unit_gradients(gradient[0], saved[0], saved[1]);
    return {of_gate, of_up};
  }
};

at::Tensor gated_and_recorded(const at::Tensor& gate, const at::Tensor& up) {
  return at::GradMode::is_enabled() && (gate.requires_grad() || up.requires_grad())
             ? GatedUnit::apply(gate, up)
             : gated_unit(gate, up);
}

// Keeps no heads for the backward pass.
struct Rotated : torch::autograd::Function<Rotated> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& heads,
                            const at::Tensor& cos, const at::Tensor& sin) {
    context->save_for_backward({cos, sin});
    return rotate(heads, cos, sin, 1);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradient) {
    refuse_second_derivative();
    const auto saved = context->get_saved_variables();
    return {rotate(gradient[0], saved[0], saved[1], -1), at::Tensor(), at::Tensor()};
  }
};

// Keeps its input and a number a row for the backward pass.
struct RmsNormed : torch::autograd::Function<RmsNormed> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight, double offset, double epsilon) {
    const auto [out, scale] = rms_norm(x, weight, offset, epsilon);
    context->save_for_backward({x, weight, scale});
    context->saved_data["offset"] = offset;
    return out;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradient) {
    refuse_second_derivative();
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &scale = saved[2];
    at::Tensor of_x, of_weight;
    if (context->needs_input_grad(0))
      of_x = rms_norm_gradient(gradient[0], x, weight, scale, context->saved_data["offset"].toDouble());
    if (context->needs_input_grad(1))
      of_weight = (gradient[0] * x * scale.unsqueeze(-1)).sum_to_size(weight.sizes());
    return {of_x, of_weight, at::Tensor(), at::Tensor()};
  }
};

at::Tensor repeat_heads(const at::Tensor& x, int64_t times) {
  return times == 1 ? x : x.repeat_interleave(times, 1);
}

}  // namespace

RmsNorm::RmsNorm(int64_t width, double epsilon, const at::TensorOptions& options, bool gemma)
    : weight(at::empty({width}, options)), epsilon(epsilon), gemma(gemma) {}

at::Tensor RmsNorm::operator()(const at::Tensor& x) const {
  if (!gemma && x.is_cuda() && x.scalar_type() == weight.scalar_type())
    return std::get<0>(at::_fused_rms_norm(x, weight.sizes(), weight, epsilon));
  if (has_rms_norm(x, weight)) {
    const double offset = gemma ? 1 : 0;
    return at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad())
               ? RmsNormed::apply(x, weight, offset, epsilon)
               : rms_norm(x, weight, offset, epsilon).first;
  }
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor scale = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + epsilon);
  if (gemma) return (wide * scale * (weight.to(at::kFloat) + 1)).to(x.scalar_type());
  return (wide * scale).to(x.scalar_type()) * weight;
}

void RmsNorm::visit(LayerVisitor& v) { v("weight", weight); }

Rotation::Rotation(const at::Tensor& positions, int64_t head_size, double theta, at::ScalarType type) {
  const at::TensorOptions options = at::TensorOptions(at::kFloat).device(positions.device());
  const at::Tensor exponent = at::arange(0, head_size, 2, options) / static_cast<double>(head_size);
  const at::Tensor frequency = 1.0 / at::pow(theta, exponent);
  at::Tensor angle = positions.to(at::kFloat).unsqueeze(-1) * frequency;
  angle = at::cat({angle, angle}, -1).unsqueeze(1);
  cos = angle.cos().to(type);
  sin = angle.sin().to(type);
}

at::Tensor Rotation::apply(const at::Tensor& heads) const {
  return at::GradMode::is_enabled() && heads.requires_grad() ? Rotated::apply(heads, cos, sin)
                                                             : rotate(heads, cos, sin, 1);
}

Rotation Rotation::from(int64_t begin) const {
  const int64_t rest = cos.size(2) - begin;
  return {cos.narrow(2, begin, rest), sin.narrow(2, begin, rest)};
}

LlamaBlock::LlamaBlock(const LlamaShape& shape, const at::TensorOptions& options)
    : heads(shape.heads),
      key_heads(shape.key_heads),
      head_size(shape.head_size),
      gemma(shape.gemma),
      input_norm(shape.width, shape.norm_epsilon, options, shape.gemma),
      query(shape.width, shape.heads * shape.head_size, false, options),
      key(shape.width, shape.key_heads * shape.head_size, false, options),
      value(shape.width, shape.key_heads * shape.head_size, false, options),
      output(shape.heads * shape.head_size, shape.width, false, options),
      mlp_norm(shape.width, shape.norm_epsilon, options, shape.gemma),
      gate(shape.width, shape.mlp, false, options),
      up(shape.width, shape.mlp, false, options),
      down(shape.mlp, shape.width, false, options) {}

at::Tensor LlamaBlock::operator()(const at::Tensor& x, const Rotation& rotation, const AttentionMask& mask,
                                  int64_t first_row, KeyValueCache* cache) const {
  const int64_t batch = x.size(0), length = x.size(1), rows = length - first_row;
  const at::Tensor normed = input_norm(x);
  const at::Tensor wanted = first_row == 0 ? normed : normed.narrow(1, first_row, rows);
  const at::Tensor q =
      (first_row == 0 ? rotation : rotation.from(first_row)).apply(split_heads(query(wanted), heads));
  at::Tensor k = rotation.apply(split_heads(key(normed), key_heads));
  at::Tensor v = split_heads(value(normed), key_heads);
  if (cache != nullptr) std::tie(k, v) = cache->append(k, v);
  if (rows == 0) return x.narrow(1, 0, 0);  // for the cache alone
  APO_ASSERT(!mask.causal || (first_row == 0 && k.size(2) == length));
  const at::Tensor attended =
      attend(q, repeat_heads(k, heads / key_heads), repeat_heads(v, heads / key_heads), mask);
  const at::Tensor before = first_row == 0 ? x : x.narrow(1, first_row, rows);
  const at::Tensor y = before + output(attended.transpose(1, 2).reshape({batch, rows, heads * head_size}));
  const at::Tensor z = mlp_norm(y);
  return y + down(gemma ? at::gelu(gate(z), "tanh") * up(z) : gated_and_recorded(gate(z), up(z)));
}

void LlamaBlock::visit(LayerVisitor& v) {
  v("self_attn.q_proj", query);
  v("self_attn.k_proj", key);
  v("self_attn.v_proj", value);
  v("self_attn.o_proj", output);
  v("mlp.gate_proj", gate);
  v("mlp.up_proj", up);
  v("mlp.down_proj", down);
  v("input_layernorm", input_norm);
  v("post_attention_layernorm", mlp_norm);
}

Llama::Llama(const LlamaShape& shape, const at::TensorOptions& options)
    : shape(shape),
      embedding(at::empty({shape.vocabulary, shape.width}, options)),
      norm(shape.width, shape.norm_epsilon, options, shape.gemma),
      head(shape.width, shape.vocabulary, false, options) {
  layers.reserve(static_cast<size_t>(shape.layers));
  for (int64_t i = 0; i < shape.layers; ++i) layers.emplace_back(shape, options);
}

// Gemma's factor is rounded to the activations' type.
at::Tensor Llama::embed(const at::Tensor& ids) const {
  const at::Tensor words = at::embedding(embedding, ids);
  if (!shape.gemma) return words;
  const at::Tensor factor =
      at::scalar_tensor(std::sqrt(static_cast<double>(shape.width))).to(words.scalar_type());
  return words * factor.item<double>();
}

// In blocks of the vocabulary, recomputed in the backward pass: a float32 copy of a large head never exists
// whole.
at::Tensor Llama::logits(const at::Tensor& rows, int64_t begin, int64_t end) const {
  const FullPrecision full(rows.device().type());
  const at::Tensor x = rows.to(at::kFloat);
  if (embedding.scalar_type() == at::kFloat) return head.rows(x, begin, end);
  std::vector<at::Tensor> blocks;
  for (int64_t first = begin; first < end; first += kHeadBlock) {
    const int64_t last = std::min(first + kHeadBlock, end);
    blocks.push_back(checkpointed(
        [this, first, last](const at::Tensor& in) { return head.rows(in, first, last); }, x, true));
  }
  return at::cat(blocks, -1);
}

at::Tensor Llama::run(at::Tensor x, const Rows& rows, int64_t first_row, std::vector<KeyValueCache>* caches,
                      bool activation_checkpointing) const {
  const Rotation rotation(rows.positions(), shape.head_size, shape.rope_theta, x.scalar_type());
  for (size_t i = 0; i < layers.size(); ++i) {
    // the last layer computes only the rows that somebody reads
    const int64_t first = i + 1 == layers.size() ? first_row : 0;
    // of a single row (or none), causal or not, all keys are before it
    const AttentionMask mask =
        first + 1 >= x.size(1) && rows.mask.causal ? AttentionMask{} : rows.mask.from(first);
    KeyValueCache* cache = caches != nullptr ? &(*caches)[i] : nullptr;
    const auto layer = [&block = layers[i], rotation, mask, first, cache](const at::Tensor& in) {
      return block(in, rotation, mask, first, cache);
    };
    x = checkpointed(layer, x, activation_checkpointing && caches == nullptr);
  }
  return norm(x);
}

std::vector<KeyValueCache> Llama::make_caches(int64_t batch, int64_t room) const {
  std::vector<KeyValueCache> caches;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto make = [&] {
      return at::empty({batch, shape.key_heads, room, shape.head_size},
                       embedding.options().requires_grad(false));
    };
    caches.push_back({make(), make()});
  }
  return caches;
}

void Llama::visit(LayerVisitor& v) {
  v("model.embed_tokens.weight", embedding);
  v("model.layers", layers);
  v("model.norm", norm);
  v("lm_head", head);
}

}  // namespace apo::models
