#include "models/adapters/peft_file.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <set>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/hash.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "apo/models/registry.h"
#include "apo/models/safetensors.h"
#include "base/json.h"
#include "base/tensor_hash.h"
#include "models/checkpoints/checkpoint_files.h"
#include "models/checkpoints/missing_path.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr size_t kLongestLayerName = 1000;  // of real models about 100; patterns are matched against it
constexpr int64_t kLargestRank = 65536;

constexpr const char* kMergeWithPeft =
    "; only plain LoRA is read: merge it in Python, PeftModel.from_pretrained(base, "
    "adapter).merge_and_unload().save_pretrained(DIR), and give DIR as policy.checkpoint";

bool is_set(const ordered_json& value) {
  if (value.is_null() || (value.is_boolean() && !value.get<bool>())) return false;
  return !value.is_structured() || !value.empty();
}

// Enough of a value to recognise it.
std::string shown(const OrderedJsonField& value) {
  const auto is_text = [](const auto& entry) { return entry.is_string(); };
  if (value.raw().is_array() && std::ranges::all_of(value.raw(), is_text))
    return shortened(join(value.get<std::vector<std::string>>()), 200);
  return json_excerpt(value.raw());
}

// Only plain LoRA: what else the file asks for would be silently left out.
void refuse_other_kinds(const OrderedJsonFile& json) {
  json["peft_type"].expect(json["peft_type"].raw() == "LORA", "\"LORA\"");
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias", "use_qalora", "modules_to_save",
                          "megatron_config", "layer_replication", "trainable_token_indices",
                          "target_parameters", "alora_invocation_tokens", "arrow_config"})
    if (is_set(json[key].raw()))
      throw DataError(concat(json.path().string(), ": ", key, ": expected nothing, found ", shown(json[key]),
                             kMergeWithPeft));
  if (json["bias"].get_or<std::string>("none") != "none")
    throw DataError(concat(json.path().string(), ": bias: expected \"none\", found ", shown(json["bias"]),
                           kMergeWithPeft));
  const ordered_json& init = json["init_lora_weights"].raw();
  const std::set<std::string> plain{"gaussian", "eva", "orthogonal"};
  json["init_lora_weights"].expect(
      init.is_null() || init.is_boolean() || (init.is_string() && plain.contains(init.get<std::string>())),
      "true, false, \"gaussian\", \"eva\" or \"orthogonal\" (the others change the base)");
}

// One of PEFT's patterns: the last part or parts of layer names -> a number for those layers. The first that
// matches counts.
class Pattern {
 public:
  explicit Pattern(const OrderedJsonField& config) {
    for (const auto& [name, field] : config.entries()) {
      const auto value = field.get<double>();
      field.expect(value > 0, "a number > 0");
      try {
        entries_.emplace_back(std::regex("(.*\\.)?(" + name + ")"), value);
      } catch (const std::regex_error&) {
        field.fail("a layer name or a regular expression as its name");
      }
    }
  }
  double value(const std::string& layer, double otherwise) const {
    for (const auto& [pattern, value] : entries_)
      if (std::regex_match(layer, pattern)) return value;
    return otherwise;
  }

 private:
  std::vector<std::pair<std::regex, double>> entries_;
};

struct Config {
  LoraOptions options;
  std::string base_model;
  Pattern rank, alpha;
};

Config read_config(const fs::path& path) {
  const OrderedJsonFile json(path);  // the order of the patterns counts
  refuse_other_kinds(json);
  Config config{.options = {},
                .base_model = json["base_model_name_or_path"].get_or<std::string>(),
                .rank = Pattern(json["rank_pattern"]),
                .alpha = Pattern(json["alpha_pattern"])};
  LoraOptions& options = config.options;
  options.rank = json["r"].integer(1, kLargestRank);
  options.alpha = json["lora_alpha"].get<double>();
  json["lora_alpha"].expect(options.alpha > 0, "a number > 0");
  options.dropout = json["lora_dropout"].get_or(0.0);
  json["lora_dropout"].expect(options.dropout >= 0 && options.dropout < 1, "a number from 0 to below 1");
  options.rslora = json["use_rslora"].get_or(false);
  if (json["init_lora_weights"].raw() == "gaussian") options.init = "gaussian";
  return config;
}

