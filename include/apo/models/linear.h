// The one linear layer of every policy: a base weight and any number of low-rank adapters in named slots.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apo/models/lora.h"

namespace apo::models {

struct AdapterCast;

/// One slot's part of a linear layer: y += scale · B (A x).
struct LinearAdapter {
  std::string slot;
  at::Tensor a;                                               ///< [rank, in]
  at::Tensor b;                                               ///< [out, rank]
  double scale = 1;                                           ///< alpha / rank, or alpha / sqrt(rank)
  mutable std::shared_ptr<const AdapterCast> cast = nullptr;  ///< in another type: made where it is needed
  bool was_zero = false;                                      ///< B, when `note_zeros` looked,
  int64_t version_looked_at = -1;                             ///< at this version of it

  /// Nothing trains B, and it is still the zero that `note_zeros` saw: products leave it out.
  bool stays_zero() const;
};

/// A frozen weight [out, in] in few bits: decoded next to each product, in forward and backward pass, and
/// never kept decoded. What `codes` holds says how:
///   int8           code times the row's scale, the row's largest number being 127
///   float8_e4m3fn  the same, the largest number being 448
///   uint8          NF4 (QLoRA, arXiv 2305.14314, appendix E): two numbers a byte, the first in the high
///                  four bits, each one of 16 levels times the scale of its 64 neighbours in the row; as
///                  bitsandbytes lays it out
struct QuantizedWeight {
  at::Tensor codes;   ///< [out, in], NF4 [out, in / 2]; undefined: not quantized
  at::Tensor scales;  ///< float32 [out, 1], NF4 [out, in / 64]
};

/// y = W x + bias, plus the adapter of the active slot where this layer carries one.
///
/// The weight may also be the kernel of a convolution whose stride is its size, [out, channels, size, size]:
/// a linear layer on patches. It keeps that shape for the checkpoint, and so do its adapters on disk.
///
/// Numeric  the base's dtype throughout: beside a half-precision base, a float32 adapter is rounded to it for
///          the products (as in the released program); its gradients are float32. With dropout the adapter
///          runs in its own dtype
/// Gradient through everything that requires one; a frozen base costs no weight gradient
class Linear {
 public:
  Linear() = default;
  /// Uninitialised weights; `options` may name the meta device, which allocates nothing.
  Linear(int64_t in_features, int64_t out_features, bool with_bias, const at::TensorOptions& options);
  Linear(const Linear&) = delete;  // a copy would share its tensors
  Linear& operator=(const Linear&) = delete;
  Linear(Linear&&) = default;
  Linear& operator=(Linear&&) = default;

  /// Shapes  input [..., in], returns [..., out]
  at::Tensor operator()(const at::Tensor& input) const;
  /// The same for the output features [begin, end) alone, [..., end - begin]. Computed in the input's type,
  /// whatever the weight's.
  at::Tensor rows(const at::Tensor& input, int64_t begin, int64_t end) const;

  bool is_quantized() const { return quantized.codes.defined(); }
  at::Device device() const { return is_quantized() ? quantized.codes.device() : weight.device(); }
  /// The weight, decoded if it is quantized.
  at::Tensor plain_weight() const;
  int64_t in_features() const { return weight.numel() / weight.size(0); }
  int64_t out_features() const { return weight.size(0); }
  /// Null if this layer has no such slot.
  LinearAdapter* find(const std::string& slot);
  const LinearAdapter* find(const std::string& slot) const;

  at::Tensor weight;          ///< [out, in], or [out, channels, size, size]; quantized: no numbers (meta)
  QuantizedWeight quantized;  ///< in its place
  at::Tensor bias;            ///< [out], or undefined
  std::vector<LinearAdapter> adapters;  ///< one a slot, in no particular order
  const AdapterSlots* slots = nullptr;  ///< set by AdapterSlots::attach
};

/// scale · B A of an adapter, [out, in] float32, without gradient.
at::Tensor adapter_product(const LinearAdapter& adapter);

}  // namespace apo::models
