// What happens between the world's units and the network's: one object for training, evaluation and serving,
// kept beside the weights.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "apo/base/types.h"
#include "apo/tokenizers/statistics.h"

namespace apo::models {

struct Preprocessing {
  std::vector<std::string> cameras;     ///< in the network's order
  int64_t image_size = 64;              ///< square, pixels
  std::vector<std::string> state_keys;  ///< in the network's order; empty: none
  std::string dataset = "apo";          ///< the entry of dataset_statistics.json
  tokenizers::DatasetStatistics statistics;

  int64_t action_size() const { return statistics.action.size(); }
  /// Numbers of all state keys together.
  int64_t state_size() const;

  /// Resizes the cameras' pictures, still uint8; other cameras are left alone. DataError for a camera that is
  /// missing (naming what there is) or a picture that is not [Y, X, 3] uint8.
  void prepare(Observation& observation) const;
  /// [B, N, 3, Y, X] float32 in [-0.5, 0.5].
  at::Tensor images(std::span<const Observation> observations, at::Device device) const;
  /// [B, D] float32, each number less its mean, over its standard deviation; undefined without state keys.
  /// DataError for a state that is missing, of another length, or not finite.
  at::Tensor state(std::span<const Observation> observations) const;

  /// preprocessor_config.json and dataset_statistics.json.
  void save(const std::filesystem::path& directory) const;
  /// `unnorm_key` picks the entry of the statistics; empty: the only one.
  static Preprocessing load(const std::filesystem::path& directory, const std::string& unnorm_key);
};

}  // namespace apo::models
