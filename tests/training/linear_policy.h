// The smallest policy that the training loop can drive: one hidden layer over state, previous token and
// position. It lets tests drop out units, count calls, and fail where they want.
#pragma once

#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/models/policy.h"
#include "apo/models/safetensors.h"
#include "apo/tokenizers/action_bins.h"

namespace apo::testing {

class LinearPolicy : public models::Policy {
 public:
  static constexpr int64_t kActionSize = 2, kStateSize = 3, kBins = 8, kHidden = 5;
  static constexpr int64_t kEndToken = kBins, kVocabulary = kBins + 2, kTokens = kActionSize + 1;
  static constexpr const char* kType = "linear";

  // what tests reach into
  inline static double dropout = 0;
  inline static std::function<void(const std::filesystem::path&)> before_save;
  int64_t num_scored = 0;  // samples that passed through `score` with gradient enabled or not

  explicit LinearPolicy(uint64_t seed) {
    const auto filled = [&](int64_t rows, int64_t columns, double offset) {
      const at::Tensor count = at::arange(rows * columns, at::kFloat) + offset + static_cast<double>(seed);
      return at::sin(count * 1.7).mul_(0.7).reshape({rows, columns}).set_requires_grad(true);
    };
    parameters_ = {{"input.weight", filled(kHidden, kStateSize, 0.1)},
                   {"embedding.weight", filled(kVocabulary, kHidden, 0.2)},
                   {"position.weight", filled(kTokens, kHidden, 0.3)},
                   {"head.weight", filled(kVocabulary, kHidden, 0.4)}};
  }

  static void enroll() {
    models::register_policy(
        kType, {.create = [](const models::PolicyOptions&, const data::Dataset&, uint64_t seed,
                             at::Device) { return std::make_unique<LinearPolicy>(seed); },
                .load =
                    [](const models::PolicyOptions&, const std::filesystem::path& directory, at::Device) {
                      auto policy = std::make_unique<LinearPolicy>(0);
                      const at::NoGradGuard no_grad;
                      models::SafetensorsReader(directory).load_into(policy->named_parameters());
                      return policy;
                    }});
  }

  void prepare(Observation&) const override {}
  models::PolicyInput encode(std::span<const Observation> observations) const override {
    models::PolicyInput input;
    std::vector<at::Tensor> rows;
    for (const Observation& o : observations) rows.push_back(at::tensor(o.state.at("pose"), at::kFloat));
    input.state = at::stack(rows);
    return input;
  }
  models::ActionTokens tokenize(std::span<const Action> actions) const override {
    std::vector<at::Tensor> rows;
    for (const Action& action : actions) rows.push_back(at::tensor(action, at::kFloat));
    const at::Tensor bins = tokenizers::ActionBins(kBins).encode(at::stack(rows));
    const int64_t size = bins.size(0);
    models::ActionTokens tokens;
    tokens.ids = at::cat({bins, at::full({size, 1}, kEndToken, at::kLong)}, 1);
    tokens.mask = at::ones({size, kTokens}, at::kBool);
    tokens.num_clipped = at::stack(rows).abs().gt(1).sum().item<int64_t>();
    tokens.end_token = tokens.ids.eq(kEndToken);
    tokens.dimension = at::tensor({0, 1, -1}, at::kLong).expand({size, kTokens}).contiguous();
    return tokens;
  }
  at::Tensor detokenize(const at::Tensor& ids) const override {
    APO_CHECK(DataError, ids.slice(1, kActionSize).eq(kEndToken).all().item<bool>(),
              "expected the end token last");
    return tokenizers::ActionBins(kBins).decode(ids.slice(1, 0, kActionSize));
  }
  std::vector<Action> to_actions(const at::Tensor& ids) const override {
    const at::Tensor values = detokenize(ids).contiguous();
    std::vector<Action> actions;
    for (int64_t i = 0; i < values.size(0); ++i)
      actions.emplace_back(values[i].data_ptr<float>(), values[i].data_ptr<float>() + kActionSize);
    return actions;
  }

  models::Score score(const models::PolicyInput& input, const models::ActionTokens& tokens,
                      const models::ActionTokens* mismatched) override {
    num_scored += input.state.size(0);
    return {.logits = logits(input, tokens.ids),
            .mismatched_logits = mismatched ? logits(input, mismatched->ids) : at::Tensor()};
  }
  at::Tensor act(const models::PolicyInput& input, const models::DecodeOptions&) override {
    return at::zeros({input.state.size(0), kTokens}, at::kLong);
  }

  int64_t action_size() const override { return kActionSize; }
  int64_t vocabulary_size() const override { return kVocabulary; }
  std::pair<int64_t, int64_t> action_token_range() const override { return {0, kBins - 1}; }
  models::NamedTensors named_parameters() const override { return parameters_; }
  at::Device device() const override { return at::kCPU; }
  void set_training(bool training) override { training_ = training; }
  bool training() const override { return training_; }
  std::unique_ptr<models::Policy> clone() const override {
    auto copy = std::make_unique<LinearPolicy>(0);
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < parameters_.size(); ++i) copy->parameters_[i].second.copy_(parameters_[i].second);
    return copy;
  }
  void save(const std::filesystem::path& directory) const override {
    if (before_save) before_save(directory);
    write_file_atomic(directory / "config.json", R"({"model_type": "linear"})");
    models::write_safetensors(directory / "model.safetensors", parameters_);
  }

 private:
  at::Tensor logits(const models::PolicyInput& input, const at::Tensor& ids) const {
    const at::Tensor &input_weight = parameters_[0].second, &embedding = parameters_[1].second,
                     &position = parameters_[2].second, &head = parameters_[3].second;
    const at::Tensor begin = at::full({ids.size(0), 1}, kVocabulary - 1, at::kLong);
    const at::Tensor previous = at::cat({begin, ids.slice(1, 0, kTokens - 1)}, 1);  // [B, T]
    at::Tensor hidden =
        at::linear(input.state, input_weight).unsqueeze(1) + at::embedding(embedding, previous) + position;
    // a state whose square overflows poisons its sample's logits; otherwise + 0
    hidden = hidden + (input.state.square().sum(-1) * 0).reshape({-1, 1, 1});
    hidden = at::dropout(at::tanh(hidden), dropout, training_);
    return at::linear(hidden, head).to(at::kFloat);  // [B, T, V]
  }

  models::NamedTensors parameters_;
  bool training_ = false;
};

}  // namespace apo::testing
