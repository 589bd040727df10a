// Config section `distributed`.
#pragma once

#include <cstdint>
#include <string>

namespace apo::config {
class Visitor;
}

namespace apo::distributed {

struct DistributedOptions {
  int64_t timeout_seconds = 600;  ///< how long a rank waits for the others
  std::string backend = "auto";   ///< auto | nccl | gloo, of tensors on CUDA devices
  bool shard_optimizer = false;   ///< each rank keeps the optimizer's moments of its share of the weights
  void visit(config::Visitor& v);
};

}  // namespace apo::distributed
