#include "deploy/decide.h"

#include <torch/types.h>

#include <cmath>

#include "apo/base/error.h"

namespace apo::deploy {

void check_action(const Action& action, int64_t size, const char* who, const std::string& where) {
  APO_CHECK(RunError, static_cast<int64_t>(action.size()) == size, where, ": expected an action of ", size,
            " numbers from the ", who, ", found ", action.size());
  for (size_t d = 0; d < action.size(); ++d)
    APO_CHECK(RunError, std::isfinite(action[d]), where, ": expected a finite action from the ", who,
              ", found dimension ", d, " = ", action[d]);
}

Decision decide(models::Policy& policy, std::span<const Observation> observations, int64_t action_size,
                const data::GripperOptions& gripper, const models::DecodeOptions& options,
                const std::function<std::string(size_t)>& where) {
  const at::NoGradGuard no_gradient;
  const at::Tensor ids = policy.act(policy.encode(observations), options);
  Decision decision{.actions = policy.to_actions(ids),
                    .num_clamped_tokens = models::count_clamped_tokens(policy, ids)};
  std::vector<Action>& actions = decision.actions;
  APO_CHECK(RunError, actions.size() == observations.size(), where(0), ": expected ", observations.size(),
            " actions from the policy, found ", actions.size());
  for (size_t i = 0; i < actions.size(); ++i) check_action(actions[i], action_size, "policy", where(i));
  const data::GripperOptions own = policy.gripper();
  const std::vector<int64_t> from = data::gripper_dimensions(own, action_size, "policy");
  const std::vector<int64_t> to =
      gripper.dimension.empty() ? from : data::gripper_dimensions(gripper, action_size, "environment");
  APO_CHECK(ConfigError, own.dimension.empty() || from == to, "policy.gripper: ", data::to_text(own),
            "; the environment's: ", data::to_text(gripper), "; expected the same dimensions");
  for (Action& action : actions) data::recode_gripper(action, to, own, gripper);
  return decision;
}

}  // namespace apo::deploy
