#include "apo/config/gripper.h"

#include "apo/base/error.h"
#include "apo/data/dataset.h"

namespace apo::data {

GripperOptions gripper_of(const DataOptions& options) {
  GripperOptions gripper = options.policy_gripper;
  for (const auto* sources : {&options.expert, &options.interactions})
    for (const SourceOptions& source : *sources) gripper = or_else(gripper, source.gripper);
  return gripper;
}

GripperOptions gripper_of(const SourceOptions& source, const DataOptions& options) {
  return or_else(source.gripper, gripper_of(options));
}

void recode_gripper(EpisodeRecord& episode, const SourceOptions& source, const DataOptions& options) {
  const GripperOptions to = gripper_of(options);
  if (episode.actions.empty() || (source.gripper == GripperOptions{} && to == GripperOptions{})) return;
  const auto size = static_cast<int64_t>(episode.actions[0].size());
  const std::vector<int64_t> dimensions = gripper_dimensions(gripper_of(source, options), size, source.path);
  APO_CHECK(
      ConfigError, dimensions == gripper_dimensions(to, size, source.path), source.path,
      ": gripper: ", to_text(source.gripper), "; expected ", to_text(to),
      options.policy_gripper.dimension.empty() ? " as in the other sources" : " as in the policy's actions");
  for (Action& action : episode.actions) recode_gripper(action, dimensions, source.gripper, to);
  for (std::optional<Action>& wanted : episode.policy_actions)
    if (wanted) recode_gripper(*wanted, dimensions, source.gripper, to);
}

}  // namespace apo::data
