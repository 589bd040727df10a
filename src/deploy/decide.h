// What a policy decides, checked before anything moves.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "apo/base/types.h"
#include "apo/config/gripper.h"
#include "apo/deploy/rollout.h"
#include "apo/models/policy.h"

namespace apo::deploy {

/// Whose actions a policy decides: an environment's, or those of robots that ask a server.
struct Robot {
  int64_t action_size = 0;
  config::GripperOptions gripper = {};  ///< what is left open is as in the policy's actions
  std::string section = "environment";  ///< of the config that says so
  int64_t most_steps = 0;  ///< of a decision that it takes; 0: as many as policy.execute_steps leaves
};
/// The numbers of its actions that are grippers. ConfigError if the policy's grippers are at other places.
std::vector<int64_t> grippers_of(const Robot& robot, const models::Policy& policy);
/// How many actions of a decision it gets at most.
int64_t steps_of(const Robot& robot, const models::Policy& policy);

struct Decided {
  ActionChunk actions;  ///< [<= steps_of(robot)][A], the gripper coded as the robot's; empty: refused
  std::string refused;  ///< no tokens that code actions, or what check_action says of them
};
struct Decisions {
  std::vector<Decided> rows;       ///< of each observation
  std::vector<double> confidence;  ///< mean probability of each answer's tokens; empty: none is known
  int64_t num_clamped = 0;         ///< tokens that were no action tokens, answers that were no whole code
};
/// Asks `policy` once. `seen` are prepared already; what is drawn at a temperature > 0 depends on each one's
/// seed alone. `where(i)` begins what is said of a refused row. RunError if answers are missing; ConfigError
/// as grippers_of.
Decisions decide(models::Policy& policy, std::span<const Observation> seen, std::vector<uint64_t> seeds,
                 const Robot& robot, const std::function<std::string(size_t)>& where, double temperature,
                 bool confidence);

/// What the environment shows, as the policy reads it. DataError, naming environment and step, where it is
/// not what the policy needs.
void prepare(const models::Policy& policy, const Rollout& rollout, Observation& seen);

/// The same for the episodes of equal environments, each of which is told its actions. `confidence`, if any,
/// gets that of each answer. Returns `num_clamped`. RunError if a row is refused.
int64_t decide(models::Policy& policy, std::span<const Observation> seen, std::span<Rollout* const> rollouts,
               double temperature, std::vector<double>* confidence = nullptr);

}  // namespace apo::deploy
