#include "deploy/decide.h"

#include <torch/types.h>

#include <utility>
#include <vector>

#include "apo/base/error.h"
#include "apo/models/confidence.h"

namespace apo::deploy {

int64_t decide(models::Policy& policy, std::span<const Observation> seen, std::span<Rollout* const> rollouts,
               double temperature, std::vector<double>* confidence) {
  const at::NoGradGuard no_gradient;
  models::DecodeOptions options{.temperature = temperature};
  for (const Rollout* rollout : rollouts) options.seeds.push_back(rollout->decision_seed());
  std::vector<at::Tensor> token_probs;
  if (confidence != nullptr) options.token_probs = &token_probs;
  models::Decision decision = policy.act(policy.encode(seen), options);
  if (confidence != nullptr) *confidence = models::confidences(token_probs);
  std::vector<ActionChunk>& chunks = decision.actions;
  APO_CHECK(RunError, chunks.size() == rollouts.size(), rollouts[0]->where(), ": expected ", rollouts.size(),
            " answers from the policy, found ", chunks.size());
  const environments::EnvironmentSpec& spec = rollouts[0]->spec();
  for (size_t i = 0; i < chunks.size(); ++i) {
    APO_CHECK(RunError, !chunks[i].empty(), rollouts[i]->where(),
              ": expected tokens that code actions from the policy, found ",
              decision.ids[static_cast<int64_t>(i)]);
    for (const Action& action : chunks[i])
      check_action(action, spec.action_size, "policy", rollouts[i]->where());
  }
  const config::GripperOptions own = policy.gripper(), &theirs = spec.gripper;
  const std::vector<int64_t> from = config::gripper_dimensions(own, spec.action_size, "policy");
  const std::vector<int64_t> to =
      theirs.dimension.empty() ? from : config::gripper_dimensions(theirs, spec.action_size, "environment");
  APO_CHECK(ConfigError, own.dimension.empty() || from == to, "policy.gripper: ", config::to_text(own),
            "; the environment's: ", config::to_text(theirs), "; expected the same dimensions");
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (std::ssize(chunks[i]) > policy.execute_steps())
      chunks[i].resize(static_cast<size_t>(policy.execute_steps()));
    for (Action& action : chunks[i]) config::recode_gripper(action, to, own, theirs);
    rollouts[i]->decided(std::move(chunks[i]));
  }
  const int64_t malformed = decision.malformed.defined() ? decision.malformed.sum().item<int64_t>() : 0;
  return decision.num_clamped + malformed;
}

}  // namespace apo::deploy
