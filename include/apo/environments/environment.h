// Where a policy acts: a simulated task or a robot, behind one interface.
//
// To plug in your own, derive from Environment and register it, with options of its own or without:
//   environments::register_environment("my-robot", [](const EnvironmentOptions&) { return ...; });
//   environments::register_environment<MyOptions, MyRobot>("my-robot");
// Collection, evaluation and refinement then work with `environment.type: my-robot`, and MyOptions
// are read from `environment.my-robot`.
#pragma once

#include <ATen/core/Tensor.h>

#include <concepts>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/types.h"
#include "apo/config/any_options.h"
#include "apo/config/gripper.h"
#include "apo/environments/disruptions.h"

namespace apo::environments {

/// What is worth knowing about one trial besides its result, by name: {"target": "red", "layout": "swapped"}.
/// Results are also counted by each of these.
using Facts = std::map<std::string, std::string>;

/// What stays as it is for as long as an environment lives.
struct EnvironmentSpec {
  std::string name = "";
  std::string config = "";  ///< the options that make it again, as YAML; written into recorded files
  int64_t action_size = 0;  ///< A
  int64_t max_steps = 0;    ///< steps that a policy has for the task
  double control_hz = 0;    ///< steps a second of real or simulated time
  Action idle = {};         ///< [A]: does nothing, executed while delayed actions are on their way; {}: zeros
  /// Those of `environment.disruptions` that the environment carries out itself, as its factory was given
  /// them, by their names there ("lighting", ...). Noise and delay of actions are done for every environment
  /// (Rollout).
  std::vector<std::string> disruptions = {};
  /// How actions code the gripper, as far as it is said: what a policy decides that codes it otherwise is
  /// recoded before it is executed. `environment.gripper` of the config wins.
  config::GripperOptions gripper = {};
  ActionNoiseOptions action_noise = {};  ///< of the config, as make_environment says
  ActionDelayOptions action_delay = {};
  int64_t instances = 0;   ///< of the config's environment that may live at a time; 0: any number
  bool repeatable = true;  ///< equal seeds and actions give equal episodes; false of a robot
};

/// An episode that cannot go on though nothing is wrong with what was asked: the connection to where it runs
/// was lost, or an answer came too late. It may be played again from its reset.
struct EpisodeLost : RunError {
  using RunError::RunError;
};

/// What was executed in a step, where that is not what was asked for.
struct Executed {
  Action action;          ///< [A]
  bool by_human = false;  ///< a human at the robot decided it; false: a limit changed it
  std::string reason;     ///< of a human, why he took over
};

/// How an episode stands after its reset or a step.
struct Situation {
  /// The task is decided: achieved or failed beyond repair. Running out of time is not decided here: whoever
  /// runs the episode stops it (`max_steps`) and calls it "timeout".
  bool done = false;
  bool success = false;
  /// The episode has been where a watching human would have stepped in; a success without is "unaided".
  bool troubled = false;
  /// Of what is done, one or two words: "wrong object"; "": "success" or "failure".
  std::string outcome = "";
  /// Why a watching human would step in now ("wrong object", "off course", "stuck"); nullopt while all is
  /// well or where nobody can tell. The scripted human watches this.
  std::optional<std::string> concern = {};
  /// For how many steps before now what `concern` says has held, where that could not be told at once: a hand
  /// that is stuck was so already when it looked well.
  int64_t concern_steps = 0;
  Facts facts = {};
  /// False: nobody can tell whether what is done was a success, and `success` says nothing.
  bool judged = true;
  std::optional<Executed> executed = {};  ///< of the step that led here; nullopt: as asked
};

class PlaybackSource;

/// One task instance, used by one thread, the one that made it. Each virtual is one message where the task
/// runs elsewhere. What an implementation throws ends the episode and passes through; by convention RunError;
/// after an EpisodeLost, the next reset may work again.
class Environment {
 public:
  explicit Environment(EnvironmentSpec spec);
  virtual ~Environment() = default;

