// How an OpenVLA is loaded.
#include <torch/types.h>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "apo/models/description.h"
#include "apo/models/safetensors.h"
#include "models/adapters/peft_file.h"
#include "models/checkpoints/dtype.h"
#include "models/checkpoints/weight_loader.h"
#include "models/openvla/policy.h"
#include "models/sequence/quantized.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

// Older checkpoints call timm's layer scale gamma.
std::string name_in(const SafetensorsReader& weights, const std::string& name) {
  if (weights.has(name) || !name.ends_with(".scale_factor")) return name;
  return name.substr(0, name.rfind('.')) + ".gamma";
}

// Compares names and shapes, tensors that transformers once stored aside.
void check_tensors(OpenVlaNetwork& network, const SafetensorsReader& weights, bool projector_is_apart) {
  NamedTensors expected = collect_parameters(network, ParameterKind::base);
  for (auto& [name, tensor] : expected) name = name_in(weights, name);
  if (projector_is_apart)
    std::erase_if(expected, [](const auto& entry) { return is_state_projector_tensor(entry.first); });
  int64_t value_heads = 0;
  for (const std::string& name : weights.names()) {
    const bool is_value = is_value_head(name);
    value_heads += is_value;
    if (is_value || name.ends_with("rotary_emb.inv_freq"))
      expected.emplace_back(name, at::empty(weights.shape(name), at::kMeta));
  }
  weights.check(expected);
  if (value_heads > 0)
    log_info(weights.path().string(), ": ", value_heads,
             " tensors value_head.* of reinforcement learning are not read");
}

// Gives a network on the meta device memory of its own.
class MemoryMaker final : public LayerVisitor {
 public:
  MemoryMaker(const at::TensorOptions& options, std::optional<Quantization> quantization)
      : options_(options), quantization_(quantization) {}

 protected:
  void parameter(const std::string&, at::Tensor& value) override {
    value = at::empty(value.sizes(), options_);
  }
  void linear(const std::string& name, Linear& layer) override {
    if (!quantization_ || !is_quantized_layer(name, layer, *quantization_))
      return LayerVisitor::linear(name, layer);
    keep_codes_alone(layer,
                     unfilled(layer.out_features(), layer.in_features(), *quantization_, options_.device()),
                     c10::typeMetaToScalarType(options_.dtype()));
    if (layer.bias.defined()) parameter(name + ".bias", layer.bias);
  }

 private:
  at::TensorOptions options_;
  std::optional<Quantization> quantization_;
};

// "auto" is what the checkpoint's largest table is stored in.
at::ScalarType scalar_type(const std::string& dtype, const SafetensorsReader& weights) {
  if (const auto type = dtype_named(dtype)) return *type;
  return weights.tensor("language_model.model.embed_tokens.weight").scalar_type();
}

// transformers writes tokenizer.json alone where it was asked for a fast tokenizer.
fs::path find_tokenizer(const fs::path& base) {
  std::error_code ignored;
  fs::path model = base / "tokenizer.model";
  if (!fs::exists(model, ignored) && fs::exists(base / "tokenizer.json", ignored))
    throw DataError(
        concat(model.string(),
               ": missing; expected the SentencePiece model, found tokenizer.json alone, which is not read. "
               "The released checkpoint has it: `hf download openvla/openvla-7b tokenizer.model --local-dir ",
               base.string(), "`"));
  return model;
}

fs::path directory_of_weights(const fs::path& directory) {
  return fs::exists(directory / "adapter_config.json") ? base_of_adapter(directory) : directory;
}

// Where action statistics may lie beside an adapter; empty without one.
fs::path directory_of_adapter(const PolicyOptions& options, const fs::path& directory, const fs::path& base) {
  return !options.adapter.empty() ? fs::path(options.adapter) : base == directory ? fs::path() : directory;
}

}  // namespace

