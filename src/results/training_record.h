// What training leaves beside its metrics: labels.json and heaviest_samples.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "results/file_names.h"

namespace apo::results {

/// labels.json: what a run learned from.
struct RunLabels {
  int64_t files = 0, episodes = 0;
  std::map<std::string, int64_t> labels;        ///< recorded steps by "source/label: reason"
  std::map<std::string, int64_t> pools, batch;  ///< steps to draw from, and drawn for each batch, by pool
};

/// One sample of one batch, and how much it counted there.
struct HeavySample {
  std::string file, episode;
  int64_t timestep = 0;
  std::string source, instruction;
  int64_t step = 0;  ///< the update
  std::optional<double> weight, lambda, reward, action_l1;
  std::string picture;  ///< relative to the run's directory; empty: none
};

/// heaviest_samples.json: the samples that weighed most, each group from its heaviest on.
struct HeaviestRecord {
  int64_t from_step = 1, to_step = 0;  ///< the updates that count
  std::vector<HeavySample> desirable, undesirable;
};

/// Writes RUN_DIR/labels.json, whole or not at all. RunError naming the file.
void write_labels(const std::filesystem::path& run_dir, const RunLabels& labels);
void write_heaviest(const std::filesystem::path& run_dir, const HeaviestRecord& heaviest);

/// Nothing if the file is absent (runs of earlier versions). DataError naming file and key for a wrong one.
std::optional<RunLabels> read_labels(const std::filesystem::path& run_dir);
std::optional<HeaviestRecord> read_heaviest(const std::filesystem::path& run_dir);

}  // namespace apo::results
