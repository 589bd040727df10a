// How an OpenVLA is loaded.
#include <torch/types.h>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/models/description.h"
#include "apo/models/safetensors.h"
#include "models/adapters/peft_file.h"
#include "models/checkpoints/dtype.h"
#include "models/checkpoints/weight_loader.h"
#include "models/openvla/policy.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

// Older checkpoints call timm's layer scale gamma.
std::string name_in(const SafetensorsReader& weights, const std::string& name) {
  if (weights.has(name) || !name.ends_with(".scale_factor")) return name;
  return name.substr(0, name.rfind('.')) + ".gamma";
}

// Compares names and shapes, tensors that transformers once stored aside.
void check_tensors(OpenVlaNetwork& network, const SafetensorsReader& weights) {
  NamedTensors expected = collect_parameters(network, ParameterKind::base);
  for (auto& [name, tensor] : expected) name = name_in(weights, name);
  for (const std::string& name : weights.names())
    if (name.ends_with("rotary_emb.inv_freq"))
      expected.emplace_back(name, at::empty(weights.shape(name), at::kMeta));
  weights.check(expected);
}

// Gives a network on the meta device memory of its own.
class MemoryMaker final : public LayerVisitor {
 public:
  explicit MemoryMaker(const at::TensorOptions& options) : options_(options) {}

 protected:
  void parameter(const std::string&, at::Tensor& value) override {
    value = at::empty(value.sizes(), options_);
  }

 private:
  at::TensorOptions options_;
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
  APO_CHECK(ConfigError, options.cameras.size() <= 1, "policy.cameras: OpenVLA sees one camera, found ",
            options.cameras.size());
  auto policy =
      std::unique_ptr<OpenVlaPolicy>(new OpenVlaPolicy(std::move(config), tokenizer, options, base, device));
  check_tensors(*policy->network_, weights);
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
  return description;
}

std::unique_ptr<OpenVlaPolicy> OpenVlaPolicy::load(const PolicyOptions& options, const fs::path& directory,
                                                   at::Device device) {
  const fs::path base = directory_of_weights(directory);
  const SafetensorsReader weights(base);
  auto policy = open(options, directory, base, weights, device);
  WeightLoader load(weights, scalar_type(options.of<OpenVlaOptions>().dtype, weights), device,
                    [&weights](const std::string& name) { return name_in(weights, name); });
  policy->network_->visit(load);
  if (options.lora.rank == 0)
    for (const auto& [name, tensor] : policy->named_parameters()) at::Tensor(tensor).set_requires_grad(true);
  return policy;
}

std::unique_ptr<OpenVlaPolicy> OpenVlaPolicy::load_unfilled(const PolicyOptions& options,
                                                            const fs::path& directory, at::Device device) {
  const fs::path base = directory_of_weights(directory);
  const SafetensorsReader weights(base);
  auto policy = open(options, directory, base, weights, device);
  MemoryMaker make(
      at::TensorOptions(scalar_type(options.of<OpenVlaOptions>().dtype, weights)).device(device));
  policy->network_->visit(make);
  return policy;
}

}  // namespace apo::models
