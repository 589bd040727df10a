// Parameters and what else a file keeps by name.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace apo::models {

/// A named tensor, in the order and with the names of the checkpoint.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// Numbers of the network that a tensor of `Policy::named_parameters` stands for: as many as it has, but two
/// a byte of four-bit codes, and none for the scales of quantized weights.
int64_t num_weights(std::string_view name, const at::Tensor& tensor);

}  // namespace apo::models
