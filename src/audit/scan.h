// Going through the sources of a config once, episode by episode, in memory that does not grow with them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "audit/names.h"

namespace apo::audit {

struct ScannedFile {
  const SourceOptions& source;
  int64_t source_number = 0;  // expert sources first, then interactions
  bool is_expert = false;
  const TrajectoryFile& file;
  int64_t num_episodes = 0;  // as far as the source's limit goes
};

struct ScannedEpisode {
  const ScannedFile& in;
  int64_t index = 0;
  EpisodeRecord record;
  std::vector<LabelledStep> steps;
};

/// DataError naming file, episode and timestep if an action that is not skipped holds NaN or infinity.
void expect_finite(const ScannedEpisode& episode);

struct ScanVisitor {
  std::function<void(const ScannedFile&)> file;  // before its episodes
  std::function<void(const ScannedEpisode&)> episode;
  // what could not be read; the scan then goes on behind it. Without it the error is thrown.
  std::function<void(const std::string& message)> error = nullptr;
};

void scan_source(const SourceOptions& source, int64_t source_number, bool is_expert,
                 const DataOptions& options, const ScanVisitor& visitor);
void scan(const DataOptions& options, const ScanVisitor& visitor);

/// Numbers of many actions: extremes of all, and quantiles over every n-th, n growing so that at most
/// `capacity` rows are kept.
class ActionSample {
 public:
  explicit ActionSample(size_t capacity = size_t{1} << 19) : capacity_(capacity) {}
  /// Not finite numbers must not be added.
  void add(const Action& action);
  size_t size() const { return min_.size(); }  ///< dimensions
  int64_t num_seen() const { return seen_; }
  double min(size_t j) const { return min_[j]; }
  double max(size_t j) const { return max_[j]; }
  /// Of the kept rows, sorted.
  std::vector<double> sorted_column(size_t j) const;

 private:
  size_t capacity_;
  int64_t stride_ = 1, seen_ = 0;
  std::vector<double> min_, max_;
  std::vector<float> rows_;
};

}  // namespace apo::audit
