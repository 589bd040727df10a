#include "models/openvla/config.h"

#include <torch/types.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/base/text.h"
#include "apo/models/description.h"
#include "apo/models/options.h"
#include "apo/models/policy.h"
#include "apo/models/safetensors.h"
#include "base/json.h"
#include "models/checkpoints/companions.h"
#include "tokenizers/foreign_statistics.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uintmax_t kLargestCompanion = 64 << 20;  // they are held in memory

// transformers' LlamaConfig defaults, for fields that text_config leaves out.
constexpr double kDefaultNormEpsilon = 1e-6, kDefaultRopeTheta = 10000;
constexpr int64_t kDefaultHeads = 32;

int64_t count_blocks(const SafetensorsReader& weights, const std::string& prefix, const std::string& member) {
  int64_t count = 0;
  while (weights.has(concat(prefix, count, ".", member))) ++count;
  APO_CHECK(DataError, count > 0, weights.path().string(), ": no tensor ", prefix, "0.", member);
  return count;
}

// The extent of one dimension of a tensor that has `rank` of them.
int64_t extent(const SafetensorsReader& weights, const std::string& name, size_t rank, size_t dimension) {
  const std::vector<int64_t> shape = weights.shape(name);
  APO_CHECK(DataError, shape.size() == rank && shape[dimension] > 0, weights.path().string(), ": tensor ",
            name, ": expected ", rank, " dimensions, found ", at::IntArrayRef(shape));
  return shape[dimension];
}

VisionTowerShape read_tower(const SafetensorsReader& weights, const std::string& tower, int64_t head_width) {
  VisionTowerShape shape;
  shape.width = extent(weights, tower + "pos_embed", 3, 2);
  const int64_t patches = extent(weights, tower + "pos_embed", 3, 1);
  const auto side = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(patches))));
  APO_CHECK(DataError, side * side == patches, weights.path().string(), ": tensor ", tower,
            "pos_embed: expected a square number of patches, found ", patches);
  shape.patch_size = extent(weights, tower + "patch_embed.proj.weight", 4, 3);
  shape.image_size = side * shape.patch_size;
  shape.depth = count_blocks(weights, tower + "blocks.", "norm1.weight");
  APO_CHECK(DataError, shape.depth >= 2, weights.path().string(), ": ", tower,
            "blocks: expected at least 2, found ", shape.depth);
  APO_CHECK(DataError, shape.width % head_width == 0, weights.path().string(), ": tensor ", tower,
            "pos_embed: expected a width that is a multiple of ", head_width, " (this tower's heads), found ",
            shape.width);
  shape.heads = shape.width / head_width;
  shape.mlp = extent(weights, tower + "blocks.0.mlp.fc1.weight", 2, 0);
  shape.class_token = weights.has(tower + "cls_token");
  if (weights.has(tower + "reg_token")) shape.registers = extent(weights, tower + "reg_token", 3, 1);
  shape.layer_scale =
      weights.has(tower + "blocks.0.ls1.scale_factor") || weights.has(tower + "blocks.0.ls1.gamma");
  shape.attention_pool = weights.has(tower + "attn_pool.latent");
  return shape;
}

// A member of text_config, or transformers' default where it is left out.
template <class T>
T text_field(const JsonFile& config, const char* key, T fallback, const char* expected) {
  const json& text = config["text_config"].raw();
  if (text.is_null() || !text.contains(key) || text.at(key).is_null()) return fallback;
  const json& value = text.at(key);
  APO_CHECK(
      DataError,
      value.is_number() && value.get<double>() > 0 && (!std::is_integral_v<T> || value.is_number_integer()),
      config.path().string(), ": text_config.", key, ": expected ", expected, ", found ",
      json_excerpt(value));
  return value.get<T>();
}

double rope_theta(const JsonFile& config) {
  const json& text = config["text_config"].raw();
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (text.is_null() || !text.contains(key) || text.at(key).is_null()) continue;
    const json& rope = text.at(key);
    const char* type = rope.contains("rope_type") ? "rope_type" : "type";
    if (!rope.is_object() || (rope.contains(type) && rope.at(type) != "default"))
      config[concat("text_config.", key)].fail("plain rotary positions");
    if (!rope.contains("rope_theta")) continue;
    APO_CHECK(DataError, rope.at("rope_theta").is_number() && rope.at("rope_theta").get<double>() > 0,
              config.path().string(), ": text_config.", key, ".rope_theta: expected a number > 0, found ",
              json_excerpt(rope.at("rope_theta")));
    return rope.at("rope_theta").get<double>();
  }
  return text_field<double>(config, "rope_theta", kDefaultRopeTheta, "a number > 0");
}

