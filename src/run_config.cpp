#include "apo/run_config.h"

#include "apo/config/options.h"

namespace apo {

void RunConfig::visit(config::Visitor& v) {
  RefineSetup::visit(v);
  v("serve", serve, "the policy behind a port (apo-serve)");
}

}  // namespace apo
