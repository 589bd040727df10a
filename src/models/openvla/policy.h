// OpenVLA as a policy (config.json: model_type "openvla").
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "apo/models/policy.h"
#include "apo/models/registry.h"
#include "apo/tokenizers/text.h"
#include "models/openvla/config.h"
#include "models/openvla/network.h"
#include "models/sequence/replayed.h"

namespace apo::models {

/// A Hugging Face checkpoint of the OpenVLA family: frozen weights stay in the mapped files where device and
/// type allow. An answer is a token for each number of an action and the end token; a prompt ends with the
/// lone space piece that training put there. Instructions are lower-cased and "_" becomes a space.
///
/// An OpenVLA-OFT with discrete tokens (policy.openvla.chunk_steps) answers with a token for each number of a
/// chunk of actions, all in one pass and without an end token that counts; it sees several pictures and a
/// state, and "_" stays.
class OpenVlaPolicy final : public Policy {
 public:
  /// `directory` holds the weights, or an adapter whose base_model_name_or_path is a directory that does.
  static std::unique_ptr<OpenVlaPolicy> load(const PolicyOptions& options,
                                             const std::filesystem::path& directory, at::Device device);

  static PolicyDescription describe(const PolicyOptions& options, const std::filesystem::path& directory);

  /// The same without reading the weights: memory of the type that `options` name (auto: as stored) on
  /// `device`, for the caller to fill; no adapter. So the released size can be measured where its files are
  /// not.
  static std::unique_ptr<OpenVlaPolicy> load_unfilled(const PolicyOptions& options,
                                                      const std::filesystem::path& directory,
                                                      at::Device device);

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
  /// All but the weights, whose names and shapes are checked.
  static std::unique_ptr<OpenVlaPolicy> open(const PolicyOptions& options,
                                             const std::filesystem::path& directory,
                                             const std::filesystem::path& base,
                                             const SafetensorsReader& weights, at::Device device);
  OpenVlaPolicy(OpenVlaConfig config, const tokenizers::TextTokenizer& tokenizer,
                const PolicyOptions& options, std::filesystem::path base, at::Device device);
  bool is_oft() const { return config_.oft.is_oft(); }
  /// The cameras that it sees of what there is.
  std::vector<std::string> cameras_of(const Observation& observation) const;
  at::Tensor resized(const at::Tensor& image) const;
  /// [B, 2, 3, Y, X], normalised for each tower.
  at::Tensor pictures(std::span<const Observation> observations) const;
  void encode_prompts(std::span<const Observation> observations, PolicyInput& input) const;
  /// [B, state_size] normalised; undefined without a state projector.
  at::Tensor states(std::span<const Observation> observations) const;
  /// What stands between begin token and prompt: pictures and state.
  at::Tensor features(const PolicyInput& input) const;
  /// Vocabulary ids of the logits' columns.
  std::pair<int64_t, int64_t> scored_ids() const;
  ActionPlaces places() const;
  at::Tensor decode_parallel(const at::Tensor& features, const at::Tensor& prompt, const at::Tensor& mask,
                             const DecodeOptions& options) const;
  /// Whether nothing that trains or is swapped touches towers and projector.
  bool has_fixed_features() const;
  /// What a recorded decision on such an input rests on.
  std::vector<int64_t> replay_state(const PolicyInput& input) const;

  OpenVlaConfig config_;
  std::optional<tokenizers::Normalizer> state_normalizer_;
  tokenizers::TextTokenizer tokenizer_;
  PolicyOptions options_;
  OpenVlaOptions own_;
  std::filesystem::path base_;  ///< directory of the weights
  std::unique_ptr<OpenVlaNetwork> network_;
  Replayed decisions_;  ///< greedy ones on an accelerator
  at::Tensor draft_;    ///< [B, T] what was decided last; undefined: nothing, or not of use
};

}  // namespace apo::models
