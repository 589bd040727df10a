// Adapters on disk, in PEFT's layout: adapter_config.json and adapter_model.safetensors.
#include <torch/types.h>

#include <cmath>
#include <set>

#include "apo/base/error.h"
#include "apo/models/linear.h"
#include "apo/models/safetensors.h"
#include "models/json_file.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "base_model.model.";
constexpr const char* kSuffixA = ".lora_A.weight";
constexpr const char* kSuffixB = ".lora_B.weight";

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

// Only plain LoRA: what else the file asks for would be silently left out.
LoraOptions read_config(const fs::path& path) {
  const JsonFile json(path);
  if (json.text("peft_type") != "LORA") json.fail("peft_type", "\"LORA\"");
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias"})
    if (json.boolean(key, false)) json.fail(key, "false (only plain LoRA is read)");
  for (const char* key : {"modules_to_save", "rank_pattern", "alpha_pattern"})
    if (!json.raw(key).is_null() && !json.raw(key).empty())
      json.fail(key, "nothing (only plain LoRA is read)");
  if (json.has("bias") && json.text("bias") != "none") json.fail("bias", "\"none\"");
  LoraOptions options;
  options.rank = json.integer("r", 1, 65536);
  options.alpha = json.number("lora_alpha");
  if (!(options.alpha > 0) || !std::isfinite(options.alpha)) json.fail("lora_alpha", "a number > 0");
  options.rslora = json.boolean("use_rslora", false);
  return options;
}

// "base_model.model.<layer>.lora_A.weight" to <layer>; older files put the slot between. Empty: another name.
std::string layer_of(const std::string& tensor, const std::string& suffix) {
  std::string name = tensor;
  const size_t slot = name.rfind(".default.weight");
  if (slot != std::string::npos) name = name.substr(0, slot) + ".weight";
  if (!name.starts_with(kPrefix) || !name.ends_with(suffix)) return {};
  return name.substr(std::string(kPrefix).size(), name.size() - std::string(kPrefix).size() - suffix.size());
}

}  // namespace

void load_adapter(AdapterSlots& slots, const std::string& name, const fs::path& directory, double dropout) {
  APO_CHECK(ConfigError, !slots.has(name), "adapter slot \"", name, "\" is in use");
  LoraOptions options = read_config(directory / "adapter_config.json");
  options.dropout = dropout;
  const fs::path path = directory / "adapter_model.safetensors";
  const SafetensorsReader reader(path);
  std::map<std::string, std::pair<std::string, std::string>> found;  // layer -> names of A and B in the file
  for (const std::string& tensor : reader.names()) {
    const std::string a = layer_of(tensor, kSuffixA), b = layer_of(tensor, kSuffixB);
    APO_CHECK(DataError, !a.empty() || !b.empty(), path.string(), ": tensor ", tensor, ": expected ", kPrefix,
              "<layer>", kSuffixA, " or ", kSuffixB);
    (a.empty() ? found[b].second : found[a].first) = tensor;
  }
  APO_CHECK(DataError, !found.empty(), path.string(), ": expected adapter tensors, found none");

  // Everything is checked before the policy changes.
  std::string targets;
  std::vector<std::pair<Linear*, LinearAdapter>> adapters;
  const double rank = static_cast<double>(options.rank);
  for (const auto& [layer, linear] : slots.layers()) {
    const auto entry = found.find(layer);
    if (entry == found.end()) continue;
    LinearAdapter adapter{
        .slot = name, .a = {}, .b = {}, .scale = options.alpha / (options.rslora ? std::sqrt(rank) : rank)};
    const auto read = [&](const std::string& tensor, const char* suffix, std::vector<int64_t> shape) {
      APO_CHECK(DataError, !tensor.empty(), path.string(), ": tensor ", kPrefix, layer, suffix,
                " is missing");
      APO_CHECK(DataError, reader.shape(tensor) == shape, path.string(), ": tensor ", tensor, ": expected ",
                at::IntArrayRef(shape), ", found ", at::IntArrayRef(reader.shape(tensor)));
      const at::Tensor value =
          reader.tensor(tensor).to(linear->weight.device(), at::kFloat, false, /*copy=*/true);
      APO_CHECK(DataError, value.isfinite().all().item<bool>(), path.string(), ": tensor ", tensor,
                ": found NaN or infinity");
      return value;
    };
    adapter.a =
        read(entry->second.first, kSuffixA, {options.rank, linear->in_features()}).set_requires_grad(true);
    adapter.b =
        read(entry->second.second, kSuffixB, {linear->out_features(), options.rank}).set_requires_grad(true);
    adapters.emplace_back(linear, std::move(adapter));
    targets += (targets.empty() ? "" : ",") + layer;
    found.erase(entry);
  }
  APO_CHECK(DataError, found.empty(), path.string(), ": an adapter for the layer ", found.begin()->first,
            ", which this policy lacks");
  options.target_modules = adapters.size() == slots.layers().size() ? "all-linear" : targets;
  for (auto& [linear, adapter] : adapters) linear->adapters.push_back(std::move(adapter));
  slots.add(name, options);
}

void save_adapter(const AdapterSlots& slots, const std::string& name, const fs::path& directory,
                  const std::string& base_model) {
  const LoraOptions& options = slots.options(name);
  NamedTensors tensors;
  for (const auto& [layer, linear] : slots.layers()) {
    const LinearAdapter* adapter = linear->find(name);
    if (adapter == nullptr) continue;
    tensors.emplace_back(kPrefix + layer + kSuffixA, adapter->a);
    tensors.emplace_back(kPrefix + layer + kSuffixB, adapter->b);
  }
  nlohmann::ordered_json json;
  json["peft_type"] = "LORA";
  json["base_model_name_or_path"] = base_model;
  json["r"] = options.rank;
  json["lora_alpha"] = options.alpha;
  json["lora_dropout"] = options.dropout;
  json["use_rslora"] = options.rslora;
  json["target_modules"] = target_names(slots, name);
  json["bias"] = "none";
  json["fan_in_fan_out"] = false;
  json["init_lora_weights"] =
      options.init == "gaussian" ? nlohmann::ordered_json("gaussian") : nlohmann::ordered_json(true);
  json["inference_mode"] = true;
  json["modules_to_save"] = nullptr;
  json["task_type"] = nullptr;
  write_json(directory / "adapter_config.json", json);
  write_safetensors(directory / "adapter_model.safetensors", tensors, {{"format", "pt"}});
}

}  // namespace apo::models
