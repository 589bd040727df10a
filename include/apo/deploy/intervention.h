// Who may take over from a deployed policy: nobody, a scripted human, or a source of your own (a person at a
// browser).
//
// To plug in your own, derive from InterventionSource and register it under a name:
//   deploy::register_intervention_source("gamepad", [](const deploy::InterventionOptions&) { return ...; });
// Collection and refinement then work with `deploy.intervention.type: gamepad`. With options of its own, any
// struct with a `visit`, which the config and --print-reference then know as `deploy.intervention.gamepad`:
//   deploy::register_intervention_source<GamepadOptions>(
//       "gamepad", [](const GamepadOptions& own) { return ...; });
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apo/base/types.h"
#include "apo/config/any_options.h"
#include "apo/environments/environment.h"

namespace apo::deploy {

struct EpisodeResult;

/// What the human does in place of the policy in this step.
struct Intervention {
  Action action;       ///< environment units
  std::string reason;  ///< why the human took over; the same during one take-over, and recorded beside it
  /// in the first step of a take-over: for so many steps before it the reason had held
  int64_t steps_held = 0;
};

/// What there is to know before a step; its references hold for the call.
struct Moment {
  const environments::EnvironmentSpec& spec;  ///< of what is acted in
  const Observation& observation;             ///< what is seen
  const Action& policy_action;                ///< what the policy wants, [A]
  int64_t step = 0;                           ///< steps made before this one
  std::optional<std::string> concern;         ///< Situation::concern and concern_steps
  int64_t concern_steps = 0;
  std::function<std::optional<Action>()> expert;  ///< what an expert would do, [A]; nullopt: there is none
  /// the view for people, as Environment::render; null: there is none
  std::function<at::Tensor(int64_t size)> render = {};
  /// mean probability of the tokens that the policy decided its present actions with; nothing: nobody asked
  /// for it (InterventionSource::wants_confidence), or the policy does not say
  std::optional<double> confidence = {};
};

/// A human ends the episode.
struct Ending {
  std::string outcome;  ///< "success", "failure", "reset"
  /// whether it succeeded, as the human saw it; nothing: as the environment says
  std::optional<bool> success = {};
};

/// Asked before every step. Returning an intervention takes over (or keeps control), nullopt leaves the step
/// to the policy (or hands back).
class InterventionSource {
 public:
  virtual ~InterventionSource() = default;
  /// A new episode begins.
  virtual void reset(uint64_t seed) {}
  virtual std::optional<Intervention> decide(const Moment& moment) = 0;
  /// Asked before every decision of the policy: whether the human wants to know how sure it is.
  virtual bool wants_confidence() const { return false; }
  /// Asked after every decision: whether the human wants the episode to be over now, without a further step.
  virtual std::optional<Ending> wants_end() { return std::nullopt; }
  /// A step was made: as it is recorded, a correction at the robot itself included.
  virtual void stepped(const Step& step) {}
  /// The episode is over, and the environment cannot tell whether it succeeded: what the human says.
  virtual std::optional<Ending> judge(const EpisodeResult& result) { return std::nullopt; }
  /// The episode is over; `recorded_as`: its name in the recording, "demo_3"; empty: it is not kept.
  virtual void ended(const EpisodeResult& result, const std::string& recorded_as) {}
  /// Whether equal episodes are corrected equally, as no person does it.
  virtual bool repeatable() const { return false; }
};

/// Config section `deploy.intervention`.
struct InterventionOptions {
  std::string type = "scripted";    ///< a registered source
  config::OptionsOfKinds own = {};  ///< `deploy.intervention.NAME` of those that have options

  /// The options of a source, to read and to change: `options.of<deploy::ScriptedHumanOptions>().calm_steps =
  /// 0`. Defaults where none are held.
  template <config::Visitable T>
  T& of() {
    return own.of<T>();
  }
  template <config::Visitable T>
  T of() const {
    return own.of<T>();
  }
  /// Options of sources that are not chosen may stand there, too: who takes over changes from command to
  /// command.
  void visit(config::Visitor& v);
};

using InterventionFactory = std::function<std::unique_ptr<InterventionSource>(const InterventionOptions&)>;
/// Adds a kind of source; a second one of the same name replaces it. Thread-safe. `own` are the defaults of
/// its own options (`deploy.intervention.NAME`) and `doc` what they are, for people. ConfigError for a name
/// that is empty, has a dot in it or is `type`.
void register_intervention_source(const std::string& type, InterventionFactory factory,
                                  config::AnyOptions own = {}, const std::string& doc = "");
/// A kind with options of its own: `make(own)` makes one.
template <config::Visitable Own, class Make>
void register_intervention_source(const std::string& type, Make make,
                                  const std::string& doc = "of this source") {
  register_intervention_source(
      type, [make = std::move(make)](const InterventionOptions& options) { return make(options.of<Own>()); },
      config::AnyOptions(Own()), doc);
}
/// Names of the registered sources, sorted.
std::vector<std::string> intervention_source_types();
/// The source of the config. ConfigError naming the registered ones for an unknown type.
std::unique_ptr<InterventionSource> make_intervention_source(const InterventionOptions& options);

/// Never takes over.
std::unique_ptr<InterventionSource> make_no_human();

}  // namespace apo::deploy
