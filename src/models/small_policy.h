// The built-in policy (`type: small`): a vision-language-action transformer of a quarter of a million
// parameters.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "apo/models/policy.h"
#include "apo/tokenizers/action_bins.h"
#include "models/preprocessing.h"
#include "models/small_network.h"
#include "models/vocabulary.h"

namespace apo::models {

class SmallPolicy final : public Policy {
 public:
  /// Fresh weights from `seed`. `shape` and `preprocessing` must agree.
  SmallPolicy(const SmallShape& shape, Preprocessing preprocessing, Vocabulary vocabulary, uint64_t seed,
              at::Device device);
  /// Sizes, words and statistics from the data set, the rest from the options.
  static std::unique_ptr<SmallPolicy> create(const PolicyOptions& options, const data::Dataset& dataset,
                                             uint64_t seed, at::Device device);
  /// What `save` wrote, without its adapter.
  static std::unique_ptr<SmallPolicy> load(const PolicyOptions& options,
                                           const std::filesystem::path& directory, at::Device device);
  static PolicyDescription describe(const PolicyOptions& options, const std::filesystem::path& directory);

  void prepare(Observation& observation) const override { preprocessing_.prepare(observation); }
  PolicyInput encode(std::span<const Observation> observations) const override;
  ActionTokens tokenize(std::span<const Action> actions) const override;
  at::Tensor detokenize(const at::Tensor& ids) const override;
  std::vector<Action> to_actions(const at::Tensor& ids) const override;
  Score score(const PolicyInput& input, const ActionTokens& tokens, const ActionTokens* mismatched) override;
  at::Tensor act(const PolicyInput& input, const DecodeOptions& options) override;
  int64_t action_size() const override { return network_->shape().action_size; }
  config::GripperOptions gripper() const override { return preprocessing_.statistics.gripper; }
  int64_t vocabulary_size() const override { return network_->shape().action_bins; }
  std::pair<int64_t, int64_t> action_token_range() const override { return {0, vocabulary_size() - 1}; }
  NamedTensors named_parameters() const override;
  at::Device device() const override { return device_; }
  void set_training(bool training) override { slots_.set_training(training); }
  bool training() const override { return slots_.training(); }
  AdapterSlots* adapter_slots() override { return &slots_; }
  std::unique_ptr<Policy> clone() const override;
  void save(const std::filesystem::path& directory) const override;

 private:
  SmallPolicy(const SmallShape& shape, Preprocessing preprocessing, Vocabulary vocabulary, at::Device device);
  void check_input(const PolicyInput& input) const;
  void check_tokens(const PolicyInput& input, const ActionTokens& tokens, const char* name) const;

  Preprocessing preprocessing_;
  Vocabulary vocabulary_;
  tokenizers::ActionBins bins_;
  at::Device device_;
  std::unique_ptr<SmallNetwork> network_;
  AdapterSlots slots_;
};

}  // namespace apo::models
