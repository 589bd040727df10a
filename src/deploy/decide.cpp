#include "deploy/decide.h"

#include <torch/types.h>

#include <algorithm>
#include <utility>

#include "apo/base/error.h"
#include "apo/models/confidence.h"

namespace apo::deploy {

std::vector<int64_t> grippers_of(const Robot& robot, const models::Policy& policy) {
  const config::GripperOptions own = policy.gripper(), &theirs = robot.gripper;
  const std::vector<int64_t> from = config::gripper_dimensions(own, robot.action_size, "policy");
  if (theirs.dimension.empty()) return from;
  std::vector<int64_t> to = config::gripper_dimensions(theirs, robot.action_size, robot.section);
  APO_CHECK(ConfigError, own.dimension.empty() || from == to, "policy.gripper: ", config::to_text(own), "; ",
            robot.section, ".gripper: ", config::to_text(theirs), "; expected the same dimensions");
  return to;
}

int64_t steps_of(const Robot& robot, const models::Policy& policy) {
  return robot.most_steps > 0 ? std::min(robot.most_steps, policy.execute_steps()) : policy.execute_steps();
}

Decisions decide(models::Policy& policy, std::span<const Observation> seen, std::vector<uint64_t> seeds,
                 const Robot& robot, const std::function<std::string(size_t)>& where, double temperature,
                 bool confidence) {
  const at::NoGradGuard no_gradient;
  models::DecodeOptions options{.temperature = temperature, .seeds = std::move(seeds)};
  std::vector<at::Tensor> token_probs;
  if (confidence) options.token_probs = &token_probs;
  models::Decision decision = policy.act(policy.encode(seen), options);
  APO_CHECK(RunError, decision.actions.size() == seen.size(), where(0), ": expected ", seen.size(),
            " answers from the policy, found ", decision.actions.size());
  const config::GripperOptions own = policy.gripper();
  const std::vector<int64_t> grippers = grippers_of(robot, policy);
  const auto most = static_cast<size_t>(steps_of(robot, policy));
  Decisions decisions{.rows = std::vector<Decided>(seen.size()),
                      .confidence = models::confidences(token_probs),
                      .num_clamped = decision.num_clamped};
  for (size_t i = 0; i < seen.size(); ++i) {
    ActionChunk& chunk = decision.actions[i];
    const std::string row = where(i);
    try {
      APO_CHECK(RunError, !chunk.empty(), row, ": expected tokens that code actions from the policy, found ",
                decision.ids[static_cast<int64_t>(i)]);
      for (Action& action : chunk) {
        check_action(action, robot.action_size, "policy", row);
        config::recode_gripper(action, grippers, own, robot.gripper);
      }
      if (chunk.size() > most) chunk.resize(most);
      decisions.rows[i].actions = std::move(chunk);
    } catch (const RunError& error) {
      decisions.rows[i].refused = error.what();
    }
  }
  if (decision.malformed.defined()) decisions.num_clamped += decision.malformed.sum().item<int64_t>();
  return decisions;
}

void prepare(const models::Policy& policy, const Rollout& rollout, Observation& seen) {
  try {
    policy.prepare(seen);
  } catch (const DataError& error) {
    throw DataError(concat("environment ", rollout.spec().name, ": ", rollout.where(), ": ", error.what()));
  }
}

int64_t decide(models::Policy& policy, std::span<const Observation> seen, std::span<Rollout* const> rollouts,
               double temperature, std::vector<double>* confidence) {
  std::vector<uint64_t> seeds;
  for (const Rollout* rollout : rollouts) seeds.push_back(rollout->decision_seed());
  const environments::EnvironmentSpec& spec = rollouts[0]->spec();
  Decisions decisions = decide(
      policy, seen, std::move(seeds), {.action_size = spec.action_size, .gripper = spec.gripper},
      [&](size_t i) { return rollouts[i]->where(); }, temperature, confidence != nullptr);
  if (confidence != nullptr) *confidence = std::move(decisions.confidence);
  for (const Decided& row : decisions.rows) APO_CHECK(RunError, row.refused.empty(), row.refused);
  for (size_t i = 0; i < rollouts.size(); ++i) rollouts[i]->decided(std::move(decisions.rows[i].actions));
  return decisions.num_clamped;
}

}  // namespace apo::deploy
