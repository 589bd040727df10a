#include "apo/distributed/options.h"

#include <array>
#include <string_view>

#include "apo/config/options.h"

namespace apo::distributed {

void DistributedOptions::visit(config::Visitor& v) {
  static constexpr std::array<std::string_view, 3> kBackends = {"auto", "nccl", "gloo"};
  v("timeout_seconds", timeout_seconds,
    "how long a rank of a run on several waits for the others before the job ends", config::at_least(1));
  v.choice(
      "backend", backend, kBackends,
      "what sums over ranks on GPUs: nccl between the GPUs; gloo through the hosts' memory, slower; auto: "
      "nccl, and gloo with a warning where nccl does not work on all ranks");
  v("shard_optimizer", shard_optimizer,
    "each rank keeps the optimizer's moments of its share of the trained weights alone, updates these and "
    "sends them to the others (ZeRO stage 1): the same run in less memory");
}

}  // namespace apo::distributed
