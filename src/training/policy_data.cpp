#include "apo/training/policy_data.h"

#include <torch/types.h>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/data/statistics.h"
#include "apo/models/description.h"

namespace apo::training {

models::DataFacts data_facts(const data::Dataset& dataset) {
  std::vector<data::StepIndex> steps = dataset.kept_steps(/*expert_only=*/true);
  if (steps.empty()) steps = dataset.kept_steps();
  APO_CHECK(DataError, !steps.empty(),
            "data: a fresh policy needs recorded steps for its statistics; expected some in data.expert or "
            "data.interactions, found none");
  const Observation first = dataset.observation(steps.front());
  models::DataFacts facts;
  for (const auto& [camera, image] : first.images) facts.cameras.push_back(camera);
  for (const auto& [state, numbers] : first.state) facts.state_keys.push_back(state);
  facts.unused = data::unused_observations(dataset.record(steps.front().file, steps.front().episode));
  facts.instructions = dataset.instructions();
  facts.statistics = data::compute_statistics(dataset, steps);
  return facts;
}

audit::PolicyInputs policy_inputs(const models::PolicyOptions& options) {
  audit::PolicyInputs inputs;
  inputs.cameras = options.cameras;
  inputs.state_keys = options.state_keys;
  inputs.gripper = options.gripper;
  inputs.of_checkpoint = !options.checkpoint.empty();
  const std::optional<models::PolicyDescription> description = models::describe_policy(options);
  if (!description) {
    if (options.statistics.empty()) return inputs;
    const tokenizers::DatasetStatistics given = tokenizers::statistics_from_json(
        read_file(options.statistics), options.unnorm_key, options.statistics);
    inputs.action = given.action;
    inputs.gripper = config::or_else(options.gripper, given.gripper);
    return inputs;
  }
  inputs.of_checkpoint = description->cameras.empty();
  if (!description->cameras.empty()) {
    inputs.cameras = description->cameras;
    inputs.state_keys = description->state_keys;
  }
  if (!description->state_keys.empty()) inputs.state_keys = description->state_keys;
  if (description->statistics.action.size() > 0) inputs.action = description->statistics.action;
  inputs.gripper = description->statistics.gripper;
  inputs.image_size = description->image_size;
  if (!description->words.empty())
    inputs.unknown_words = [known = *description](const std::string& instruction) {
      return known.unknown_words(instruction);
    };
  return inputs;
}

}  // namespace apo::training
