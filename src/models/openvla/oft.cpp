#include "models/openvla/oft.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "apo/models/safetensors.h"
#include "models/checkpoints/companions.h"
#include "models/checkpoints/torch_archive.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using tokenizers::ActionNormalization;

constexpr uintmax_t kLargestProgram = 4 << 20;
constexpr int64_t kPositions = 2048;  // of a Llama-2 that does not say
const std::string kProjector = "proprio_projector.";

// Parts of an OpenVLA-OFT whose actions are no tokens.
struct Part {
  std::string_view prefix, what;
};
constexpr std::array<Part, 3> kRefused{
    {{"action_head--", "a continuous action head, which has no action probabilities"},
     {"noisy_action_projector--", "the diffusion head's projector; diffusion has no action probabilities"},
     {"vision_backbone--", "vision towers with FiLM, which are not read"}}};

std::vector<fs::path> files_of(const fs::path& directory) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory)) files.push_back(entry.path());
  std::ranges::sort(files);
  return files;
}

// Refuses what cannot be; the state projector's file, if there is one.
fs::path check_parts(const fs::path& directory) {
  fs::path projector;
  for (const fs::path& file : files_of(directory)) {
    const std::string name = file.filename().string();
    for (const Part& part : kRefused)
      APO_CHECK(DataError, !name.starts_with(part.prefix), file.string(), ": found ", part.what,
                "; only an OpenVLA-OFT with discrete tokens can be refined here. Label its recordings "
                "(`apo-data label --write`) for a program that trains it");
    if (!is_state_projector(file)) continue;
    APO_CHECK(DataError, projector.empty(), directory.string(), ": expected one state projector, found ",
              projector.filename().string(), " and ", name);
    projector = file;
  }
  return projector;
}

bool mentions_chunks(const fs::path& file) {
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored) || fs::file_size(file, ignored) > kLargestProgram) return false;
  return read_file(file).find("NUM_ACTIONS_CHUNK") != std::string::npos;
}

// What says that a checkpoint is no plain OpenVLA; empty if nothing does.
std::string sign_of_oft(const JsonFile& config, const fs::path& directory, bool has_projector) {
  for (const char* key : {"num_action_chunks", "use_proprio", "proprio_dim"})
    if (config[key].present() && config[key].raw() != false && config[key].raw() != 0)
      return concat(config.path().string(), " has ", key);
  for (const char* name : {"modeling_prismatic.py", "constants.py", "train_utils.py"})
    if (mentions_chunks(directory / name))
      return concat((directory / name).string(), " speaks of NUM_ACTIONS_CHUNK");
  return has_projector ? concat(directory.string(), " has a state projector") : "";
}

template <class T>
T of_choice(const std::string& chosen, const char* first, const JsonField& stored, T otherwise, T if_first,
            T if_other) {
  if (chosen != "auto") return chosen == first ? if_first : if_other;
  if (!stored.present()) return otherwise;
  return stored.raw() == first || stored.raw() == true ? if_first : if_other;
}

// One JSON file whose `apo` member counts: beside the adapter, else beside the weights.
std::optional<JsonFile> said_beside(const fs::path& adapter) {
  std::error_code ignored;
  const fs::path file = adapter / "config.json";
  if (adapter.empty() || !fs::is_regular_file(file, ignored)) return {};
  JsonFile config(file);
  return config[kOftBlock].present() ? std::optional(std::move(config)) : std::nullopt;
}

void refuse_oft_options(const OpenVlaOptions& own, const PolicyOptions& options) {
  for (const auto& [key, value] :
       {std::pair("stop_token", own.stop_token), std::pair("score_among", own.score_among),
        std::pair("resize", own.resize)})
    APO_CHECK(ConfigError, value == "auto", "policy.openvla.", key, ": is ", value,
              ", which says something of an OpenVLA-OFT alone; expected policy.openvla.chunk_steps with it, "
              "or auto");
  APO_CHECK(ConfigError, options.state_keys.empty(),
            "policy.state_keys: a plain OpenVLA sees no state; expected none, or "
            "policy.openvla.chunk_steps of an OpenVLA-OFT");
}

int64_t chunk_steps_of(const OpenVlaOptions& own, const JsonField& block, const JsonFile& config) {
  int64_t steps = own.chunk_steps;
  for (const JsonField& field : {block["chunk_steps"], config["num_action_chunks"]}) {
    if (!field.present()) continue;
    const int64_t stored = field.integer(1, 1 << 20);
    const bool is_ours = field.place() == block["chunk_steps"].place();
    if (steps == 0 && !is_ours) continue;  // a sign, but the user's word is asked for
    APO_CHECK(DataError, steps == 0 || steps == stored, field.place(), ": is ", stored,
              ", but policy.openvla.chunk_steps ", steps, "; expected the same");
    steps = stored;
  }
  return steps;
}

}  // namespace

bool is_state_projector_tensor(const std::string& name) { return name.starts_with(kProjector); }

bool is_value_head(const std::string& tensor) { return tensor.starts_with("value_head."); }

