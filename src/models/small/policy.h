// The built-in policy (`type: small`): a vision-language-action transformer of a quarter of a million
// parameters.
#pragma once

#include <filesystem>
#include <memory>
#include <span>

#include "apo/models/policy.h"
#include "apo/models/registry.h"
#include "models/small/network.h"
#include "models/small/preprocessing.h"
#include "models/small/vocabulary.h"

namespace apo::models {

class SmallPolicy final : public Policy {
 public:
  /// Fresh weights from `seed`. `shape` and `preprocessing` must agree.
  SmallPolicy(const SmallShape& shape, Preprocessing preprocessing, Vocabulary vocabulary, uint64_t seed,
              at::Device device);
  /// Sizes, words and statistics from the data set, the rest from the options.
  static std::unique_ptr<SmallPolicy> create(const PolicyOptions& options, const DataFacts& data,
                                             uint64_t seed, at::Device device);
  /// What `save` wrote, without its adapter.
  static std::unique_ptr<SmallPolicy> load(const PolicyOptions& options,
                                           const std::filesystem::path& directory, at::Device device);
  static PolicyDescription describe(const PolicyOptions& options, const std::filesystem::path& directory);

  void prepare(Observation& observation) const override { preprocessing_.prepare(observation); }
  PolicyInput encode(std::span<const Observation> observations) const override;
  Score score(const PolicyInput& input, const ActionTokens& tokens, const ActionTokens* mismatched) override;
  at::Tensor decode(const PolicyInput& input, const DecodeOptions& options) override;
  NamedTensors named_parameters() const override;
  std::unique_ptr<Policy> clone() const override;
  void save(const std::filesystem::path& directory) const override;

 private:
  SmallPolicy(const SmallShape& shape, Preprocessing preprocessing, Vocabulary vocabulary, at::Device device);
  void check_input(const PolicyInput& input) const;
  void check_tokens(const PolicyInput& input, const ActionTokens& tokens, const char* name) const;

  Preprocessing preprocessing_;
  Vocabulary vocabulary_;
  std::unique_ptr<SmallNetwork> network_;
};

}  // namespace apo::models
