#include "base/upload.h"

#include <c10/util/Exception.h>
#include <torch/types.h>

#include <atomic>

#include "apo/base/log.h"

namespace apo {
namespace {

// Where no memory can be pinned the copy is waited for.
at::Tensor pinned(const at::Tensor& tensor) {
  static std::atomic<bool> possible = true;
  if (!possible) return tensor;
  try {
    return tensor.contiguous().pin_memory();
  } catch (const c10::Error& error) {
    if (possible.exchange(false)) log_warn("no memory can be pinned: ", error.what_without_backtrace());
    return tensor;
  }
}

}  // namespace

at::Tensor upload(const at::Tensor& tensor, at::Device device) {
  const at::Tensor source = device.is_cuda() && tensor.is_cpu() ? pinned(tensor) : tensor;
  return source.to(device, source.scalar_type(), /*non_blocking=*/true);
}

}  // namespace apo
