// A walk along a line, and a policy that is any function of what it sees.
#pragma once

#include <torch/types.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apo/base/error.h"
#include "apo/environments/environment.h"
#include "apo/deploy/intervention.h"
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
  environments::register_environment("walk", [](const environments::EnvironmentOptions&) { return std::make_unique<Walk>(); });
  environments::EnvironmentOptions options;
  options.type = "walk";
  return options;
}

/// Eight bins a dimension. Whatever it is asked to score, its logits are -(v - 3)^2.
class FunctionPolicy : public models::Policy {
 public:
  using Function = std::function<Action(const Observation&)>;
  explicit FunctionPolicy(Function function, int64_t action_size = 2)
      : function_(std::move(function)), action_size_(action_size), parameter_(at::ones({2})) {}

  void prepare(Observation&) const override {}
  models::PolicyInput encode(std::span<const Observation> observations) const override {
    largest_batch = std::max(largest_batch, observations.size());
    decided_.clear();
    for (const Observation& observation : observations) decided_.push_back(function_(observation));
    models::PolicyInput input;
    input.state = at::zeros({static_cast<int64_t>(observations.size()), 1});
    return input;
  }
  models::ActionTokens tokenize(std::span<const Action> actions) const override {
    const auto rows = static_cast<int64_t>(actions.size());
    models::ActionTokens tokens;
    tokens.ids = at::zeros({rows, action_size_}, at::kLong);
    for (int64_t b = 0; b < rows; ++b)
      for (int64_t d = 0; d < action_size_; ++d) tokens.ids[b][d] = std::lround((actions[b][d] + 1) / 2 * 7);
    tokens.mask = at::ones({rows, action_size_}, at::kBool);
    return tokens;
  }
  at::Tensor detokenize(const at::Tensor& ids) const override { return ids.to(at::kFloat) / 7 * 2 - 1; }
  std::vector<Action> to_actions(const at::Tensor& ids) const override {
    std::vector<Action> actions;
    if (ids.size(1) == 1 && action_size_ != 1) {  // from act: row numbers
      for (int64_t b = 0; b < ids.size(0); ++b) actions.push_back(decided_.at(ids[b][0].item<int64_t>()));
      return actions;
    }
    const at::Tensor values = detokenize(ids);
    for (int64_t b = 0; b < ids.size(0); ++b) {
      const at::Tensor row = values[b].contiguous();
      actions.emplace_back(row.data_ptr<float>(), row.data_ptr<float>() + row.numel());
    }
    return actions;
  }
  models::Score score(const models::PolicyInput&, const models::ActionTokens& tokens,
                      const models::ActionTokens*) override {
    const at::Tensor row = -(at::arange(8, at::kFloat) - 3).square();
    return {.logits = row.expand({tokens.ids.size(0), tokens.ids.size(1), 8}).contiguous(),
            .mismatched_logits = {}};
  }
  at::Tensor act(const models::PolicyInput& input, const models::DecodeOptions&) override {
    ++calls;
    return at::arange(input.state.size(0), at::kLong).unsqueeze(1);
  }
  int64_t action_size() const override { return action_size_; }
  int64_t vocabulary_size() const override { return 8; }
  std::pair<int64_t, int64_t> action_token_range() const override { return {0, 7}; }
  models::NamedTensors named_parameters() const override { return {{"weight", parameter_}}; }
  at::Device device() const override { return at::kCPU; }
  void set_training(bool) override {}
  std::unique_ptr<models::Policy> clone() const override { return std::make_unique<FunctionPolicy>(*this); }
  void save(const std::filesystem::path&) const override {}

  mutable size_t largest_batch = 0;
  int64_t calls = 0;

 private:
  Function function_;
  int64_t action_size_;
  at::Tensor parameter_;
  mutable std::vector<Action> decided_;
};

/// Strides forward; from position 2 on it stumbles back when seed % 2 == 1.
inline Action hesitant(const Observation& observation) {
  const float position = observation.state.at("position")[0], seed = observation.state.at("seed")[0];
  const bool odd = static_cast<int64_t>(seed) % 2 == 1;
  return {odd ? -0.5f : 0.75f, position / 10};
}

}  // namespace apo::deploy::testing
