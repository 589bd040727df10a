// Config section `distributed`.
#pragma once

#include <cstdint>

namespace apo::config {
class Visitor;
}

namespace apo::distributed {

struct DistributedOptions {
  int64_t timeout_seconds = 600;  ///< how long a rank waits for the others
  void visit(config::Visitor& v);
};

}  // namespace apo::distributed
