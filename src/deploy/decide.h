// What a policy decides, checked before anything moves.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "apo/base/types.h"
#include "apo/models/policy.h"

namespace apo::deploy {

/// RunError naming `where` unless `action` has `size` finite numbers. `who` is "policy", "human" or "expert".
void check_action(const Action& action, int64_t size, const char* who, const std::string& where);

struct Decision {
  std::vector<Action> actions;     ///< one for each observation
  int64_t num_clamped_tokens = 0;  ///< decoded tokens of all of them that were no action tokens
};
/// Decides for each observation (prepared already), in one forward pass. `where(i)` describes observation i in
/// messages, e.g. "trial 3, step 12". RunError as check_action. `gripper` is how those who execute the
/// actions code it: where the policy codes it otherwise, its commands are recoded.
Decision decide(models::Policy& policy, std::span<const Observation> observations, int64_t action_size,
                const data::GripperOptions& gripper, const models::DecodeOptions& options,
                const std::function<std::string(size_t)>& where);

}  // namespace apo::deploy
