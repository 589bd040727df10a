// The decoders of VLA policies: Llama, and Gemma, which differs in norms, gate and embedding.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "models/sequence/layers.h"
#include "models/sequence/sequence.h"

namespace apo::models {

/// The sizes of a Llama. Head size and grouped keys follow from the projections' shapes.
struct LlamaShape {
  int64_t vocabulary = 32064;
  int64_t width = 4096;
  int64_t layers = 32;
  int64_t heads = 32;
  int64_t key_heads = 32;  ///< heads of keys and values; divides heads
  int64_t head_size = 128;
  int64_t mlp = 11008;
  double norm_epsilon = 1e-6;  ///< transformers' default, not Llama-2's own 1e-5
  double rope_theta = 10000;
  /// norms times 1 + weight, a tanh GELU in the gate, and words times sqrt(width)
  bool gemma = false;
};

/// x / rms(x) in float32, cast to x's type, times weight; on CUDA one kernel, which casts after the weight.
/// Gemma's: times 1 + weight in float32, then cast.
struct RmsNorm {
  RmsNorm(int64_t width, double epsilon, const at::TensorOptions& options, bool gemma = false);
  at::Tensor operator()(const at::Tensor& x) const;
  void visit(LayerVisitor& v);

  at::Tensor weight;  // [width]
  double epsilon;
  bool gemma;
};

/// Rotary position embedding of some positions, [B or 1, 1, T, head_size] each; halves are rotated, not
/// neighbours. Angles in float32, then the activations' type.
struct Rotation {
  /// positions [B or 1, T] int64
  Rotation(const at::Tensor& positions, int64_t head_size, double theta, at::ScalarType type);
  at::Tensor apply(const at::Tensor& heads) const;
  /// Positions from `begin` on.
  Rotation from(int64_t begin) const;

  at::Tensor cos, sin;

 private:
  Rotation(at::Tensor cos, at::Tensor sin) : cos(std::move(cos)), sin(std::move(sin)) {}
};

struct LlamaBlock {
  LlamaBlock(const LlamaShape& shape, const at::TensorOptions& options);
  /// Rows of `x` [B, T, width] from `first_row` on, after the block; `mask` is of these. With a cache, this
  /// call's keys and values are appended to it.
  at::Tensor operator()(const at::Tensor& x, const Rotation& rotation, const AttentionMask& mask,
                        int64_t first_row = 0, KeyValueCache* cache = nullptr) const;
  void visit(LayerVisitor& v);

  int64_t heads, key_heads, head_size;
  bool gemma;
  RmsNorm input_norm;
  Linear query, key, value, output;
  RmsNorm mlp_norm;
  Linear gate, up, down;
};

/// Embedding, blocks, final norm and head, under transformers' names (model.layers.0.self_attn.q_proj ...).
/// Source  transformers modeling_llama.py
struct Llama {
  Llama(const LlamaShape& shape, const at::TensorOptions& options);
  /// [..] int64 ids -> [.., width]
  at::Tensor embed(const at::Tensor& ids) const;
  /// As SequenceNetwork::logits, in float32 whatever the weights' type.
  at::Tensor logits(const at::Tensor& rows, int64_t begin, int64_t end) const;
  /// As SequenceNetwork::run.
  at::Tensor run(at::Tensor x, const Rows& rows, int64_t first_row, std::vector<KeyValueCache>* caches,
                 bool activation_checkpointing) const;
  std::vector<KeyValueCache> make_caches(int64_t batch, int64_t room) const;
  void visit(LayerVisitor& v);

  LlamaShape shape;
  at::Tensor embedding;  // [vocabulary, width]
  std::vector<LlamaBlock> layers;
  RmsNorm norm;
  Linear head;
};

}  // namespace apo::models
