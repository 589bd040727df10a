// Adapters on disk, in PEFT's layout: adapter_config.json and adapter_model.safetensors.
#include "models/adapters/adapter_file.h"

#include <torch/types.h>

#include <cmath>
#include <map>
#include <set>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/models/linear.h"
#include "apo/models/safetensors.h"
#include "base/json.h"
#include "models/adapters/base_check.h"
#include "models/sequence/quantized.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

// The last part of a layer's name, by which PEFT targets it.
std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

// Short names where they mean exactly the adapted layers, else whole names.
std::vector<std::string> target_names(const AdapterSlots& slots, const std::string& slot) {
  std::set<std::string> adapted, others;
  std::vector<std::string> whole;
  for (const auto& [name, linear] : slots.layers()) {
    const bool carries = linear->find(slot) != nullptr;
    (carries ? adapted : others).insert(last_part(name));
    if (carries) whole.push_back(name);
  }
  for (const std::string& part : adapted)
    if (others.contains(part)) return whole;
  return {adapted.begin(), adapted.end()};
}

// Layers whose rank or alpha differ from the adapter's own.
void add_patterns(nlohmann::ordered_json& json, const AdapterSlots& slots, const std::string& slot,
                  const LoraOptions& options) {
  json["rank_pattern"] = json["alpha_pattern"] = nlohmann::ordered_json::object();
  for (const auto& [name, linear] : slots.layers()) {
    const LinearAdapter* adapter = linear->find(slot);
    if (adapter == nullptr) continue;
    const auto rank = static_cast<double>(adapter->a.size(0));
    const double alpha = adapter->scale * (options.rslora ? std::sqrt(rank) : rank);
    if (adapter->a.size(0) != options.rank) json["rank_pattern"][name] = adapter->a.size(0);
    if (std::abs(alpha - options.alpha) > 1e-9 * options.alpha) json["alpha_pattern"][name] = alpha;
  }
}

// [rank, in] and [out, rank] as PEFT stores them for a layer with this weight.
at::Tensor stored_a(const at::Tensor& a, const at::Tensor& weight) {
  std::vector<int64_t> shape = weight.sizes().vec();
  shape[0] = a.size(0);
  return a.view(shape);
}

at::Tensor stored_b(const at::Tensor& b, const at::Tensor& weight) {
  return weight.dim() == 2 ? b : b.view({b.size(0), b.size(1), 1, 1});
}

void check_copies(const PeftAdapter& adapter, const Policy& policy) {
  std::map<std::string, at::Tensor> base;
  for (const auto& [name, tensor] : policy.named_parameters()) base.emplace(name, tensor);
  for (const auto& [name, copy] : adapter.base_copies) {
    const auto found = base.find(name);
    APO_CHECK(DataError, found != base.end(), adapter.file.string(), ": a copy of the base's ", name,
              ", which this policy lacks");
    check_base(adapter, name, found->second);
  }
}

}  // namespace

void apply_adapter(Policy& policy, const std::string& name, PeftAdapter file, double dropout) {
  APO_CHECK(ConfigError, policy.adapter_slots() != nullptr, "policy: this kind of policy takes no adapters");
  AdapterSlots& slots = *policy.adapter_slots();
  APO_CHECK(ConfigError, !slots.has(name), "adapter slot \"", name, "\" is in use");
  LoraOptions options = file.options;
  options.dropout = dropout;

  // Everything is checked before the policy changes.
  if (!file.base_copies.empty()) check_copies(file, policy);
  std::string targets;
  bool changes = false;
  std::vector<std::pair<Linear*, LinearAdapter>> adapters;
  for (const auto& [layer, linear] : slots.layers()) {
    const auto entry = file.layers.find(layer);
    if (entry == file.layers.end()) continue;
    const PeftAdapter::Part& part = entry->second;
    APO_CHECK(DataError, linear->weight.sizes() == at::IntArrayRef(part.weight_shape()), file.file.string(),
              ": tensors ", part.name_a, " and ", part.name_b, ": expected an adapter of ",
              linear->weight.sizes(), ", the weight of ", layer, ", found one of ",
              at::IntArrayRef(part.weight_shape()));
    const auto read = [&](const at::Tensor& tensor) {
      return tensor.flatten(1).to(linear->device(), at::kFloat, false, /*copy=*/true).set_requires_grad(true);
    };
    changes = changes || (part.a.any().item<bool>() && part.b.any().item<bool>());
    adapters.emplace_back(
        linear, LinearAdapter{.slot = name, .a = read(part.a), .b = read(part.b), .scale = part.scale});
    append_item(targets, ",", layer);
    file.layers.erase(entry);
  }
  APO_CHECK(DataError, file.layers.empty(), file.file.string(), ": an adapter for the layer ",
            file.layers.begin()->first, ", which this policy lacks");
  if (!changes) log_info(file.file.string(), ": this adapter changes nothing yet (every B or A is zero)");
  options.target_modules = adapters.size() == slots.layers().size() ? "all-linear" : targets;
  for (auto& [linear, adapter] : adapters) linear->adapters.push_back(std::move(adapter));
  slots.add(name, options);
}

void load_adapter(Policy& policy, const std::string& name, const fs::path& directory, double dropout) {
  apply_adapter(policy, name, read_peft(directory), dropout);
}

void save_adapter(const AdapterSlots& slots, const std::string& name, const fs::path& directory,
                  const std::string& base_model) {
  const LoraOptions& options = slots.options(name);
  NamedTensors tensors;
  for (const auto& [layer, linear] : slots.layers()) {
    const LinearAdapter* adapter = linear->find(name);
    if (adapter == nullptr) continue;
    tensors.emplace_back(concat(kPeftPrefix, layer, kLoraA), stored_a(adapter->a, linear->weight));
    tensors.emplace_back(concat(kPeftPrefix, layer, kLoraB), stored_b(adapter->b, linear->weight));
  }
  nlohmann::ordered_json json;
  json["peft_type"] = "LORA";
  json["base_model_name_or_path"] = base_model;
  json["r"] = options.rank;
  json["lora_alpha"] = options.alpha;
  json["lora_dropout"] = options.dropout;
  json["use_rslora"] = options.rslora;
  add_patterns(json, slots, name, options);
  json["target_modules"] = target_names(slots, name);
  json["bias"] = "none";
  json["fan_in_fan_out"] = false;
  json["init_lora_weights"] =
      options.init == "gaussian" ? nlohmann::ordered_json("gaussian") : nlohmann::ordered_json(true);
  json["inference_mode"] = true;
  json["modules_to_save"] = nullptr;
  json["task_type"] = nullptr;
  write_json(directory / "adapter_config.json", json);
  std::map<std::string, std::string> metadata{{"format", "pt"}};
  if (const std::string_view quantization = quantization_of(slots); quantization != "none")
    metadata[kBaseQuantization] = quantization;
  write_safetensors(directory / "adapter_model.safetensors", tensors, metadata);
}

}  // namespace apo::models
