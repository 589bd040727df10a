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

  /// Why a watching human would step in now ("wrong object", "off course"); nullopt while all is well or
  /// where nobody can tell. The scripted human watches this.
  virtual std::optional<std::string> concern() const { return std::nullopt; }
  /// What an expert would do now; nullopt where there is none. The scripted human and demonstrations use it.
  virtual std::optional<Action> expert_action() const { return std::nullopt; }
  virtual Facts facts() const { return {}; }

  virtual std::string name() const = 0;
  /// The options that make this environment again, as YAML; written into recorded files.
  virtual std::string config() const { return ""; }
};

/// Config section `environment`.
struct EnvironmentOptions {
  std::string type = "tabletop";         ///< a registered environment
  simulation::TabletopOptions tabletop;  ///< of the built-in one
  void visit(config::Visitor& v);
};

using EnvironmentFactory = std::function<std::unique_ptr<Environment>(const EnvironmentOptions&)>;
/// Adds a kind of environment; a second one of the same name replaces it. Thread-safe.
void register_environment(const std::string& type, EnvironmentFactory factory);
/// The environment of the config. ConfigError naming the registered ones for an unknown type.
std::unique_ptr<Environment> make_environment(const EnvironmentOptions& options);
/// Names of the registered environments, sorted.
std::vector<std::string> environment_types();

/// When a watching human would step in on the tabletop: "wrong object" within 5 cm of the other block, nearer
/// to it than to the named one and less than 9 cm above it; "off course" when the hand came down to 4.5-7 cm
/// above the named block and is more than 5 cm beside it. Both while the hand is still high, where a sideways
/// motion is the whole correction.
std::optional<std::string> tabletop_concern(const simulation::TabletopState& state);

}  // namespace apo::deploy
