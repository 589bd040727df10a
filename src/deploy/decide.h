// What a policy decides, checked before anything moves.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "apo/base/types.h"
#include "apo/deploy/rollout.h"
#include "apo/models/policy.h"

namespace apo::deploy {

/// Asks `policy` once for all of these episodes of equal environments and tells each its actions. `seen` are
/// their observations, prepared already. Of more actions than policy.execute_steps the first are taken. Where the policy codes the gripper otherwise than the environment,
/// its commands are recoded. What is drawn at a temperature > 0 depends on each episode's seed and step
/// alone. `confidence`, where there is one, gets the mean probability of each answer's tokens; nothing where the policy does
/// not say. Returns how many decoded tokens were no action tokens and answers no whole code. Errors: RunError as check_action;
/// ConfigError if the grippers of policy and environment are at different places.
int64_t decide(models::Policy& policy, std::span<const Observation> seen, std::span<Rollout* const> rollouts,
               double temperature, std::vector<double>* confidence = nullptr);

}  // namespace apo::deploy
