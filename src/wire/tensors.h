// Arrays of the wire as tensors, and the other way.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "wire/value.h"

namespace apo::wire {

/// The numbers of a tensor of any device; bfloat16, which numpy has not, as float32. Bug for other types that
/// numpy has not.
Array array(const at::Tensor& tensor);
/// [n]
Array array(const std::vector<float>& numbers);
Array array(const std::vector<double>& numbers);

/// The same numbers in a tensor of the same shape and type, on the CPU, of its own memory.
at::Tensor tensor(const Array& array);

}  // namespace apo::wire
