// pi0-FAST as a policy (config.json: model_type or type "pi0_fast").
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "apo/models/policy.h"
#include "apo/models/registry.h"
#include "apo/tokenizers/fast_codec.h"
#include "apo/tokenizers/text.h"
#include "models/pi0_fast/config.h"
#include "models/pi0_fast/network.h"

namespace apo::models {

/// Of openpi's or LeRobot's dialect. An answer is "Action: ", the FAST codes of a chunk, "|" and the end
/// token, all of which are scored; the prompt holds the task and the state as numbers.
class Pi0FastPolicy final : public Policy {
 public:
  /// `directory` holds the weights, or an adapter whose base_model_name_or_path is a directory that does.
  static std::unique_ptr<Pi0FastPolicy> load(const PolicyOptions& options,
                                             const std::filesystem::path& directory, at::Device device);
  static PolicyDescription describe(const PolicyOptions& options, const std::filesystem::path& directory);

  void prepare(Observation& observation) const override;
  PolicyInput encode(std::span<const Observation> observations) const override;
  Score score(const PolicyInput& input, const ActionTokens& tokens, const ActionTokens* mismatched) override;
  at::Tensor decode(const PolicyInput& input, const DecodeOptions& options) override;
  NamedTensors named_parameters() const override;
  std::unique_ptr<Policy> clone() const override;
  void save(const std::filesystem::path& directory) const override;
  std::optional<int64_t> activation_bytes(const PolicyInput& input,
                                          const ActionTokens& tokens) const override;

 private:
  Pi0FastPolicy(Pi0FastConfig config, const tokenizers::TextTokenizer& text,
                std::shared_ptr<const tokenizers::FastCodec> codec, const PolicyOptions& options,
                std::filesystem::path base, at::Device device);
  /// The camera of each slot; empty where there is none.
  std::vector<std::string> cameras_of(const Observation& observation) const;
  at::Tensor pictures(std::span<const Observation> observations) const;
  std::vector<double> state_of(const Observation& observation) const;
  void encode_prompts(std::span<const Observation> observations, PolicyInput& input) const;
  bool is_openpi() const { return config_.dialect == Pi0FastDialect::openpi; }
  AnswerStyle style(bool decodes) const;
  at::Tensor features(const PolicyInput& input) const;
  bool has_fixed_features() const;

  Pi0FastConfig config_;
  tokenizers::TextTokenizer text_;
  std::shared_ptr<const tokenizers::FastCodec> codec_;
  PolicyOptions options_;
  Pi0FastOptions own_;
  std::filesystem::path base_;                        ///< directory of the weights
  std::unique_ptr<tokenizers::FastGrammar> grammar_;  ///< with decode_valid
  std::unique_ptr<Pi0FastNetwork> network_;
  mutable std::atomic<bool> warned_of_prompt_ = false;
};

}  // namespace apo::models
