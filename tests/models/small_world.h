// A tiny policy and made-up observations for it, shared by the tests of this room.
#pragma once

#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/random.h"
#include "models/small/policy.h"
#include "support/message_of.h"
#include "support/near.h"

namespace apo::models::testing {

using apo::testing::message_of;

/// Two cameras, two states (2 + 1 numbers), three action dimensions: the first two normalised, the gripper
/// not.
inline Preprocessing small_preprocessing() {
  Preprocessing preprocessing;
  preprocessing.cameras = {"front", "wrist"};
  preprocessing.image_size = 32;
  preprocessing.state_keys = {"hand", "height"};
  tokenizers::VectorStatistics& action = preprocessing.statistics.action;
  action.mean = {0, 0.1, 0};
  action.std = {0.5, 0.2, 1};
  action.min = {-1, -0.5, -1};
  action.max = {1, 0.7, 1};
  action.q01 = {-0.8, -0.4, -1};
  action.q99 = {0.8, 0.6, 1};
  action.mask = {true, true, false};
  const auto spread = [](std::vector<double> mean, std::vector<double> std) {
    const size_t n = mean.size();
    return tokenizers::VectorStatistics{.mean = mean,
                                        .std = std,
                                        .min = std::vector<double>(n, -1),
                                        .max = std::vector<double>(n, 1),
                                        .q01 = std::vector<double>(n, -1),
                                        .q99 = std::vector<double>(n, 1),
                                        .mask = std::vector<bool>(n, true)};
  };
  preprocessing.statistics.state["hand"] = spread({0.5, -1}, {0.25, 2});
  preprocessing.statistics.state["height"] = spread({0.1}, {0});  // never changes: only centred
  preprocessing.statistics.num_transitions = 100;
  preprocessing.statistics.num_trajectories = 5;
  return preprocessing;
}

inline SmallShape small_shape() {
  return {.cameras = 2,
          .image_size = 32,
          .channels = 4,
          .width = 16,
          .layers = 2,
          .heads = 2,
          .vocabulary = 7,
          .prompt_length = 6,
          .state_size = 3,
          .action_size = 3,
          .action_bins = 16};
}

/// Random weights of a size at which every part matters (fresh ones decode the same action for every
/// picture).
inline void randomize(Policy& policy, uint64_t seed) {
  Random random(seed, "weights");
  const at::NoGradGuard no_grad;
  for (auto& [name, tensor] : policy.named_parameters()) {
    at::Tensor values = at::empty(tensor.sizes(), at::kFloat);
    const double scale =
        tensor.dim() >= 2 ? 1.5 / std::sqrt(static_cast<double>(tensor.numel() / tensor.size(0))) : 0.3;
    for (int64_t i = 0; i < values.numel(); ++i)
      values.data_ptr<float>()[i] = static_cast<float>(scale * random.normal());
    const bool norm = name.find("norm") != std::string::npos && name.ends_with("weight");
    tensor.copy_(norm ? values + 1 : values);
  }
}

inline std::unique_ptr<SmallPolicy> small_policy(uint64_t seed = 1) {
  auto policy = std::make_unique<SmallPolicy>(
      small_shape(), small_preprocessing(),
      Vocabulary({"<pad>", "<unk>", "block", "blue", "pick", "red", "the"}, "test"), seed, at::kCPU);
  randomize(*policy, seed);
  return policy;
}

inline Observation observation(uint64_t seed, const std::string& instruction = "pick the red block") {
  Random random(seed, "observation");
  Observation result;
  for (const char* camera : {"front", "wrist"}) {
    at::Tensor image = at::empty({32, 32, 3}, at::kByte);
    for (int64_t i = 0; i < image.numel(); ++i)
      image.data_ptr<uint8_t>()[i] = static_cast<uint8_t>(random.below(256));
    result.images[camera] = image;
  }
  result.state["hand"] = {static_cast<float>(random.normal()), static_cast<float>(random.normal())};
  result.state["height"] = {static_cast<float>(random.uniform())};
  result.instruction = instruction;
  return result;
}

/// Instructions of several lengths, so that prompts are padded.
inline std::vector<Observation> observations(uint64_t seed, int64_t count, bool padded = true) {
  const std::vector<std::string> texts{"pick the red block", "the blue block", "pick"};
  std::vector<Observation> all;
  for (int64_t i = 0; i < count; ++i)
    all.push_back(
        observation(seed * 1000 + static_cast<uint64_t>(i), texts[padded ? static_cast<size_t>(i) % 3 : 0]));
  return all;
}

inline std::vector<Action> actions(uint64_t seed, int64_t count, int64_t size = 3) {
  Random random(seed, "actions");
  std::vector<Action> all(static_cast<size_t>(count), Action(static_cast<size_t>(size)));
  for (Action& action : all)
    for (float& value : action) value = static_cast<float>(random.uniform(-1, 1));
  return all;
}

using apo::testing::distance;

/// A plain step down the gradient of a cross-entropy on the given actions; returns the loss before it.
inline double descend(Policy& policy, const PolicyInput& input, const ActionTokens& tokens, double rate) {
  const NamedTensors parameters = trainable_parameters(policy);
  for (const auto& [name, tensor] : parameters) tensor.mutable_grad() = at::Tensor();
  const at::Tensor loss =
      -policy.score(input, tokens).logits.whole().log_softmax(-1).gather(-1, tokens.ids.unsqueeze(-1)).mean();
  loss.backward();
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : parameters)
    if (tensor.grad().defined()) at::Tensor(tensor).sub_(tensor.grad(), rate);
  return loss.item<double>();
}

}  // namespace apo::models::testing
