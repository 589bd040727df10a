#include "deploy/decide.h"

#include <torch/types.h>

#include <string>
#include <utility>
#include <vector>

#include "apo/base/error.h"

namespace apo::deploy {

int64_t decide(models::Policy& policy, std::span<const Observation> seen, std::span<Rollout* const> rollouts,
               double temperature) {
  const at::NoGradGuard no_gradient;
  models::DecodeOptions options{.temperature = temperature};
  for (const Rollout* rollout : rollouts) options.seeds.push_back(rollout->decision_seed());
  const at::Tensor ids = policy.act(policy.encode(seen), options);
  std::vector<Action> actions = policy.to_actions(ids);
  APO_CHECK(RunError, actions.size() == rollouts.size(), rollouts[0]->where(), ": expected ", rollouts.size(),
            " actions from the policy, found ", actions.size());
  const environments::EnvironmentSpec& spec = rollouts[0]->spec();
  for (size_t i = 0; i < actions.size(); ++i)
    check_action(actions[i], spec.action_size, "policy", rollouts[i]->where());
  const config::GripperOptions own = policy.gripper(), &theirs = spec.gripper;
  const std::vector<int64_t> from = config::gripper_dimensions(own, spec.action_size, "policy");
  const std::vector<int64_t> to =
      theirs.dimension.empty() ? from : config::gripper_dimensions(theirs, spec.action_size, "environment");
  APO_CHECK(ConfigError, own.dimension.empty() || from == to, "policy.gripper: ", config::to_text(own),
            "; the environment's: ", config::to_text(theirs), "; expected the same dimensions");
  for (size_t i = 0; i < actions.size(); ++i) {
    config::recode_gripper(actions[i], to, own, theirs);
    rollouts[i]->decided({std::move(actions[i])});
  }
  return models::count_clamped_tokens(policy, ids);
}

}  // namespace apo::deploy