void read_llama(const JsonFile& config, const SafetensorsReader& weights, LlamaShape& llama) {
  const json& text = config["text_config"].raw();
  if (!text.is_null() && !text.is_object()) config["text_config"].fail("an object");
  for (const auto& [key, only] :
       {std::pair("hidden_act", json("silu")), std::pair("attention_bias", json(false)),
        std::pair("mlp_bias", json(false)), std::pair("tie_word_embeddings", json(false))})
    APO_CHECK(DataError,
              text.is_null() || !text.contains(key) || text.at(key).is_null() || text.at(key) == only,
              config.path().string(), ": text_config.", key, ": expected ", only.dump(), ", found ",
              json_excerpt(text.at(key)));
  llama.norm_epsilon = text_field<double>(config, "rms_norm_eps", kDefaultNormEpsilon, "a number > 0");
  llama.rope_theta = rope_theta(config);
  llama.heads = text_field<int64_t>(config, "num_attention_heads", kDefaultHeads, "an integer > 0");
  const std::string layer = "language_model.model.layers.0.self_attn.";
  const int64_t query = extent(weights, layer + "q_proj.weight", 2, 0),
                key = extent(weights, layer + "k_proj.weight", 2, 0);
  APO_CHECK(DataError, query % llama.heads == 0, weights.path().string(), ": tensor ", layer,
            "q_proj.weight: expected rows for ", llama.heads,
            " heads (text_config.num_attention_heads), found ", query);
  llama.head_size = query / llama.heads;
  APO_CHECK(
      DataError,
      llama.head_size % 2 == 0 && key % llama.head_size == 0 && llama.heads % (key / llama.head_size) == 0,
      weights.path().string(), ": tensor ", layer, "k_proj.weight: expected rows for a number of heads of ",
      llama.head_size, " that divides ", llama.heads, ", found ", key);
  llama.key_heads = key / llama.head_size;
}

std::array<double, 3> three_numbers(const JsonFile& file, const std::string& key, const json& value,
                                    bool positive) {
  std::array<double, 3> numbers{};
  if (!value.is_array() || value.size() != 3) file[key].fail("three numbers a tower");
  for (size_t i = 0; i < 3; ++i) {
    if (!value[i].is_number() || (positive && !(value[i].get<double>() > 0)))
      file[key].fail("three numbers a tower");
    numbers[i] = value[i].get<double>();
  }
  return numbers;
}

// What the released program feeds: tvf_normalize_params (rounded to bfloat16 when the checkpoint was made)
// counts before means and stds.
std::array<PictureNormalization, 2> read_normalization(const JsonFile& file) {
  std::array<PictureNormalization, 2> towers;
  const bool exact = file["tvf_normalize_params"].present();
  for (size_t i = 0; i < 2; ++i) {
    json mean, deviation;
    if (exact) {
      const json& all = file["tvf_normalize_params"].raw();
      if (!all.is_array() || all.size() != 2 || !all[i].is_object() || !all[i].contains("mean") ||
          !all[i].contains("std"))
        file["tvf_normalize_params"].fail("mean and std of two towers");
      mean = all[i].at("mean");
      deviation = all[i].at("std");
    } else {
      for (const char* key : {"means", "stds"})
        file[key].expect(file[key].raw().is_array() && file[key].raw().size() == 2, "a list for two towers");
      mean = file["means"].raw()[i];
      deviation = file["stds"].raw()[i];
    }
    towers[i].mean = three_numbers(file, exact ? "tvf_normalize_params" : "means", mean, false);
    towers[i].std = three_numbers(file, exact ? "tvf_normalize_params" : "stds", deviation, true);
  }
  return towers;
}

