// The smallest policy that the training loop can drive: one hidden layer over state, previous token and
// position. It lets tests drop out units, count calls, and fail where they want.
#pragma once

#include <torch/types.h>

#include <functional>
#include <memory>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/models/registry.h"
#include "apo/models/safetensors.h"
#include "apo/tokenizers/action_bins.h"

namespace apo::testing {

/// Two numbers and an end token, which decoding insists on.
class EndCheckingCodec final : public tokenizers::ActionCodec {
 public:
  static constexpr int64_t kBins = 8;
  EndCheckingCodec() : ActionCodec(2, 1) {}
  int64_t max_length() const override { return 3; }
  std::optional<tokenizers::TokenRange> bins() const override { return tokenizers::TokenRange{0, kBins - 1}; }

 protected:
  tokenizers::CodedActions encode_checked(const at::Tensor& actions, const at::Tensor&) const override {
    const int64_t size = actions.size(0);
    tokenizers::CodedActions coded;
    coded.ids = at::cat({bins_.encode(actions.flatten(1)), at::full({size, 1}, kBins, at::kLong)}, 1);
    coded.mask = at::ones({size, 3}, at::kBool);
    coded.end_token = coded.ids.eq(kBins);
    coded.dimension = at::tensor({0, 1, -1}, at::kLong).expand({size, 3}).contiguous();
    return coded;
  }
  tokenizers::DecodedActions decode_checked(const at::Tensor& ids) const override {
    APO_CHECK(DataError, ids.slice(1, 2).eq(kBins).all().item<bool>(), "expected the end token last");
    return {.actions = bins_.decode(ids.slice(1, 0, 2)).unsqueeze(1),
            .decoded = at::ones({ids.size(0)}, at::kBool),
            .num_clamped = at::zeros({ids.size(0)}, at::kLong)};
  }

 private:
  tokenizers::ActionBins bins_{kBins};
};

class LinearPolicy : public models::Policy {
 public:
  static constexpr int64_t kActionSize = 2, kStateSize = 3, kBins = 8, kHidden = 5;
  static constexpr int64_t kEndToken = kBins, kVocabulary = kBins + 2, kTokens = kActionSize + 1;
  static constexpr const char* kType = "linear";

  // what tests reach into
  inline static double dropout = 0;
  inline static std::function<void(const std::filesystem::path&)> before_save;
  mutable int64_t num_encoded = 0;  // observations
  int64_t num_scored = 0;           // samples that passed through `score` with gradient enabled or not

  explicit LinearPolicy(uint64_t seed)
      : Policy({.codec = std::make_shared<EndCheckingCodec>(),
                .normalizer = tokenizers::Normalizer(kActionSize),
                .vocabulary_size = kVocabulary}) {
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
        kType, {.create = [](const models::PolicyOptions&, const models::DataFacts&, uint64_t seed,
                             at::Device) { return std::make_unique<LinearPolicy>(seed); },
                .load =
                    [](const models::PolicyOptions&, const std::filesystem::path& directory, at::Device) {
                      auto policy = std::make_unique<LinearPolicy>(0);
                      const at::NoGradGuard no_grad;
                      models::SafetensorsReader(directory).load_into(policy->named_parameters());
                      return policy;
                    }});
  }

  models::PolicyInput encode(std::span<const Observation> observations) const override {
    num_encoded += std::ssize(observations);
    models::PolicyInput input;
    std::vector<at::Tensor> rows;
    for (const Observation& o : observations) rows.push_back(at::tensor(o.state.at("pose"), at::kFloat));
    input.state = at::stack(rows);
    return input;
  }
  models::Score score(const models::PolicyInput& input, const models::ActionTokens& tokens,
                      const models::ActionTokens* mismatched) override {
    num_scored += input.state.size(0);
    return {.logits = logits(input, tokens.ids),
            .mismatched_logits = mismatched ? logits(input, mismatched->ids) : at::Tensor()};
  }
  at::Tensor decode(const models::PolicyInput& input, const models::DecodeOptions&) override {
    return at::cat({at::zeros({input.state.size(0), kActionSize}, at::kLong),
                    at::full({input.state.size(0), 1}, kEndToken, at::kLong)},
                   1);
  }

  models::NamedTensors named_parameters() const override { return parameters_; }
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
    hidden = at::dropout(at::tanh(hidden), dropout, training());
    return at::linear(hidden, head).to(at::kFloat);  // [B, T, V]
  }

  models::NamedTensors parameters_;
};

}  // namespace apo::testing
