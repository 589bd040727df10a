#include "models/peft_file.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/models/safetensors.h"
#include "models/json_file.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBaseLayer = ".base_layer.weight";
constexpr size_t kLongestLayerName = 1000;  // of real models about 100; patterns are matched against it
constexpr int64_t kLargestRank = 65536;

bool is_set(const nlohmann::json& value) {
  if (value.is_null() || (value.is_boolean() && !value.get<bool>())) return false;
  return !value.is_structured() || !value.empty();
}

// Only plain LoRA: what else the file asks for would be silently left out.
void refuse_other_kinds(const JsonFile& json) {
  if (json.text("peft_type") != "LORA") json.fail("peft_type", "\"LORA\"");
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias", "use_qalora", "modules_to_save",
                          "megatron_config", "layer_replication", "trainable_token_indices",
                          "target_parameters", "alora_invocation_tokens", "arrow_config"})
    if (is_set(json.raw(key))) json.fail(key, "nothing (only plain LoRA is read)");
  if (json.has("bias") && json.text("bias") != "none")
    json.fail("bias", "\"none\" (only plain LoRA is read)");
  const nlohmann::json& init = json.raw("init_lora_weights");
  const std::set<std::string> plain{"gaussian", "eva", "orthogonal"};
  if (!init.is_null() && !init.is_boolean() && !(init.is_string() && plain.contains(init.get<std::string>())))
    json.fail("init_lora_weights",
              "true, false, \"gaussian\", \"eva\" or \"orthogonal\" (the others change the base)");
}

