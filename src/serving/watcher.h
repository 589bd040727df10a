// Who watches the robots that are served and may act in the policy's place: a person at the console.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "apo/base/types.h"

namespace apo::serving {

/// What there is to know before a step is answered; its references hold for the call.
struct ServedMoment {
  const std::string& episode;      ///< the server's own name of it, unique while it runs
  int64_t step = 0;                ///< steps asked for before, those among them in which the robot waited
  const Observation& observation;  ///< as sent
  const Action* policy_action;     ///< what the policy wants, [A]; null: it failed, or was too late
  double captured_ms = 0;          ///< wall clock at the arrival of the request, since 1970
  /// mean probability of the tokens that the policy decided; nothing: it does not say
  std::optional<double> confidence = {};
};

/// What is executed in place of the policy's action.
struct Override {
  Action action;         ///< [A], the robot's units
  std::string reason;    ///< why the human took over
  bool recorded = true;  ///< false: the robot waits; a gap in time and no step
};

/// Called from one thread of the server's. What it throws fails the request.
class Watcher {
 public:
  virtual ~Watcher() = default;
  /// Nothing: the policy acts.
  virtual std::optional<Override> decide(const ServedMoment& moment) = 0;
  /// The step as it was answered and, where there is a recording, recorded.
  virtual void happened(const std::string& episode, const Step& what) = 0;
  /// `recording` is the recorder's number of it; nothing: it is not recorded.
  virtual void ended(const std::string& episode, std::optional<bool> success, const std::string& outcome,
                     std::optional<int64_t> recording) = 0;
  /// An ended episode joined the recording as `name`, "demo_3"; from a thread of its own.
  virtual void joined(int64_t recording, const std::string& name) {}
  /// Whether somebody looks, who wants to know how sure the policy is. From any thread.
  virtual bool wants_confidence() const { return false; }
  /// What the next episode of this robot is to do in place of what it asks for; empty: what it asks for. From
  /// the network's thread.
  virtual std::string instruction_for(const std::string& episode) { return ""; }
};

}  // namespace apo::serving