void check_image_sizes(const JsonFile& config, const OpenVlaShape& shape, const fs::path& weights) {
  APO_CHECK(
      DataError,
      shape.dino.image_size == shape.siglip.image_size && shape.dino.patches() == shape.siglip.patches(),
      weights.string(), ": the towers see pictures of ", shape.dino.image_size, " and ",
      shape.siglip.image_size, " pixels; expected the same size and patches");
  const json& sizes = config["image_sizes"].raw();
  if (sizes.is_null()) return;
  for (const json& size : sizes)
    if (!size.is_number_integer() || size.get<int64_t>() != shape.dino.image_size)
      config["image_sizes"].fail(concat(shape.dino.image_size, " for each tower, as the weights have"));
}

struct StatisticsSource {
  json entries;
  std::string where;
};

// Statistics of the options, else beside the adapter, else beside the base, else in config.json.
StatisticsSource find_statistics(const JsonFile& config, const fs::path& directory,
                                 const PolicyOptions& options, const fs::path& adapter) {
  std::vector<fs::path> candidates;
  if (!options.statistics.empty()) candidates.emplace_back(options.statistics);
  for (const fs::path& place : {adapter, directory})
    if (!place.empty())
      for (const char* name : {"dataset_statistics.json", "statistic.json"})
        candidates.push_back(place / name);
  for (const fs::path& path : candidates) {
    std::error_code ignored;
    if (!fs::exists(path, ignored) && path != fs::path(options.statistics)) continue;
    const JsonFile file(path);
    tokenizers::refuse_foreign_statistics(file.root().raw().dump(), path.string());
    return {file.root().raw(), path.string()};
  }
  const json& entries = config["norm_stats"].raw();
  std::error_code ignored;
  APO_CHECK(DataError, entries.is_object() && !entries.empty(), directory.string(),
            ": expected action statistics in dataset_statistics.json or config.json (norm_stats), found ",
            fs::exists(directory / "norm_stats.json", ignored) ? "openpi's norm_stats.json" : "none",
            "; compute them with `apo-data stats` and set policy.statistics");
  return {entries, (directory / "config.json").string() + ": norm_stats"};
}

// The entry that is meant: LIBERO's data sets are known with and without this ending.
std::string entry_of(const json& entries, const std::string& unnorm_key) {
  if (unnorm_key.empty()) return entries.size() == 1 ? entries.begin().key() : unnorm_key;
  const std::string longer = unnorm_key + "_no_noops";
  if (entries.contains(unnorm_key) || !entries.contains(longer)) return unnorm_key;
  log_info("policy.unnorm_key: ", unnorm_key, " is ", longer, " in the action statistics");
  return longer;
}

// Of the state that the keys name, in their order: each its own, else one for all of it.
tokenizers::VectorStatistics state_statistics(const tokenizers::DatasetStatistics& known,
                                              const std::vector<std::string>& keys,
                                              const std::string& where) {
  const auto& states = known.state;
  const bool each = std::ranges::all_of(keys, [&](const std::string& key) { return states.contains(key); });
  if (!each) {
    const auto whole = states.find("proprio");
    APO_CHECK(DataError, whole != states.end(), where,
              ": expected statistics of the state (proprio, or state: ", join(keys), "), found ",
              states.empty() ? "none" : join(std::views::keys(states)));
    return whole->second;
  }
  tokenizers::VectorStatistics all;
  const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  for (const std::string& key : keys) {
    const tokenizers::VectorStatistics& s = states.at(key);
    append(all.mean, s.mean), append(all.std, s.std), append(all.min, s.min), append(all.max, s.max);
    append(all.q01, s.q01), append(all.q99, s.q99), append(all.mask, s.mask);
  }
  return all;
}

void read_statistics(const StatisticsSource& source, const PolicyOptions& options, OpenVlaConfig& config) {
  const std::string key = entry_of(source.entries, options.unnorm_key);
  const bool has_state = !config.oft.state_keys.empty();  // else left out: it may be all zeros
  json parts = json::object();
  for (const auto& [name, entry] : source.entries.items()) {
    parts[name] = json::object();
    if (!entry.is_object()) continue;
    for (const char* part : {"action", "gripper", "action_normalization"})
      if (entry.contains(part)) parts[name][part] = entry.at(part);
    for (const char* part : {"state", "proprio"})
      if (has_state && name == key && entry.contains(part)) parts[name][part] = entry.at(part);
  }
  config.dataset = key;
  tokenizers::DatasetStatistics statistics =
      tokenizers::statistics_from_json(parts.dump(), key, source.where);
  OftConfig& oft = config.oft;
  if (!parts.at(key).contains("action_normalization") &&
      oft.action_normalization != tokenizers::ActionNormalization::automatic)
    statistics.normalization = oft.action_normalization;
  override_statistics(options, config.dataset, statistics);
  config.action = statistics.action;
  config.gripper = statistics.gripper;
  config.action_normalization = oft.action_normalization = statistics.normalization;
  if (has_state) oft.state = state_statistics(statistics, oft.state_keys, source.where + ": " + key);

  json entry = source.entries.at(config.dataset);
  statistics.state.clear();
  const json known = json::parse(tokenizers::to_json(statistics, "")).at("");
  for (const char* part : {"gripper", "action_normalization"}) {
    entry.erase(part);
    if (known.contains(part)) entry[part] = known.at(part);
  }
  config.companions["dataset_statistics.json"] = json{{config.dataset, entry}}.dump(2) + "\n";
}

}  // namespace

