#include "apo/distributed/options.h"

#include "apo/config/options.h"

namespace apo::distributed {

void DistributedOptions::visit(config::Visitor& v) {
  v("timeout_seconds", timeout_seconds,
    "how long a rank of a run on several waits for the others before the job ends", config::at_least(1));
}

}  // namespace apo::distributed
