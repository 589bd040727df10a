#include "base/upload.h"

#include <torch/types.h>

namespace apo {

at::Tensor upload(const at::Tensor& tensor, at::Device device) {
  const at::Tensor source = device.is_cuda() && tensor.is_cpu() ? tensor.contiguous().pin_memory() : tensor;
  return source.to(device, source.scalar_type(), /*non_blocking=*/true);
}

}  // namespace apo
