// Parameters and what else a file keeps by name.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace apo::models {

/// A named tensor, in the order and with the names of the checkpoint.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

}  // namespace apo::models
