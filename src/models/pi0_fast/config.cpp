#include "models/pi0_fast/config.h"

#include <torch/types.h>

#include <algorithm>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/text.h"
#include "apo/models/options.h"
#include "apo/models/safetensors.h"
#include "base/json.h"
#include "models/checkpoints/companions.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostActions = 1 << 16, kMostTokens = 1 << 20;
constexpr std::string_view kImages = "observation.images.";

// [Y, X] or one number, as the tower sees it.
void check_resolution(const OrderedJsonField& field, int64_t image_size) {
  if (!field.present()) return;
  const auto sides = field.raw().is_number() ? std::vector<int64_t>{field.integer(1, 1 << 16)}
                                             : field.get<std::vector<int64_t>>();
  field.expect(!sides.empty() && std::ranges::all_of(sides, [&](int64_t side) { return side == image_size; }),
               concat(image_size, ", as the vision tower's positions say"));
}

int64_t integer_or(const OrderedJsonField& field, int64_t otherwise, int64_t most) {
  return field.present() ? field.integer(1, most) : otherwise;
}

fs::path find_assets(const OrderedJsonFile& file, const fs::path& directory) {
  const fs::path assets = directory / "assets";
  const std::string asset = file["asset_id"].get_or<std::string>();
  if (!asset.empty()) return assets / file["asset_id"].inner_path() / "norm_stats.json";
  std::vector<std::string> found;
  std::error_code ignored;
  if (fs::is_directory(assets, ignored))
    for (const auto& entry : fs::recursive_directory_iterator(assets))
      if (entry.path().filename() == "norm_stats.json")
        found.push_back(fs::relative(entry.path().parent_path(), assets).string());
  std::ranges::sort(found);
  APO_CHECK(DataError, found.size() == 1, file.path().string(), ": asset_id: expected which of ",
            assets.string(), " the action statistics are; there are: ", found.empty() ? "none" : join(found));
  return assets / found.front() / "norm_stats.json";
}

void read_openpi(const OrderedJsonFile& file, const fs::path& directory, const PolicyOptions& options,
                 Pi0FastConfig& config) {
  config.dialect = Pi0FastDialect::openpi;
  config.action_size = file["action_dim"].integer(1, kMostActions);
  config.horizon = file["action_horizon"].integer(1, kMostActions);
  config.max_sequence = integer_or(file["max_token_len"], 250, kMostTokens);
  config.max_decoding_steps = integer_or(file["max_decoding_steps"], 256, kMostTokens);
  config.skipped_tokens =
      file["fast_skip_tokens"].present() ? file["fast_skip_tokens"].integer(0, kMostTokens) : 128;
  config.image_keys = file["image_keys"].get<std::vector<std::string>>();
  std::ranges::sort(config.image_keys);  // as jax sorts a dict
  file["image_keys"].expect(!config.image_keys.empty(), "at least one slot for a picture");
  check_resolution(file["image_resolution"], config.image_size());
  if (file["delta_action_dims"].present()) {
    config.delta_dimensions = file["delta_action_dims"].get<std::vector<int64_t>>();
    file["delta_action_dims"].expect(
        std::ranges::all_of(config.delta_dimensions,
                            [&](int64_t d) { return 0 <= d && d < config.action_size; }),
        concat("dimensions from 0 to ", config.action_size - 1));
  }
  const std::string how = file["normalization"].get<std::string>();
  file["normalization"].expect(how == "quantile" || how == "z-score",
                               "\"quantile\" or \"z-score\": nothing else in a checkpoint says which");
  const auto normalization =
      how == "quantile" ? tokenizers::Normalization::quantiles : tokenizers::Normalization::z_score;
  const fs::path statistics =
      options.statistics.empty() ? find_assets(file, directory) : fs::path(options.statistics);
  const bool is_openpis = options.statistics.empty() || JsonFile(statistics)["norm_stats"].present();
  config.normalization =
      is_openpis ? read_openpi_normalization(statistics, normalization)
                 : read_own_normalization(statistics, options.unnorm_key, options.state_keys, normalization);
}

