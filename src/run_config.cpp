#include "apo/run_config.h"

#include "apo/config/options.h"

namespace apo {

void RunConfig::visit(config::Visitor& v) {
  training.visit(v);
  v("environment", environment, "the world that a policy is deployed and evaluated in");
  v("deploy", deploy, "deployment under a human's eyes, and demonstrations");
  v("eval", eval, "seeded trials in the environment");
  v("refine", refine, "rounds of deploy, label, refine, evaluate");
}

}  // namespace apo