  const EnvironmentSpec& spec() const { return spec_; }
  /// Starts the episode that belongs to `seed`: equal seeds and actions give equal episodes.
  virtual Situation reset(uint64_t seed) = 0;
  virtual Observation observe() = 0;
  /// Executes one action, [A] in the units of `spec`.
  virtual Situation step(const Action& action) = 0;
  /// The view for people, [size, size, 3] uint8 RGB, row 0 at the top.
  virtual at::Tensor render(int64_t size) = 0;
  /// What an expert would do now, [A], for the scripted human and demonstrations; nullopt: there is none.
  virtual std::optional<Action> expert() { return std::nullopt; }
  /// What the simulator's own tools play an episode back from, which is recorded beside it; null: nothing.
  virtual const PlaybackSource* playback() const { return nullptr; }

 protected:
  EnvironmentSpec spec_;  ///< for constructors
  friend std::unique_ptr<Environment> make_environment(const struct EnvironmentOptions& options);
};

/// Config section `environment`.
struct EnvironmentOptions {
  std::string type = "tabletop";        ///< a registered environment
  config::AnyOptions own = {};          ///< `environment.TYPE`; nothing: the defaults of the kind
  DisruptionOptions disruptions = {};   ///< what goes wrong with the world
  config::GripperOptions gripper = {};  ///< in its actions; what is left open is as the environment says
  /// made to record an expert, who may be shown another world; no key: who records says so
  bool demonstrating = false;

  /// The options of the kind, to read and to change: `options.of<simulation::TabletopOptions>().habit = 1`.
  /// Defaults where none or those of another kind are held.
  template <config::Visitable T>
  T& of() {
    if (!own.get<T>()) own = config::AnyOptions(T());
    return *own.get<T>();
  }
  template <config::Visitable T>
  T of() const {
    const T* held = own.get<T>();
    return held ? *held : T();
  }
  /// Keys of another kind than `type` are an error.
  void visit(config::Visitor& v);
};

using EnvironmentFactory = std::function<std::unique_ptr<Environment>(const EnvironmentOptions&)>;
/// Adds a kind of environment; a second one of the same name replaces it. Thread-safe. `own` are the defaults
/// of its own options and `doc` what they are, for people. ConfigError for a name that is empty, has a dot in
/// it or is a key of the section (type, disruptions, gripper).
void register_environment(const std::string& type, EnvironmentFactory factory, config::AnyOptions own = {},
                          const std::string& doc = "");
/// A kind with options of its own: `make(own, options)` makes one.
template <config::Visitable Own, class Make>
void register_environment(const std::string& type, Make make,
                          const std::string& doc = "of this environment") {
  register_environment(
      type,
      [make = std::move(make)](const EnvironmentOptions& options) {
        return make(options.of<Own>(), options);
      },
      config::AnyOptions(Own()), doc);
}
/// The same of a class that is made of its options: `register_environment<MyOptions, MyRobot>("my-robot")`.
template <config::Visitable Own, std::derived_from<Environment> Made>
void register_environment(const std::string& type) {
  register_environment<Own>(type, [](const Own& own, const auto&) { return std::make_unique<Made>(own); });
}

/// The environment of the config; its spec says how the config disrupts its actions, and how they code the
/// gripper. ConfigError naming the registered ones for an unknown type; naming the disruption if it has a
/// probability and the environment does not carry it out.
std::unique_ptr<Environment> make_environment(const EnvironmentOptions& options);
/// Names of the registered environments, sorted.
std::vector<std::string> environment_types();

/// The disruptions that the environment of the config can meet, in the order of DisruptionOptions.
std::vector<std::string> available_disruptions(const EnvironmentOptions& options);
/// The same environment with that disruption in every episode and no other; "none": without any.
/// ConfigError naming the available ones, and the nearest, for another name.
EnvironmentOptions disrupted_by(const EnvironmentOptions& options, const std::string& disruption);
/// The names of a list as it stands in a config: each checked as above, "all" replaced by every available
/// one, "none" and repetitions left out.
std::vector<std::string> chosen_disruptions(const EnvironmentOptions& options,
                                            const std::vector<std::string>& names);

}  // namespace apo::environments