std::array<uint8_t, 3> OpenVlaConfig::padding_color() const {
  std::array<uint8_t, 3> color{};
  for (size_t i = 0; i < 3; ++i)
    color[i] = static_cast<uint8_t>(std::clamp(255 * normalization[1].mean[i], 0.0, 255.0));
  return color;
}

OpenVlaShape read_openvla_shape(const SafetensorsReader& weights) {
  OpenVlaShape shape;
  shape.dino = read_tower(weights, "vision_backbone.featurizer.", 64);
  shape.siglip = read_tower(weights, "vision_backbone.fused_featurizer.", 72);
  shape.projector = extent(weights, "projector.fc1.weight", 2, 0);
  shape.llama.vocabulary = extent(weights, "language_model.model.embed_tokens.weight", 2, 0);
  shape.llama.width = extent(weights, "language_model.model.embed_tokens.weight", 2, 1);
  shape.llama.layers = count_blocks(weights, "language_model.model.layers.", "input_layernorm.weight");
  shape.llama.mlp = extent(weights, "language_model.model.layers.0.mlp.gate_proj.weight", 2, 0);
  return shape;
}

OpenVlaConfig OpenVlaConfig::read(const fs::path& directory, const SafetensorsReader& weights,
                                  const PolicyOptions& options, const fs::path& adapter) {
  const JsonFile file(directory / "config.json");
  if (!file["use_fused_vision_backbone"].get_or(true))
    file["use_fused_vision_backbone"].fail("true (DINOv2 and SigLIP)");
  OpenVlaConfig config;
  config.shape = read_openvla_shape(weights);
  read_llama(file, weights, config.shape.llama);
  check_image_sizes(file, config.shape, weights.path());
  config.action_bins = file["n_action_bins"].present() ? file["n_action_bins"].integer(2, 1 << 20) : 256;
  const int64_t padding =
      file["pad_to_multiple_of"].present() ? file["pad_to_multiple_of"].integer(0, 1 << 20) : 64;
  config.action_vocabulary = config.shape.llama.vocabulary - padding;
  if (config.action_vocabulary < config.action_bins)
    file["pad_to_multiple_of"].fail(concat("room for ", config.action_bins,
                                           " action tokens in a vocabulary of ",
                                           config.shape.llama.vocabulary));
  const std::string strategy = file["image_resize_strategy"].get_or<std::string>("resize-naive");
  config.resize = pictures::resize_strategy_from(
      strategy, (directory / "config.json").string() + ": image_resize_strategy");
  config.normalization = read_normalization(JsonFile(directory / "preprocessor_config.json"));

  for (const auto& entry : fs::directory_iterator(directory)) {
    if (!is_companion(entry.path())) continue;
    if (entry.file_size() > kLargestCompanion)
      log_warn(entry.path().string(), ": larger than 64 MiB, it is left out of checkpoints");
    else
      config.companions[entry.path().filename().string()] = read_file(entry.path());
  }
  config.oft = OftConfig::read(options, file, weights, directory, adapter);
  read_statistics(find_statistics(file, directory, options, adapter), options, config);
  const bool has_state = !config.oft.state_keys.empty();
  if (has_state && config.oft.projector.empty())
    config.shape.state_size = extent(weights, "proprio_projector.fc1.weight", 2, 1);
  std::string& text = config.companions["config.json"];
  text = config.oft.written_into(text);
  return config;
}

}  // namespace apo::models
