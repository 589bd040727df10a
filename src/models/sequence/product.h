// The matrix products of linear layers, the bulk of the work of a large policy.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <utility>

#include "apo/models/linear.h"

namespace apo::models {

/// What a low-rank adapter adds to a product: scale · B (A x).
struct LowRank {
  at::Tensor a;  ///< [rank, in]; undefined: nothing is added
  at::Tensor b;  ///< [out, rank]
  double scale = 1;
  at::Tensor scaled_a, scaled_b;  ///< scale · A and scale · B in the input's type, where A and B have another
  bool stays_zero = false;        ///< B is zero and nothing trains it: the product is the base's alone
};

/// The base's part of a product: one of the two is defined.
struct BaseWeight {
  BaseWeight() = default;
  BaseWeight(at::Tensor plain) : plain(std::move(plain)) {}  // NOLINT(google-explicit-constructor)
  at::Tensor plain = {};                                     ///< [out, in]
  QuantizedWeight quantized = {};  ///< decoded to the input's type, anew in the backward pass
  bool is_quantized() const { return quantized.codes.defined(); }
};

/// Whether `adapted_product` may and should stand for the plain composition: tensors of one type on one
/// device (the adapter's scaled ones, where there are), no autocast, and an adapter or a large weight. Does
/// not depend on what requires a gradient, so that a policy, its copy and its frozen snapshot give the same
/// numbers. A quantized weight has any type.
bool can_fuse(const at::Tensor& input, const BaseWeight& weight, const std::optional<at::Tensor>& bias,
              const LowRank& update);

/// W x + bias + scale · B (A x) as one step of the graph: sums are made in place, and only what is read again
/// is kept for the backward pass (the input not at all where neither W nor A is there to train).
///
/// Shapes   input [..., in], weight [out, in], bias [out]; returns [..., out]
/// Numeric  equal to the plain composition up to rounding; large float32 products on a CPU are oneDNN's
///          rather than the BLAS library's, which uses its cores better at the shapes of a transformer; of
///          more rows than a large weight has rows and columns, unless it is quantized, they are those of
///          W + scale · B A
/// Gradient of all of them
at::Tensor adapted_product(const at::Tensor& input, const BaseWeight& weight,
                           const std::optional<at::Tensor>& bias, const LowRank& update);

}  // namespace apo::models