std::unique_ptr<OpenVlaPolicy> OpenVlaPolicy::open(const PolicyOptions& options, const fs::path& directory,
                                                   const fs::path& base, const SafetensorsReader& weights,
                                                   at::Device device) {
  OpenVlaConfig config =
      OpenVlaConfig::read(base, weights, options, directory_of_adapter(options, directory, base));
  const tokenizers::TextTokenizer tokenizer(find_tokenizer(base));
  APO_CHECK(DataError, tokenizer.size() == config.action_vocabulary, tokenizer.path().string(), ": has ",
            tokenizer.size(), " pieces; expected ", config.action_vocabulary, ", the vocabulary of ",
            (base / "config.json").string(), " less its padding");
  APO_CHECK(DataError, tokenizer.bos() >= 0 && tokenizer.eos() >= 0, tokenizer.path().string(),
            ": expected begin and end tokens, found none");
  OftConfig& oft = config.oft;
  APO_CHECK(ConfigError, oft.is_oft() || options.cameras.size() <= 1,
            "policy.cameras: OpenVLA sees one camera, found ", options.cameras.size());
  APO_CHECK(
      ConfigError, !oft.is_oft() || !options.of<OpenVlaOptions>().speculative,
      "policy.openvla.speculative: expected false for an OpenVLA-OFT, which decides in one pass, found true");
  if (!oft.projector.empty()) {
    oft.projector_tensors = read_state_projector(oft.projector, config.shape.llama.width);
    config.shape.state_size = oft.projector_tensors.at("proprio_projector.fc1.weight").size(1);
  }
  APO_CHECK(DataError, oft.state.size() == config.shape.state_size,
            (oft.projector.empty() ? weights.path() : oft.projector).string(), ": takes a state of ",
            config.shape.state_size, " numbers; the statistics of ", join(oft.state_keys), " have ",
            oft.state.size());
  auto policy =
      std::unique_ptr<OpenVlaPolicy>(new OpenVlaPolicy(std::move(config), tokenizer, options, base, device));
  check_tensors(*policy->network_, weights, !policy->config_.oft.projector_tensors.empty());
  return policy;
}

PolicyDescription OpenVlaPolicy::describe(const PolicyOptions& options, const fs::path& directory) {
  const fs::path base = directory_of_weights(directory);
  const OpenVlaConfig config = OpenVlaConfig::read(base, SafetensorsReader(base), options,
                                                   directory_of_adapter(options, directory, base));
  PolicyDescription description;
  description.statistics.action = config.action;
  description.statistics.gripper = config.gripper;
  description.statistics.normalization = config.action_normalization;
  description.image_size = config.image_size();
  description.cameras = config.oft.cameras;
  description.state_keys = config.oft.state_keys;
  if (config.oft.state_keys.size() == 1)
    description.statistics.state[config.oft.state_keys[0]] = config.oft.state;
  return description;
}

std::unique_ptr<OpenVlaPolicy> OpenVlaPolicy::load(const PolicyOptions& options, const fs::path& directory,
                                                   at::Device device) {
  const fs::path base = directory_of_weights(directory);
  const SafetensorsReader weights(base);
  auto policy = open(options, directory, base, weights, device);
  auto& apart = policy->config_.oft.projector_tensors;
  WeightLoader load(
      weights, scalar_type(options.of<OpenVlaOptions>().dtype, weights), device,
      [&weights](const std::string& name) { return name_in(weights, name); }, &apart);
  const auto quantization = quantization_named(options.of<OpenVlaOptions>().quantization);
  policy->network_->visit(load.quantize_to(quantization));
  apart.clear();
  if (options.lora.rank == 0 && !quantization)
    for (const auto& [name, tensor] : policy->named_parameters()) at::Tensor(tensor).set_requires_grad(true);
  return policy;
}

std::unique_ptr<OpenVlaPolicy> OpenVlaPolicy::load_unfilled(const PolicyOptions& options,
                                                            const fs::path& directory, at::Device device) {
  const fs::path base = directory_of_weights(directory);
  const SafetensorsReader weights(base);
  auto policy = open(options, directory, base, weights, device);
  const auto own = options.of<OpenVlaOptions>();
  MemoryMaker make(at::TensorOptions(scalar_type(own.dtype, weights)).device(device),
                   quantization_named(own.quantization));
  policy->network_->visit(make);
  return policy;
}

}  // namespace apo::models
