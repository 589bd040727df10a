// How a pi0-FAST is loaded.
#include <torch/types.h>

#include <algorithm>

#include "apo/base/error.h"
#include "apo/models/description.h"
#include "apo/models/safetensors.h"
#include "models/adapters/peft_file.h"
#include "models/checkpoints/dtype.h"
#include "models/checkpoints/weight_loader.h"
#include "models/pi0_fast/policy.h"
#include "models/sequence/quantized.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

fs::path directory_of_weights(const fs::path& directory) {
  return fs::exists(directory / "adapter_config.json") ? base_of_adapter(directory) : directory;
}

// PaliGemma's, in either form; nothing where there is none.
fs::path text_tokenizer_in(const fs::path& directory) {
  std::error_code ignored;
  for (const char* name : {"tokenizer.model", "tokenizer.json"})
    if (fs::exists(directory / name, ignored)) return directory / name;
  return {};
}

// Where config, tokenizers and statistics lie: beside an adapter of ours, which may have learned with other
// statistics than its base.
fs::path directory_of_companions(const fs::path& directory, const fs::path& base) {
  return text_tokenizer_in(directory).empty() ? base : directory;
}

// Compares names and shapes; tensors that pi0-FAST does not use may be there.
void check_tensors(Pi0FastNetwork& network, const SafetensorsReader& weights) {
  NamedTensors expected = collect_parameters(network, ParameterKind::base);
  for (const std::string& name : weights.names())
    if (is_unused_by_pi0_fast(name) || name == network.names().head_copy)
      expected.emplace_back(name, at::empty(weights.shape(name), at::kMeta));
  weights.check(expected);
}

tokenizers::TextTokenizer read_text_tokenizer(const fs::path& base, const Pi0FastConfig& config) {
  const fs::path model = text_tokenizer_in(base);
  APO_CHECK(DataError, !model.empty(), (base / "tokenizer.model").string(),
            ": missing; expected PaliGemma's SentencePiece model, or its tokenizer.json. They are part of "
            "google/paligemma-3b-pt-224; openpi calls the first paligemma_tokenizer.model");
  tokenizers::TextTokenizer text(model);
  APO_CHECK(DataError, text.bos() >= 0 && text.eos() >= 0, model.string(),
            ": expected begin and end tokens, found none");
  APO_CHECK(DataError, text.size() <= config.shape.gemma.vocabulary, model.string(), ": has ", text.size(),
            " pieces; expected at most ", config.shape.gemma.vocabulary, ", the rows of ",
            config.names.embedding.empty() ? config.names.head : config.names.embedding);
  return text;
}

// Code 0 is the last piece of the text's vocabulary but those that are skipped.
std::shared_ptr<const tokenizers::FastCodec> make_codec(const fs::path& base, const Pi0FastConfig& config,
                                                        const tokenizers::TextTokenizer& text) {
  const fs::path directory = base / "action_tokenizer";
  const std::vector<int64_t> bar = text.encode("|");
  APO_CHECK(DataError, bar.size() == 1, text.path().string(), ": expected \"|\" as one piece, found ",
            bar.size());
  tokenizers::FastAnswer answer{.prefix = text.encode("Action: "),
                                .first_code = text.size() - 1 - config.skipped_tokens,
                                .bar = bar.front(),
                                .end = text.eos(),
                                .padding = 0};
  std::error_code ignored;
  for (const char* name : {"processor_config.json", "tokenizer.json"})
    APO_CHECK(
        DataError, fs::exists(directory / name, ignored), (directory / name).string(),
        ": missing; expected the FAST tokenizer that the policy answers in (tokenizer.json and "
        "processor_config.json of physical-intelligence/fast, lerobot/fast-action-tokenizer or your own)");
  const auto tokenizer = tokenizers::FastTokenizer::read(directory);
  try {
    return std::make_shared<const tokenizers::FastCodec>(tokenizer, std::move(answer), config.action_size,
                                                         config.horizon);
  } catch (const ConfigError& error) {
    throw DataError(concat(directory.string(), ": ", error.what()));
  }
}

at::ScalarType scalar_type(const std::string& dtype, const SafetensorsReader& weights,
                           const PaliGemmaNames& names) {
  if (const auto type = dtype_named(dtype)) return *type;
  return weights.tensor(names.embedding.empty() ? names.head : names.embedding).scalar_type();
}

}  // namespace

std::unique_ptr<Pi0FastPolicy> Pi0FastPolicy::load(const PolicyOptions& given, const fs::path& directory,
                                                   at::Device device) {
  const fs::path base = directory_of_weights(directory);
  const fs::path beside = directory_of_companions(directory, base);
  const SafetensorsReader weights(base);
  Pi0FastConfig config = Pi0FastConfig::read(beside, weights, given);
  const tokenizers::TextTokenizer text = read_text_tokenizer(beside, config);
  auto codec = make_codec(beside, config, text);
  APO_CHECK(ConfigError, given.action_normalization == tokenizers::ActionNormalization::automatic,
            "policy.action_normalization: expected auto: how a pi0-FAST normalises is a property of its "
            "checkpoint (config.json of openpi's, policy_preprocessor.json of LeRobot's)");
  const auto is_named = [](const std::string& camera) { return !camera.empty(); };
  APO_CHECK(ConfigError, given.cameras.empty() || std::ranges::any_of(given.cameras, is_named),
            "policy.cameras: expected at least one camera, found none");
  PolicyOptions options = given;
  const at::ScalarType type = scalar_type(options.of<Pi0FastOptions>().dtype, weights, config.names);
  auto policy = std::unique_ptr<Pi0FastPolicy>(
      new Pi0FastPolicy(std::move(config), text, std::move(codec), options, base, device));
  check_tensors(*policy->network_, weights);
  WeightLoader load(weights, type, device);
  const auto quantization = quantization_named(options.of<Pi0FastOptions>().quantization);
  policy->network_->visit(load.quantize_to(quantization));
  policy->network_->tie();
  if (options.lora.rank == 0 && !quantization)
    for (const auto& [name, tensor] : policy->named_parameters()) at::Tensor(tensor).set_requires_grad(true);
  return policy;
}

PolicyDescription Pi0FastPolicy::describe(const PolicyOptions& options, const fs::path& directory) {
  const fs::path base = directory_of_weights(directory);
  const Pi0FastConfig config =
      Pi0FastConfig::read(directory_of_companions(directory, base), SafetensorsReader(base), options);
  PolicyDescription description;
  const FeatureNormalization& action = config.normalization.action;
  if (action.has_quantiles && config.delta_dimensions.empty())  // else they say nothing of recorded actions
    description.statistics.action = action.normalizer(config.action_size).statistics();
  description.statistics.gripper = options.gripper;
  description.cameras = options.cameras.empty() ? config.image_keys : options.cameras;
  std::erase(description.cameras, std::string());
  description.state_keys = options.state_keys;
  if (options.state_keys.size() == 1)
    description.statistics.state[options.state_keys.front()] = config.normalization.state.statistics;
  description.image_size = config.image_size();
  return description;
}

}  // namespace apo::models