// What a tensor's name says: "base_model.model.<layer>.lora_A.weight", perhaps with the adapter's name before
// ".weight".
struct TensorName {
  enum class Part { a, b, base, other } part = Part::other;
  std::string of;       // the layer, or of a base weight its own name
  std::string adapter;  // the adapter's name; empty: not said
};

TensorName parse(const std::string& name) {
  if (!name.starts_with(kPeftPrefix)) return {};
  const std::string rest = name.substr(kPeftPrefix.size());
  using Marker = std::pair<std::string_view, TensorName::Part>;
  for (const auto& [marker, part] :
       {Marker(".lora_A.", TensorName::Part::a), Marker(".lora_B.", TensorName::Part::b)}) {
    const size_t at = rest.rfind(marker);
    if (at == std::string::npos || at == 0) continue;
    const std::string end = rest.substr(at + marker.size());  // "weight" or "<adapter>.weight"
    if (end == "weight") return {part, rest.substr(0, at), ""};
    const size_t dot = end.find('.');
    if (dot == 0 || dot == std::string::npos || end.substr(dot) != ".weight") return {};
    return {part, rest.substr(0, at), end.substr(0, dot)};
  }
  if (rest.find("lora_") != std::string::npos || rest.find("modules_to_save") != std::string::npos) return {};
  constexpr std::string_view kBaseLayer = ".base_layer";
  for (const std::string_view kind : {".weight", ".bias"}) {
    if (!rest.ends_with(kind) || rest.size() == kind.size()) continue;
    std::string layer = rest.substr(0, rest.size() - kind.size());
    if (layer.ends_with(kBaseLayer)) layer.resize(layer.size() - kBaseLayer.size());
    if (!layer.empty()) return {TensorName::Part::base, layer + std::string(kind), ""};
  }
  return {};
}

// Names that a wrapper around the model leaves: peft itself would load such an adapter without any effect.
void refuse_wrapped(const std::string& file, const std::string& name) {
  using Wrapper = std::pair<std::string_view, const char*>;
  for (const auto& [prefix, wrapper] :
       {Wrapper("_orig_mod.", "torch.compile"), Wrapper("_fsdp_wrapped_module.", "FSDP"),
        Wrapper("module.", "DistributedDataParallel")}) {
    const size_t at = name.find(prefix);
    const bool found = prefix == "module." ? at == 0 : at != std::string::npos;
    APO_CHECK(DataError, !found, file, ": tensor ", name.substr(0, kLongestLayerName),
              ": carries the prefix ", prefix, " of a model wrapped by ", wrapper,
              "; save the adapter of the model inside (model.", prefix.substr(0, prefix.size() - 1),
              ".save_pretrained(DIR)), or strip the prefix: "
              "save_file({k.replace(\"",
              prefix, "\", \"\"): v for k, v in load_file(f).items()}, f)");
  }
}

// The weights' file; names what lies there in its place.
fs::path find_weights(const fs::path& directory) {
  const fs::path file = directory / "adapter_model.safetensors";
  std::error_code ignored;
  if (!fs::exists(file, ignored) && fs::exists(directory / "adapter_model.bin", ignored))
    throw DataError(concat(
        (directory / "adapter_model.bin").string(),
        ": a pickle of PyTorch, which is a program and is not read; expected adapter_model.safetensors "
        "beside it. Convert it where you trust it: python -c 'import torch, safetensors.torch as s; "
        "s.save_file({k: v.contiguous() for k, v in torch.load(\"adapter_model.bin\", "
        "weights_only=True).items()}, \"adapter_model.safetensors\")'"));
  return file;
}

