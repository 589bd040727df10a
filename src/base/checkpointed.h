// Activation checkpointing: memory for time.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace apo {

/// layer(x); if `enabled` and a gradient is wanted, only x is kept and the layer runs again in the backward
/// pass, with the random draws (dropout) and autocast state of the first time. What `layer` refers to must
/// live until then.
///
/// Gradient  to x and to every tensor inside that requires one; equal to the plain call
at::Tensor checkpointed(const std::function<at::Tensor(const at::Tensor&)>& layer, const at::Tensor& x,
                        bool enabled);

}  // namespace apo
