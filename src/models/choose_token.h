// How a decoder picks the next token.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "apo/models/policy.h"

namespace apo::models {

/// Picks columns [B] int64 out of logits [B, N]: the largest, or a draw at `options.temperature` from each
/// row's own stream of `options.seeds`, on the CPU so that a seed means the same on every device. ConfigError
/// for a temperature below 0 and, in a draw, for another number of seeds than rows.
std::function<at::Tensor(const at::Tensor&)> token_chooser(const DecodeOptions& options);

}  // namespace apo::models
