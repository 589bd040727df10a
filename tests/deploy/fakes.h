// A walk along a line, and a policy that is any function of what it sees.
#pragma once

#include <torch/types.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "apo/base/error.h"
#include "apo/deploy/intervention.h"
#include "apo/environments/environment.h"
#include "apo/models/policy.h"
#include "support/message_of.h"

namespace apo::deploy::testing {

using apo::testing::message_of;

/// The walker starts at 0 and must reach 3 + seed % 3 within 12 steps; action[0] is the stride, action[1]
/// idles. Below -0.5 a human is concerned ("off course"), below -1.5 urgently ("wrong object"), at -4 it
/// falls ("fell"). With seed % 5 == 4 it takes an unlucky first step back of 1.
class Walk : public environments::Environment {
 public:
  explicit Walk(int64_t action_size = 2)
      : environments::Environment({.name = "walk",
                                   .config = "walk: true",
                                   .action_size = action_size,
                                   .max_steps = 12,
                                   .control_hz = 10}) {}
  environments::Situation reset(uint64_t seed) override {
    goal_ = 3.0 + static_cast<double>(seed % 3);
    position_ = seed % 5 == 4 ? -1.0 : 0.0;
    seed_ = seed;
    steps_ = 0;
    troubled_ = false;
    return situation();
  }
  Observation observe() override {
    Observation observation;
    observation.images["front"] = at::full({4, 4, 3}, static_cast<int64_t>(position_ * 10) + 100, at::kByte);
    observation.state["position"] = {static_cast<float>(position_)};
    observation.state["seed"] = {static_cast<float>(seed_)};
    observation.instruction = "walk to the flag";
    return observation;
  }
  environments::Situation step(const Action& action) override {
    position_ += action[0];
    ++steps_;
    troubled_ |= situation().concern.has_value();
    return situation();
  }
  at::Tensor render(int64_t size) override {
    return at::full({size, size, 3}, static_cast<int64_t>(position_ * 10) + 100, at::kByte);
  }
  std::optional<Action> expert() override {
    return has_expert ? std::optional<Action>(Action{1.0f, 0.25f}) : std::nullopt;
  }

  virtual environments::Situation situation() const {
    const bool success = position_ >= goal_, fell = position_ <= -4;
    environments::Situation now{.done = success || fell,
                                .success = success,
                                .troubled = troubled_,
                                .outcome = success ? "success" : "fell",
                                .facts = {{"start", seed_ % 5 == 4 ? "back" : "line"}}};
    if (position_ < -0.5) now.concern = position_ < -1.5 ? "wrong object" : "off course";
    return now;
  }
  int64_t step_count() const { return steps_; }

  bool has_expert = true;

 private:
  double goal_ = 3, position_ = 0;
  uint64_t seed_ = 0;
  int64_t steps_ = 0;
  bool troubled_ = false;
};

/// What the human does in the step before which `walk` stands, where the policy wants `wanted`.
inline std::optional<Intervention> ask(InterventionSource& human, Walk& walk, const Action& wanted) {
  const Observation seen = walk.observe();
  const environments::Situation now = walk.situation();
  return human.decide({.spec = walk.spec(),
                       .observation = seen,
                       .policy_action = wanted,
                       .step = walk.step_count(),
                       .concern = now.concern,
                       .concern_steps = now.concern_steps,
                       .expert = [&] { return walk.expert(); }});
}

inline environments::EnvironmentOptions walk_options() {
  environments::register_environment(
      "walk", [](const environments::EnvironmentOptions&) { return std::make_unique<Walk>(); });
  environments::EnvironmentOptions options;
  options.type = "walk";
  return options;
}

/// Eight bins a dimension, and single ids for what was decided: rows of a table.
class FunctionCodec final : public tokenizers::ActionCodec {
 public:
  explicit FunctionCodec(int64_t action_size) : ActionCodec(action_size, 1) {}
  int64_t max_length() const override { return action_size(); }
  std::optional<tokenizers::TokenRange> bins() const override { return tokenizers::TokenRange{0, 7}; }
  mutable std::vector<Action> decided;