OftConfig OftConfig::read(const PolicyOptions& options, const JsonFile& config,
                          const SafetensorsReader& weights, const fs::path& directory,
                          const fs::path& adapter) {
  const auto own = options.of<OpenVlaOptions>();
  OftConfig oft;
  oft.projector = check_parts(directory);
  const bool is_inside = weights.has(kProjector + "fc1.weight");
  const std::optional<JsonFile> beside = said_beside(adapter);
  const JsonField block = (beside ? *beside : config)[kOftBlock];
  oft.chunk_steps = chunk_steps_of(own, block, config);
  if (!oft.is_oft()) {
    const std::string sign = sign_of_oft(config, directory, is_inside || !oft.projector.empty());
    APO_CHECK(DataError, sign.empty(), directory.string(), ": this looks like an OpenVLA-OFT (", sign,
              "): set policy.openvla.chunk_steps (LIBERO 8, RoboTwin 25) and policy.action_normalization "
              "(RoboTwin: bounds)");
    refuse_oft_options(own, options);
    return oft;
  }
  const auto max_positions = config["text_config"]["max_position_embeddings"];
  oft.max_positions = max_positions.present() ? max_positions.integer(1, 1 << 30) : kPositions;
  oft.stop_token = of_choice(own.stop_token, "true", block["stop_token"], true, true, false);
  oft.among_actions = of_choice(own.score_among, "actions", block["score_among"], true, true, false);
  oft.lanczos = of_choice(own.resize, "lanczos", block["resize"], false, true, false);
  oft.cameras =
      !options.cameras.empty() ? options.cameras : block["cameras"].get_or(std::vector<std::string>());
  oft.state_keys = !options.state_keys.empty() ? options.state_keys
                                               : block["state_keys"].get_or(std::vector<std::string>());
  if (block["action_normalization"].present())
    for (const auto& [value, name] : tokenizers::enum_names(ActionNormalization{}))
      if (block["action_normalization"].raw() == name) oft.action_normalization = value;
  if (is_inside && !oft.projector.empty()) {
    log_warn(oft.projector.string(), ": not read, since ", weights.path().string(),
             " holds a state projector, too");
    oft.projector.clear();
  }
  const bool has_projector = is_inside || !oft.projector.empty();
  APO_CHECK(ConfigError, has_projector || oft.state_keys.empty(), "policy.state_keys: is ",
            join(oft.state_keys), ", but ", directory.string(),
            " has no state projector (proprio_projector--*.pt or proprio_projector.* among the weights)");
  APO_CHECK(ConfigError, !has_projector || !oft.state_keys.empty(),
            "policy.state_keys: expected those whose numbers go through the state projector (",
            is_inside ? weights.path().string() : oft.projector.string(), "), found none");
  return oft;
}

std::string OftConfig::written_into(const std::string& config_json) const {
  if (!is_oft()) return config_json;
  auto json = nlohmann::ordered_json::parse(config_json);
  const auto name_of = [](ActionNormalization normalization) {
    for (const auto& [candidate, name] : tokenizers::enum_names(normalization))
      if (candidate == normalization) return std::string(name);
    throw Bug("an unknown normalisation");
  };
  json[kOftBlock] = {{"chunk_steps", chunk_steps},
                     {"stop_token", stop_token},
                     {"action_normalization", name_of(action_normalization)},
                     {"cameras", cameras},
                     {"state_keys", state_keys},
                     {"score_among", among_actions ? "actions" : "vocabulary"},
                     {"resize", lanczos ? "lanczos" : "bicubic"}};
  return json.dump(2) + "\n";
}

std::string OftConfig::written_whole(const std::string& config_json, int64_t state_size) const {
  auto json = nlohmann::ordered_json::parse(written_into(config_json));
  if (state_size > 0) json.update({{"use_proprio", true}, {"proprio_dim", state_size}});
  return json.dump(2) + "\n";
}

std::map<std::string, at::Tensor> read_state_projector(const fs::path& file, int64_t width) {
  std::map<std::string, at::Tensor> found;
  for (const auto& [name, tensor] : read_torch_archive(file)) {
    constexpr std::string_view kParallel = "module.";  // of training on several GPUs
    found[kProjector + (name.starts_with(kParallel) ? name.substr(kParallel.size()) : name)] = tensor;
  }
  const auto has = [&](const char* name, std::vector<int64_t> shape) {
    const auto entry = found.find(kProjector + name);
    APO_CHECK(DataError, entry != found.end(), file.string(), ": tensor ", name, " is missing");
    if (shape.back() < 0) shape.back() = entry->second.dim() == 2 ? entry->second.size(1) : 0;
    APO_CHECK(DataError, entry->second.sizes() == at::IntArrayRef(shape), file.string(), ": tensor ", name,
              ": expected ", at::IntArrayRef(shape), ", found ", entry->second.sizes());
  };
  has("fc1.weight", {width, -1});
  has("fc1.bias", {width});
  has("fc2.weight", {width, width});
  has("fc2.bias", {width});
  APO_CHECK(DataError, found.size() == 4, file.string(),
            ": expected the 4 tensors of a state projector, found ", found.size());
  return found;
}

}  // namespace apo::models
