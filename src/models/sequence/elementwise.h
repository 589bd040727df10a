// Element-by-element steps of a Llama: one kernel each on CUDA, where the library of kernels is there and
// takes the tensors' type, one pass over float32 numbers on the CPU, and a few operations elsewhere.
// Nothing is recorded for a backward pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <utility>

namespace apo::models {

/// heads cos + turned sin, where the halves (x, y) of a head turn into (-y, x).
///
/// Shapes   heads [B, H, T, size]; cos, sin [B or 1, 1, T, size], whose halves are equal; returns
///          [B, H, T, size]
/// direction  1; -1 turns back, which is also the gradient
at::Tensor rotate(const at::Tensor& heads, const at::Tensor& cos, const at::Tensor& sin, double direction);

/// silu(gate) up, of tensors of one shape.
at::Tensor gated_unit(const at::Tensor& gate, const at::Tensor& up);
/// Its gradients by gate and up.
std::pair<at::Tensor, at::Tensor> gated_unit_gradients(const at::Tensor& gradient, const at::Tensor& gate,
                                                       const at::Tensor& up);

/// Whether the two below take them: contiguous float32 on the CPU, [..., width] and [width].
bool has_rms_norm(const at::Tensor& x, const at::Tensor& weight);
/// x / rms(x) (offset + weight), and 1 / rms(x) [...], which the gradient wants.
std::pair<at::Tensor, at::Tensor> rms_norm(const at::Tensor& x, const at::Tensor& weight, double offset,
                                           double epsilon);
/// Its gradient by x.
at::Tensor rms_norm_gradient(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& scale, double offset);

/// The NF4 codes of a QuantizedWeight decoded: [out, in] in `type`. Undefined where no kernel takes them.
at::Tensor unpacked(const at::Tensor& codes, const at::Tensor& scales, std::span<const float, 16> levels,
                    at::ScalarType type);

}  // namespace apo::models
