// How the ranks' devices come together.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "apo/distributed/group.h"
#include "distributed/collectives.h"

namespace apo::distributed {

/// All ranks call it. Null where they keep to the host's memory: on CPUs; and, with a warning of the first
/// rank, where some have no device, or it cannot be joined. RunError with backend nccl, and where a rank is
/// gone.
std::unique_ptr<Collectives> join_devices(const Group& group, at::Device device,
                                          const DistributedOptions& options);

/// Between two looks at whether all ranks are still there.
inline std::chrono::milliseconds between_looks(const DistributedOptions& options) {
  return std::min(std::chrono::milliseconds(1000),
                  std::chrono::milliseconds(std::chrono::seconds(options.timeout_seconds)) / 2);
}

}  // namespace apo::distributed