at::Tensor read_part(const SafetensorsReader& reader, const fs::path& path, const std::string& name) {
  const at::Tensor value = reader.tensor(name);
  APO_CHECK(DataError, value.is_floating_point(), path.string(), ": tensor ", name,
            ": expected a floating-point type, found ", value.scalar_type());
  APO_CHECK(DataError, (value.dim() == 2 || value.dim() == 4) && value.numel() > 0, path.string(),
            ": tensor ", name, ": expected that of a linear layer (2 sizes) or a convolution (4), found ",
            value.sizes());
  APO_CHECK(DataError, value.to(at::kFloat).isfinite().all().item<bool>(), path.string(), ": tensor ", name,
            ": found NaN or infinity");
  return value;
}

// Rank and scale of one layer, and that its tensors agree with both and with each other.
void complete(PeftAdapter::Part& part, const std::string& layer, const Config& config, const fs::path& path) {
  const double wanted = config.rank.value(layer, static_cast<double>(config.options.rank));
  const auto rank = static_cast<int64_t>(std::min(wanted, static_cast<double>(kLargestRank)));
  APO_CHECK(DataError, part.a.size(0) == rank, path.string(), ": tensor ", part.name_a, ": expected ", rank,
            " rows (r or rank_pattern of adapter_config.json), found ", part.a.sizes());
  const bool fits =
      part.b.dim() == part.a.dim() && part.b.size(1) == rank && part.b.numel() == part.b.size(0) * rank;
  APO_CHECK(DataError, fits, path.string(), ": tensor ", part.name_b, ": expected [out, ", rank,
            part.a.dim() == 4 ? ", 1, 1]" : "]", " beside ", part.name_a, " ", part.a.sizes(), ", found ",
            part.b.sizes());
  const auto r = static_cast<double>(rank);
  part.scale = config.alpha.value(layer, config.options.alpha) / (config.options.rslora ? std::sqrt(r) : r);
}

}  // namespace

std::vector<int64_t> PeftAdapter::Part::weight_shape() const {
  std::vector<int64_t> shape = a.sizes().vec();
  shape[0] = b.size(0);
  return shape;
}

PeftAdapter read_peft(const fs::path& directory) {
  using Part = TensorName::Part;
  const Config config = read_config(directory / "adapter_config.json");
  PeftAdapter adapter;
  adapter.options = config.options;
  adapter.base_model = config.base_model;
  adapter.file = find_weights(directory);
  const SafetensorsReader reader(adapter.file);
  const std::string file = adapter.file.string();
  std::optional<std::string> adapter_name;
  for (const std::string& name : reader.names()) {
    refuse_wrapped(file, name);
    const TensorName parsed = parse(name);
    APO_CHECK(DataError, parsed.part != Part::other, file, ": tensor ", name.substr(0, kLongestLayerName),
              ": expected ", kPeftPrefix, "<layer>", kLoraA, " or ", kLoraB, kMergeWithPeft);
    APO_CHECK(DataError, parsed.of.size() <= kLongestLayerName, file, ": tensor ", name.substr(0, 100),
              "...: a name of ", name.size(), " characters");
    if (parsed.part == Part::base) {
      adapter.base_copies[parsed.of] = reader.tensor(name);
      continue;
    }
    const bool is_a = parsed.part == Part::a;
    PeftAdapter::Part& part = adapter.layers[parsed.of];
    std::string& known = is_a ? part.name_a : part.name_b;
    APO_CHECK(DataError, known.empty(), file, ": the tensors ", known, " and ", name,
              " are one and the same");
    APO_CHECK(DataError, adapter_name.value_or(parsed.adapter) == parsed.adapter, file, ": tensor ", name,
              ": expected one adapter in the file, found two, \"", *adapter_name, "\" and \"", parsed.adapter,
              "\"");
    adapter_name = parsed.adapter;
    known = name;
    (is_a ? part.a : part.b) = read_part(reader, adapter.file, name);
  }
  APO_CHECK(DataError, !adapter.layers.empty(), file, ": expected adapter tensors, found none");
  for (auto& [layer, part] : adapter.layers) {
    APO_CHECK(DataError, part.a.defined() && part.b.defined(), file, ": tensor ", kPeftPrefix, layer,
              part.a.defined() ? kLoraB : kLoraA,
              " is missing: the file holds half an adapter of this layer; save the "
              "whole adapter again (model.save_pretrained)");
    complete(part, layer, config, adapter.file);
  }
  return adapter;
}