// One of PEFT's patterns: the last part or parts of layer names -> a number for those layers. The first that matches counts.
class Pattern {
 public:
  Pattern(const fs::path& path, const nlohmann::ordered_json& config, const char* key) {
    if (!config.contains(key) || config.at(key).is_null()) return;
    const auto fail = [&](const std::string& name, const char* expected) {
      throw DataError(
          concat(path.string(), ": ", key, ": ", name, name.empty() ? "" : ": ", "expected ", expected));
    };
    if (!config.at(key).is_object()) fail("", "an object of layer names and numbers");
    for (const auto& [name, value] : config.at(key).items()) {
      if (!value.is_number() || !(value.get<double>() > 0) || !std::isfinite(value.get<double>()))
        fail(name, "a number > 0");
      try {
        entries_.emplace_back(std::regex("(.*\\.)?(" + name + ")"), value.get<double>());
      } catch (const std::regex_error&) {
        fail(name, "a layer name or a regular expression");
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
  const JsonFile json(path);
  refuse_other_kinds(json);
  const auto ordered = nlohmann::ordered_json::parse(read_file(path));  // the order of the patterns counts
  Config config{.options = {},
                .base_model = {},
                .rank = Pattern(path, ordered, "rank_pattern"),
                .alpha = Pattern(path, ordered, "alpha_pattern")};
  LoraOptions& options = config.options;
  options.rank = json.integer("r", 1, kLargestRank);
  options.alpha = json.number("lora_alpha");
  if (!(options.alpha > 0) || !std::isfinite(options.alpha)) json.fail("lora_alpha", "a number > 0");
  options.dropout = json.has("lora_dropout") ? json.number("lora_dropout") : 0;
  if (!(options.dropout >= 0 && options.dropout < 1)) json.fail("lora_dropout", "a number from 0 to below 1");
  options.rslora = json.boolean("use_rslora", false);
  if (json.raw("init_lora_weights") == "gaussian") options.init = "gaussian";
  if (!json.raw("base_model_name_or_path").is_null())
    config.base_model = json.text("base_model_name_or_path");
  return config;
}

// "base_model.model.<layer>.lora_A.weight" to <layer>; names from memory have the adapter's name before ".weight".
// Empty: another kind of name.
std::string layer_of(std::string name, std::string_view kind) {
  constexpr std::string_view kSlot = ".default.weight";
  if (name.ends_with(kSlot)) name = name.substr(0, name.size() - kSlot.size()) + ".weight";
  if (!name.starts_with(kPeftPrefix) || !name.ends_with(kind) || name.size() <= kPeftPrefix.size() + kind.size())
    return {};
  return name.substr(kPeftPrefix.size(), name.size() - kPeftPrefix.size() - kind.size());
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
  const double rank = config.rank.value(layer, static_cast<double>(config.options.rank));
  part.rank = static_cast<int64_t>(std::min(rank, static_cast<double>(kLargestRank)));
  part.alpha = config.alpha.value(layer, config.options.alpha);
  APO_CHECK(DataError, part.a.size(0) == part.rank, path.string(), ": tensor ", part.name_a, ": expected ",
            part.rank, " rows (r or rank_pattern of adapter_config.json), found ", part.a.sizes());
  const bool fits = part.b.dim() == part.a.dim() && part.b.size(1) == part.rank &&
                    part.b.numel() == part.b.size(0) * part.rank;
  APO_CHECK(DataError, fits, path.string(), ": tensor ", part.name_b, ": expected [out, ", part.rank,
            part.a.dim() == 4 ? ", 1, 1]" : "]", " beside ", part.name_a, " ", part.a.sizes(), ", found ",
            part.b.sizes());
  const auto r = static_cast<double>(part.rank);
  part.scale = part.alpha / (config.options.rslora ? std::sqrt(r) : r);
}

}  // namespace

std::vector<int64_t> PeftAdapter::Part::weight_shape() const {
  std::vector<int64_t> shape = a.sizes().vec();
  shape[0] = b.size(0);
  return shape;
}

PeftAdapter read_peft(const fs::path& directory) {
  const Config config = read_config(directory / "adapter_config.json");
  PeftAdapter adapter;
  adapter.options = config.options;
  adapter.base_model = config.base_model;
  adapter.file = directory / "adapter_model.safetensors";
  const SafetensorsReader reader(adapter.file);
  const std::string file = adapter.file.string();
  for (const std::string& name : reader.names()) {
    if (const std::string layer = layer_of(name, kBaseLayer); !layer.empty()) {
      adapter.base_layers[layer] = reader.tensor(name);
      continue;
    }
    const std::string layer_a = layer_of(name, kLoraA), layer_b = layer_of(name, kLoraB);
    const std::string& layer = layer_a.empty() ? layer_b : layer_a;
    APO_CHECK(DataError, !layer.empty(), file, ": tensor ", name.substr(0, kLongestLayerName), ": expected ",
              kPeftPrefix, "<layer>", kLoraA, " or ", kLoraB);
    APO_CHECK(DataError, layer.size() <= kLongestLayerName, file, ": tensor ", name.substr(0, 100),
              "...: a name of ", name.size(), " characters");
    PeftAdapter::Part& part = adapter.layers[layer];
    std::string& known = layer_a.empty() ? part.name_b : part.name_a;
    APO_CHECK(DataError, known.empty(), file, ": the tensors ", known, " and ", name,
              " are one and the same");
    known = name;
    (layer_a.empty() ? part.b : part.a) = read_part(reader, adapter.file, name);
  }
  APO_CHECK(DataError, !adapter.layers.empty(), file, ": expected adapter tensors, found none");
  for (auto& [layer, part] : adapter.layers) {
    APO_CHECK(DataError, part.a.defined() && part.b.defined(), file, ": tensor ", kPeftPrefix, layer,
              part.a.defined() ? kLoraB : kLoraA, " is missing");
    complete(part, layer, config, adapter.file);
  }
  return adapter;
}

void warn_if_other_base(const fs::path& adapter_directory, const fs::path& base) {
  const JsonFile config(adapter_directory / "adapter_config.json");
  if (!config.raw("base_model_name_or_path").is_string()) return;
  const fs::path named = adapter_directory / config.text("base_model_name_or_path");
  std::error_code ignored;
  if (!fs::exists(named, ignored) || fs::equivalent(named, base, ignored)) return;
  log_warn(adapter_directory.string(), ": this adapter was trained on ", named.lexically_normal().string(),
           ", not on ", base.string());
}

fs::path base_of_adapter(const fs::path& directory) {
  const auto holds_weights = [](const fs::path& place) {
    std::error_code ignored;
    return fs::exists(place / "model.safetensors", ignored) ||
           fs::exists(place / "model.safetensors.index.json", ignored);
  };
  if (holds_weights(directory)) return directory;
  const JsonFile config(directory / "adapter_config.json");
  const fs::path base = directory / config.text("base_model_name_or_path");  // itself where it is absolute
  if (!holds_weights(base))
    config.fail("base_model_name_or_path", "a directory with weights (or name base and adapter separately)");
  return base;
}

void check_base(const PeftAdapter& adapter, const std::string& layer, const at::Tensor& weight) {
  constexpr int64_t kBlock = 1 << 22;  // numbers compared at once
  const auto found = adapter.base_layers.find(layer);
  if (found == adapter.base_layers.end()) return;
  const at::Tensor& copy = found->second;
  const std::string where = concat(adapter.file.string(), ": the copy of ", layer, ".weight");
  APO_CHECK(DataError, copy.sizes() == weight.sizes() && copy.is_floating_point(), where, ": expected ",
            weight.sizes(), " as in the base, found ", copy.sizes(), " ", copy.scalar_type());
  const at::NoGradGuard no_grad;
  double difference = 0, size = 0;
  const at::Tensor all_ours = weight.flatten(), all_theirs = copy.flatten();
  for (int64_t begin = 0; begin < weight.numel(); begin += kBlock) {
    const int64_t count = std::min(kBlock, weight.numel() - begin);
    const at::Tensor ours = all_ours.narrow(0, begin, count).to(at::kCPU, at::kFloat),
                     theirs = all_theirs.narrow(0, begin, count).to(at::kFloat);
    difference += (ours - theirs).square().sum(at::kDouble).item<double>();
    size += ours.square().sum(at::kDouble).item<double>();
  }
  APO_CHECK(DataError, difference <= 1e-4 * size, where, " differs from the base's by ",
            std::sqrt(difference / size), " of its size; the adapter belongs to another base");
}

}  // namespace apo::models
