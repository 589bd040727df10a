// A policy that decides three steps at once: two numbers a step, of five bins, all tokens alike for one
// state.
#pragma once

#include <torch/types.h>

#include <memory>
#include <vector>

#include "apo/models/policy.h"

namespace apo::testing {

class ChunkPolicy : public models::Policy {
 public:
  static constexpr int64_t kHorizon = 3, kActionSize = 2, kBins = 5;  // -1, -0.5, 0, 0.5, 1
  ChunkPolicy()
      : Policy({.codec = std::make_shared<tokenizers::BinCodec>(tokenizers::ActionBins(kBins), kActionSize,
                                                                kHorizon),
                .normalizer = tokenizers::Normalizer(kActionSize),
                .vocabulary_size = kBins}),
        weight_((at::arange(kHorizon * kActionSize * kBins, at::kFloat) * 1.7)
                    .sin()
                    .view({-1, 1})
                    .set_requires_grad(true)) {}

  models::PolicyInput encode(std::span<const Observation> seen) const override {
    ++asked;
    std::vector<float> numbers;
    for (const Observation& each : seen) numbers.push_back(each.state.begin()->second.at(0));
    return {.state = at::tensor(numbers, at::kFloat).unsqueeze(1)};
  }
  models::Score score(const models::PolicyInput& input, const models::ActionTokens&,
                      const models::ActionTokens* mismatched) override {
    const at::Tensor logits = at::linear(input.state + 1, weight_).view({-1, kHorizon * kActionSize, kBins});
    return {.logits = logits, .mismatched_logits = mismatched != nullptr ? logits : at::Tensor()};
  }
  at::Tensor decode(const models::PolicyInput& input, const models::DecodeOptions&) override {
    return score(input, {}, nullptr).logits.whole().argmax(-1);
  }
  models::NamedTensors named_parameters() const override { return {{"weight", weight_}}; }
  std::unique_ptr<models::Policy> clone() const override {
    auto copy = std::make_unique<ChunkPolicy>();
    copy->weight_.data().copy_(weight_.data());
    return copy;
  }
  void save(const std::filesystem::path&) const override {}
  mutable int64_t asked = 0;

 private:
  at::Tensor weight_;
};

}  // namespace apo::testing
