// How the two dialects of pi0-FAST normalise states and actions, and where their statistics lie.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "apo/tokenizers/normalizer.h"

namespace apo::models {

/// Statistics of one quantity and what is done with them.
struct FeatureNormalization {
  tokenizers::VectorStatistics statistics;
  tokenizers::NormalizerOptions how;
  bool has_quantiles = false;  ///< they are of the data; else made up, and not used

  /// Of the first `size` numbers.
  tokenizers::Normalizer normalizer(int64_t size) const;
  int64_t size() const { return statistics.size(); }
};

struct Pi0FastNormalization {
  FeatureNormalization state, action;
};

/// openpi's norm_stats.json ({"norm_stats": {"state": {mean, std, q01, q99}, "actions": ...}}): quantile or
/// z-score, in float64 with 1e-6 added to every spread, nothing clipped. DataError naming file and key.
Pi0FastNormalization read_openpi_normalization(const std::filesystem::path& file,
                                               tokenizers::Normalization how);

/// The same of our own statistics (`apo-data stats`): of `entry` (or the only one), states in this order.
Pi0FastNormalization read_own_normalization(const std::filesystem::path& file, const std::string& entry,
                                            const std::vector<std::string>& state_keys,
                                            tokenizers::Normalization how);

/// LeRobot's policy_preprocessor.json and the safetensors file that its normalizer names: the mode of each
/// feature (MEAN_STD, QUANTILES, MIN_MAX, QUANTILE10, IDENTITY) as the file says, in float32. DataError
/// naming file and key, also for a processor that makes actions relative to the state.
Pi0FastNormalization read_lerobot_normalization(const std::filesystem::path& directory);

struct LerobotStatistics {
  Pi0FastNormalization normalization;
  std::map<std::string, std::string> files;  ///< what its processors' files then hold, by name
};
/// The same with our own statistics (as read_own_normalization) in place of the checkpoint's, in float32.
LerobotStatistics read_own_lerobot_normalization(const std::filesystem::path& directory,
                                                 const std::filesystem::path& file, const std::string& entry,
                                                 const std::vector<std::string>& state_keys);

/// norm_stats.json with what is given in place of its statistics: the text of the file.
std::string openpi_statistics_json(const Pi0FastNormalization& normalization);

}  // namespace apo::models