void read_lerobot(const OrderedJsonFile& file, const fs::path& directory, const PolicyOptions& options,
                  Pi0FastConfig& config) {
  config.dialect = Pi0FastDialect::lerobot;
  file["use_relative_actions"].expect(!file["use_relative_actions"].get_or(false),
                                      "false: actions relative to the state are not supported");
  config.horizon = file["chunk_size"].integer(1, kMostActions);
  const OrderedJsonField action = file["output_features"]["action"]["shape"];
  const auto shape = action.get<std::vector<int64_t>>();
  action.expect(shape.size() == 1 && shape[0] >= 1 && shape[0] <= kMostActions, "the size of an action");
  config.action_size = shape[0];
  for (const auto& [key, feature] : file["input_features"].entries()) {
    if (feature["type"].raw() == "VISUAL") {
      // LeRobot's own empty cameras are masked, which is to leave them out
      if (key.find(".empty_camera_") == std::string::npos)
        config.image_keys.push_back(key.starts_with(kImages) ? key.substr(kImages.size()) : key);
    } else if (key == "observation.state") {
      const auto size = feature["shape"].get<std::vector<int64_t>>();
      feature["shape"].expect(size.size() == 1 && size[0] >= 1, "the size of the state");
      config.state_size = size[0];
    }
  }
  file["input_features"].expect(!config.image_keys.empty(), "at least one VISUAL feature");
  file["input_features"].expect(config.state_size.has_value(), "observation.state");
  config.max_prompt = integer_or(file["tokenizer_max_length"], 200, kMostTokens);
  config.max_answer = integer_or(file["max_action_tokens"], 256, kMostTokens) - 1;
  config.max_decoding_steps = integer_or(file["max_decoding_steps"], 256, kMostTokens);
  config.skipped_tokens =
      file["fast_skip_tokens"].present() ? file["fast_skip_tokens"].integer(0, kMostTokens) : 128;
  check_resolution(file["image_resolution"], config.image_size());
  if (options.statistics.empty()) {
    config.normalization = read_lerobot_normalization(directory);
    return;
  }
  LerobotStatistics own =
      read_own_lerobot_normalization(directory, options.statistics, options.unnorm_key, options.state_keys);
  config.normalization = std::move(own.normalization);
  for (auto& [name, text] : own.files) config.companions[name] = std::move(text);
}

// `where`: the file that was given, else the checkpoint.
void check_statistics(const Pi0FastConfig& config, const std::string& where) {
  const int64_t actions = config.normalization.action.size(), states = config.normalization.state.size();
  const bool is_openpi = config.dialect == Pi0FastDialect::openpi;
  // openpi's may be longer than the data
  APO_CHECK(DataError, is_openpi ? actions >= config.action_size : actions == config.action_size, where,
            ": the statistics of actions are of ", actions, " numbers; expected ", config.action_size,
            " as in config.json. Are they of another robot?");
  APO_CHECK(DataError, !config.state_size || states == *config.state_size, where,
            ": the statistics of states are of ", states, " numbers; expected ",
            config.state_size.value_or(0), " as in config.json. Are they of another robot?");
}

}  // namespace

Pi0FastConfig Pi0FastConfig::read(const fs::path& directory, const SafetensorsReader& weights,
                                  const PolicyOptions& options) {
  const OrderedJsonFile file(directory / "config.json");
  Pi0FastConfig config;
  config.names = PaliGemmaNames::find(weights);
  config.shape = Pi0FastShape::read(weights, config.names);
  const std::string dialect =
      file["dialect"].get_or<std::string>(file["type"].raw() == "pi0_fast" ? "lerobot" : "");
  file["dialect"].expect(dialect == "openpi" || dialect == "lerobot",
                         "\"openpi\" (or LeRobot's own config.json)");
  for (const fs::path& companion : companions_of(directory))
    config.companions[companion.string()] = read_file(directory / companion);
  if (dialect == "openpi")
    read_openpi(file, directory, options, config);
  else
    read_lerobot(file, directory, options, config);
  check_statistics(config, options.statistics.empty() ? directory.string() : options.statistics);
  if (!options.statistics.empty() && dialect == "openpi") {  // which go with the policy
    const std::string asset = file["asset_id"].get_or<std::string>("statistics");
    std::erase_if(config.companions, [](const auto& held) { return held.first.starts_with("assets/"); });
    config.companions["assets/" + asset + "/norm_stats.json"] = openpi_statistics_json(config.normalization);
  }
  return config;
}

}  // namespace apo::models
