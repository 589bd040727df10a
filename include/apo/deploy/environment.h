// Where a policy acts: a simulated task or a robot, behind one interface.
//
// To plug in your own, derive from Environment and register it under a name:
//   deploy::register_environment("my-robot", [](const deploy::EnvironmentOptions&) { return ...; });
// Collection, evaluation, refinement and serving then work with `environment.type: my-robot`.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apo/base/types.h"
#include "apo/data/gripper.h"
#include "apo/deploy/disruptions.h"
#include "apo/simulation/tabletop.h"

namespace apo::config {
class Visitor;
}

namespace apo::deploy {

/// What is worth knowing about one trial besides its result, by name: {"target": "red", "layout": "swapped"}.
/// Results are also counted by each of these.
using Facts = std::map<std::string, std::string>;

/// One task instance. An instance is used by one thread, the one that made it.
class Environment {
 public:
  virtual ~Environment() = default;

  /// Starts the episode that belongs to `seed`: equal seeds and actions give equal episodes.
  virtual void reset(uint64_t seed) = 0;
  virtual Observation observe() = 0;
  /// Executes one action, [action_size()].
  virtual void step(const Action& action) = 0;

  /// The task is decided: achieved or failed beyond repair. Running out of time is not decided here: whoever
  /// runs the episode stops it (`max_steps`) and calls it "timeout".
  virtual bool done() const = 0;
  virtual bool success() const = 0;
  /// Success without ever having been where a watching human would have stepped in ("unaided").
  virtual bool flawless() const { return success(); }
  /// One or two words: "success", "wrong object", ...; "running" while not decided.
  virtual std::string outcome() const = 0;

  virtual int64_t action_size() const = 0;
  virtual int64_t step_count() const = 0;  ///< steps since the reset
  virtual int64_t max_steps() const = 0;   ///< steps that a policy has for the task
  virtual double control_hz() const = 0;   ///< steps a second of real or simulated time
  /// The view for people, [size, size, 3] uint8 RGB, row 0 at the top.
  virtual at::Tensor render(int64_t size) = 0;

  /// Why a watching human would step in now ("wrong object", "off course", "stuck"); nullopt while all is
  /// well or where nobody can tell. The scripted human watches this.
  virtual std::optional<std::string> concern() const { return std::nullopt; }
  /// For how many steps before now what `concern` says has held, where that could not be told at once: a hand
  /// that is stuck was so already when it looked well.
  virtual int64_t concern_steps() const { return 0; }
  /// What an expert would do now; nullopt where there is none. The scripted human and demonstrations use it.
  virtual std::optional<Action> expert_action() const { return std::nullopt; }
  /// An action that does nothing, executed while delayed actions are on their way: zeros unless overridden.
  virtual Action idle_action() const { return Action(static_cast<size_t>(action_size()), 0.0f); }
  virtual Facts facts() const { return {}; }

  /// Those of `environment.disruptions` that the environment carries out itself, as its factory was given them, by
  /// their names there ("lighting", ...). Noise and delay of actions are done for every environment around it.
  virtual std::vector<std::string> disruptions() const { return {}; }

  virtual std::string name() const = 0;
  /// The options that make this environment again, as YAML; written into recorded files.
  virtual std::string config() const { return ""; }

  /// How actions code the gripper, as far as it is said (`environment.gripper`): what a policy decides that
  /// codes it otherwise is recoded before it is executed.
  const data::GripperOptions& gripper() const { return gripper_; }
  /// For an environment's constructor: what its actions code. environment.gripper of the config wins.
  void set_gripper(const data::GripperOptions& gripper) { gripper_ = gripper; }

 private:
  data::GripperOptions gripper_;
};

/// Config section `environment`.
struct EnvironmentOptions {
  std::string type = "tabletop";         ///< a registered environment
  simulation::TabletopOptions tabletop;  ///< of the built-in one
  DisruptionOptions disruptions;         ///< what goes wrong with the world
  data::GripperOptions gripper;          ///< in its actions; what is left open is as the environment says
  void visit(config::Visitor& v);
};

using EnvironmentFactory = std::function<std::unique_ptr<Environment>(const EnvironmentOptions&)>;
/// Adds a kind of environment; a second one of the same name replaces it. Thread-safe.
void register_environment(const std::string& type, EnvironmentFactory factory);
/// The environment of the config, its actions disrupted if the config says so.
/// ConfigError naming the registered ones for an unknown type; naming the disruption if it has a probability and
/// the environment does not carry it out.
std::unique_ptr<Environment> make_environment(const EnvironmentOptions& options);
/// Names of the registered environments, sorted.
std::vector<std::string> environment_types();

/// The disruptions that the environment of the config can meet, in the order of DisruptionOptions.
std::vector<std::string> available_disruptions(const EnvironmentOptions& options);
/// The same environment with that disruption in every episode and no other; "none": without any.
/// ConfigError naming the available ones, and the nearest, for another name.
EnvironmentOptions disrupted_by(const EnvironmentOptions& options, const std::string& disruption);
/// The names of a list as it stands in a config: each checked as above, "all" replaced by every available one, "none"
/// and repetitions left out.
std::vector<std::string> chosen_disruptions(const EnvironmentOptions& options, const std::vector<std::string>& names);

}  // namespace apo::deploy
