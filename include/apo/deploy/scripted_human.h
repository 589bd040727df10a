// A human played by a script: whom simulations are corrected by where nobody is at hand.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace apo::config {
class Visitor;
}

namespace apo::deploy {

class InterventionSource;

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

/// Watches what is of concern and acts by the expert. RunError when a concern calls for an expert that there
/// is not.
std::unique_ptr<InterventionSource> make_scripted_human(const ScriptedHumanOptions& options);
}  // namespace apo::deploy
