#include "apo/distributed/options.h"

#include "apo/config/options.h"

namespace apo::distributed {

void DistributedOptions::visit(config::Visitor& v) {
  v("timeout_seconds", timeout_seconds,
    "how long a rank of a run on several waits for the others before the job ends", config::at_least(1));
  v("shard_optimizer", shard_optimizer,
    "each rank keeps the optimizer's moments of its share of the trained weights alone, updates these and "
    "sends them to the others (ZeRO stage 1): the same run in less memory");
}

}  // namespace apo::distributed
