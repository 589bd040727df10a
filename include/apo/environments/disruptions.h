// Config section `environment.disruptions`: what may go wrong with the world of an episode, whoever acts in
// it.
#pragma once

#include <cstdint>

#include "apo/simulation/scene_disruptions.h"

namespace apo::config {
class Visitor;
}

namespace apo::environments {

/// Normal noise on the executed action, whatever was decided and recorded. The sum stays within [-1, 1], or
/// within the action's own size where that is larger.
struct ActionNoiseOptions {
  double probability = 0;  ///< of an episode being disrupted so; 0 = never, 1 = always
  double std = 0.4;        ///< standard deviation, in units of action
  int64_t dimensions = 3;  ///< the first so many of an action get noise
  void visit(config::Visitor& v);
};

/// Actions take effect later; until the first one does, nothing is done (EnvironmentSpec::idle).
struct ActionDelayOptions {
  double probability = 0;
  int64_t steps = 2;  ///< control steps between a decision and its effect
  void visit(config::Visitor& v);
};

struct DisruptionOptions {
  /// its sections stand beside the others, without a level of their own
  simulation::SceneDisruptionOptions scene;
  ActionNoiseOptions action_noise;
  ActionDelayOptions action_delay;

  /// Calls f(name, section) for each of them.
  template <class F>
  void for_each(F&& f) {
    scene.for_each(f);
    f("action_noise", action_noise);
    f("action_delay", action_delay);
  }
  void visit(config::Visitor& v);
};

}  // namespace apo::environments
