#include "apo/environments/disruptions.h"

#include "apo/config/options.h"

namespace apo::environments {

void ActionNoiseOptions::visit(config::Visitor& v) {
  v("probability", probability, "of an episode with noise on executed actions; 0 = never",
    config::between(0, 1));
  v("std", std, "standard deviation, in units of action; what is recorded stays clean",
    config::between(0, 2));
  v("dimensions", dimensions, "the first so many of an action get noise", config::at_least(1));
}

void ActionDelayOptions::visit(config::Visitor& v) {
  v("probability", probability, "of an episode with late actions; 0 = never", config::between(0, 1));
  v("steps", steps, "control steps between a decision and its effect", config::between(1, 100));
}

void DisruptionOptions::visit(config::Visitor& v) {
  scene.visit(v);
  v("action_noise", action_noise, "executed actions differ from decided ones");
  v("action_delay", action_delay, "actions take effect later");
}

}  // namespace apo::environments