 protected:
  tokenizers::CodedActions encode_checked(const at::Tensor& actions, const at::Tensor&) const override {
    const at::Tensor scaled = (actions.flatten(1) + 1) / 2 * 7;
    return {.ids = (scaled + 0.5).floor().to(at::kLong), .mask = at::ones(scaled.sizes(), at::kBool)};
  }
  tokenizers::DecodedActions decode_checked(const at::Tensor& ids) const override {
    tokenizers::DecodedActions found{.actions = at::empty({ids.size(0), 1, action_size()}),
                                     .decoded = at::ones({ids.size(0)}, at::kBool),
                                     .num_clamped = ids.gt(7).sum(1)};
    if (ids.size(1) != 1 || action_size() == 1) {
      found.actions = (ids.to(at::kFloat) / 7 * 2 - 1).unsqueeze(1);
      return found;
    }
    for (int64_t b = 0; b < ids.size(0); ++b)
      found.actions[b][0] =
          at::tensor(decided.at(static_cast<size_t>(ids[b][0].item<int64_t>())), at::kFloat);
    return found;
  }
};

/// Whatever it is asked to score, its logits are -(v - 3)^2.
class FunctionPolicy : public models::Policy {
 public:
  using Function = std::function<Action(const Observation&)>;
  explicit FunctionPolicy(Function function, int64_t action_size = 2, config::GripperOptions gripper = {})
      : FunctionPolicy(std::move(function), std::make_shared<FunctionCodec>(action_size),
                       std::move(gripper)) {}

  models::PolicyInput encode(std::span<const Observation> observations) const override {
    largest_batch = std::max(largest_batch, observations.size());
    codec_->decided.clear();
    for (const Observation& observation : observations) codec_->decided.push_back(function_(observation));
    models::PolicyInput input;
    input.state = at::zeros({static_cast<int64_t>(observations.size()), 1});
    return input;
  }
  models::Score score(const models::PolicyInput&, const models::ActionTokens& tokens,
                      const models::ActionTokens*) override {
    const at::Tensor row = -(at::arange(8, at::kFloat) - 3).square();
    return {.logits = row.expand({tokens.ids.size(0), tokens.ids.size(1), 8}).contiguous(),
            .mismatched_logits = {}};
  }
  at::Tensor decode(const models::PolicyInput& input, const models::DecodeOptions&) override {
    ++calls;
    return at::arange(input.state.size(0), at::kLong).unsqueeze(1);
  }
  models::NamedTensors named_parameters() const override { return {{"weight", parameter_}}; }
  std::unique_ptr<models::Policy> clone() const override {
    return std::make_unique<FunctionPolicy>(function_, action_size(), gripper());
  }
  void save(const std::filesystem::path&) const override {}

  mutable size_t largest_batch = 0;
  int64_t calls = 0;

 private:
  FunctionPolicy(Function function, std::shared_ptr<FunctionCodec> codec, config::GripperOptions gripper)
      : Policy({.codec = codec,
                .normalizer = tokenizers::Normalizer(codec->action_size()),
                .vocabulary_size = 8,
                .gripper = std::move(gripper)}),
        function_(std::move(function)),
        codec_(std::move(codec)),
        parameter_(at::ones({2})) {}

  Function function_;
  std::shared_ptr<FunctionCodec> codec_;
  at::Tensor parameter_;
};

/// Strides forward; from position 2 on it stumbles back when seed % 2 == 1.
inline Action hesitant(const Observation& observation) {
  const float position = observation.state.at("position")[0], seed = observation.state.at("seed")[0];
  const bool odd = static_cast<int64_t>(seed) % 2 == 1;
  return {odd ? -0.5f : 0.75f, position / 10};
}

}  // namespace apo::deploy::testing
