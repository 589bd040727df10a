// To a device without waiting for what it does at the moment.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

namespace apo {

/// `tensor`, of the CPU, on `device`. To CUDA it goes through pinned memory, which is given back when the
/// copy is done: the host goes on at once, and what is asked of the result on the same stream comes after.
at::Tensor upload(const at::Tensor& tensor, at::Device device);

}  // namespace apo
