// Who may take over from a deployed policy: nobody, a scripted human, or a source of your own (a person at a
// browser).
//
// To plug in your own, derive from InterventionSource and register it under a name:
//   deploy::register_intervention_source("gamepad", [](const deploy::InterventionOptions&) { return ...; });
// Collection and refinement then work with `deploy.intervention.type: gamepad`.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apo/base/types.h"
#include "apo/environments/environment.h"

namespace apo::config {
class Visitor;
}

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

/// When the scripted human gives control back.
enum class HandBack { never, when_safe };
std::span<const std::pair<HandBack, std::string_view>> enum_names(HandBack);

/// What makes the scripted human imperfect (config section `deploy.intervention.scripted.imperfect`); off by
/// default. The order within a take-over: he hesitates, corrects wrongly, corrects rightly. Equal seeds of an
/// episode give equal imperfections.
struct ImperfectionOptions {
  int64_t delay_steps = 0;          ///< steps between his decision for a concern and the take-over
  int64_t hesitation_steps = 0;     ///< first steps of a take-over with the arm stopped
  double tremor = 0;                ///< standard deviation of noise on his x, y, z, units of action
  double needless_probability = 0;  ///< of an episode with a take-over without a concern, "needless"
  int64_t needless_steps = 12;      ///< in one of the first so many steps after the calm ones
  double wrong_probability = 0;     ///< of a take-over that begins with a wrong correction
  int64_t wrong_steps = 4;          ///< of a wrong correction
  void visit(config::Visitor& v);
};

/// The scripted human (config section `deploy.intervention.scripted`).
struct ScriptedHumanOptions {
  int64_t reaction_steps = 4;  ///< steps in a row with a concern before the human takes over
  std::vector<std::string> at_once = {"wrong object", "grasped air", "passed by",
                                      "stuck"};  ///< concerns that are answered in the first step
  std::vector<std::string> ignore = {};          ///< concerns that do not trouble the human
  int64_t calm_steps = 3;                        ///< steps at the episode's start without a take-over
  int64_t patience_steps = 0;                    ///< take over after so many steps of an episode; 0: never
  HandBack hand_back = HandBack::never;          ///< never: the human finishes the episode
  int64_t min_steps = 5;                         ///< of a take-over before handing back
  ImperfectionOptions imperfect{};               ///< no human is perfect; this one is unless told otherwise
  void visit(config::Visitor& v);
};

/// Config section `deploy.intervention`.
struct InterventionOptions {
  std::string type = "scripted";  ///< none | scripted, or a registered one
  ScriptedHumanOptions scripted{};
  void visit(config::Visitor& v);
};

using InterventionFactory = std::function<std::unique_ptr<InterventionSource>(const InterventionOptions&)>;
/// Adds a kind of source; a second one of the same name replaces it. Thread-safe.
void register_intervention_source(const std::string& type, InterventionFactory factory);
/// Names of the registered sources, sorted.
std::vector<std::string> intervention_source_types();
/// The source of the config. ConfigError naming the registered ones for an unknown type.
std::unique_ptr<InterventionSource> make_intervention_source(const InterventionOptions& options);

/// Watches what is of concern and acts by the expert. RunError when a concern calls for an expert that there
/// is not.
std::unique_ptr<InterventionSource> make_scripted_human(const ScriptedHumanOptions& options);
/// Never takes over.
std::unique_ptr<InterventionSource> make_no_human();

}  // namespace apo::deploy