std::string adapter_hash(const PeftAdapter& adapter) {
  ContentHash hash;
  for (const auto& [layer, part] : adapter.layers) {
    hash.add_text(layer);
    hash.add(&part.scale, sizeof(part.scale));
    for (const at::Tensor& tensor : {part.a, part.b}) add_tensor(hash, tensor.to(at::kFloat));
  }
  return hash.text();
}

namespace {

// Whether both hold the same weights, bit for bit; large ones are not read for it.
bool are_copies(const fs::path& a, const fs::path& b) {
  constexpr uintmax_t kLargest = uintmax_t{1} << 28;
  const fs::path of_a = a / "model.safetensors", of_b = b / "model.safetensors";
  std::error_code error;
  const uintmax_t size = fs::file_size(of_a, error);
  if (error || size > kLargest || size != fs::file_size(of_b, error) || error) return false;
  try {
    return read_file(of_a) == read_file(of_b);
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

void warn_if_other_base(const fs::path& adapter_directory, const fs::path& base) {
  const JsonFile config(adapter_directory / "adapter_config.json");
  const auto base_model = config["base_model_name_or_path"].get_or<std::string>();
  if (base_model.empty()) return;
  const fs::path named = adapter_directory / base_model;
  std::error_code ignored;
  if (!fs::exists(named, ignored) || fs::equivalent(named, base, ignored) || are_copies(named, base)) return;
  log_warn(adapter_directory.string(), ": this adapter was trained on ", named.lexically_normal().string(),
           ", not on ", base.string());
}

fs::path resolve_adapter(const fs::path& path, const char* key) {
  std::error_code ignored;
  const auto is_adapter = [&](const fs::path& place) {
    return fs::exists(place / "adapter_config.json", ignored);
  };
  if (is_adapter(path)) return path;
  refuse_missing(path, concat(key, ": ", (path / "adapter_config.json").string()));
  APO_CHECK(DataError, fs::is_directory(path, ignored), key, ": ", path.string(),
            ": expected the directory of adapter_config.json and adapter_model.safetensors, found a file");
  std::vector<fs::path> inside;
  for (const auto& entry : fs::directory_iterator(path))
    if (is_adapter(entry.path())) inside.push_back(entry.path());
  std::ranges::sort(inside);
  if (inside.size() == 1) return inside.front();
  std::vector<std::string> names;
  for (const fs::path& place : inside) names.push_back(place.filename().string());
  APO_CHECK(DataError, inside.empty(), key, ": ", path.string(), ": expected one adapter, found ",
            inside.size(), ": ", join(names), "; name one of them");
  APO_CHECK(DataError, !fs::exists(path / "adapter_model.safetensors", ignored), key, ": ",
            (path / "adapter_config.json").string(),
            ": missing beside adapter_model.safetensors; it says rank and alpha");
  fs::path policy = resolve_checkpoint(path);
  check_policy_files(policy);
  return policy;
}

fs::path base_of_adapter(const fs::path& directory) {
  const auto holds_weights = [](const fs::path& place) {
    std::error_code ignored;
    return fs::exists(place / "model.safetensors", ignored) ||
           fs::exists(place / "model.safetensors.index.json", ignored);
  };
  if (holds_weights(directory)) return directory;
  const JsonFile config(directory / "adapter_config.json");
  const fs::path base =
      directory / config["base_model_name_or_path"].get<std::string>();  // itself where it is absolute
  if (!holds_weights(base))
    config["base_model_name_or_path"].fail(
        "a directory with weights here (a name on a hub is none: download the base, and give it as "
        "policy.checkpoint with this directory as policy.adapter)");
  return base;
}

}  // namespace apo::models
