// Sums and copies between ranks that stay on the ranks' own devices.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace apo::distributed {

/// All ranks call the same members in the same order. Tensors are contiguous and on one device.
/// Errors  RunError with the reason that the library gives; afterwards nothing but abort works.
class Collectives {
 public:
  virtual ~Collectives() = default;
  /// In place. Queued behind what the device does; the host does not wait.
  virtual void sum(const at::Tensor& tensor) = 0;
  /// In place, bytes: what rank `from` holds. Queued as well.
  virtual void broadcast(const at::Tensor& bytes, int64_t from) = 0;
  /// Waits for what was queued, but no longer than that; whether it is done.
  virtual bool wait(std::chrono::milliseconds longest) = 0;
  /// What is queued ends, undone.
  virtual void abort() noexcept = 0;
};

/// Of the kind of device: `load` finds what it takes, `name` makes what the ranks have to agree on, on the
/// first of them; `join` waits for all ranks. They throw RunError.
struct CollectivesKind {
  std::function<void()> load;
  std::function<std::string()> name;
  std::function<std::unique_ptr<Collectives>(const std::string& name, int64_t rank, int64_t size,
                                             at::Device device)>
      join;
};

/// NCCL for CUDA devices, and what a test has set for another type; null where there is none.
const CollectivesKind* collectives_for(at::DeviceType type);
void set_collectives(at::DeviceType type, CollectivesKind kind);

}  // namespace apo::distributed
