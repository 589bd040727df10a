#include "audit/scan.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "apo/base/error.h"
#include "data/layouts.h"

namespace apo::audit {
namespace {

// Runs `act`; true unless it failed and the visitor was told.
bool attempt(const ScanVisitor& visitor, const std::function<void()>& act) {
  if (!visitor.error) {
    act();
    return true;
  }
  try {
    act();
    return true;
  } catch (const DataError& error) {
    visitor.error(error.what());
    return false;
  }
}

}  // namespace

void expect_finite(const ScannedEpisode& episode) {
  const EpisodeRecord& record = episode.record;
  for (size_t t = 0; t < episode.steps.size(); ++t)
    for (const float a : record.actions[t])
      APO_CHECK(DataError, std::isfinite(a) || episode.steps[t].label == StepLabel::skipped,
                episode.in.file.path().string(), ": action of ", record.name, " timestep ", t,
                ": expected finite numbers, found ", std::isnan(a) ? "NaN" : "infinity");
}

void scan_source(const SourceOptions& source, int64_t source_number, bool is_expert,
                 const DataOptions& options, const ScanVisitor& visitor) {
  const LabelRules rules = label_rules(options, source, is_expert);
  std::vector<std::filesystem::path> paths;
  attempt(visitor, [&] { paths = expand_source(source); });
  for (const auto& path : paths) {
    std::shared_ptr<TrajectoryFile> file;
    const Reading reading{source.format, source.instruction, source.image_orientation, true};
    if (!attempt(visitor, [&] { file = open_trajectories(path, reading); })) continue;
    const int64_t all = file->num_episodes();
    const ScannedFile in{source, source_number, is_expert, *file,
                         source.limit > 0 ? std::min(all, source.limit) : all};
    visitor.file(in);
    for (int64_t e = 0; e < in.num_episodes; ++e) {
      ScannedEpisode episode{in, e, {}, {}};
      if (!attempt(visitor, [&] { episode.record = file->episode(e); })) continue;
      recode_gripper(episode.record, source, options);
      episode.steps = label_episode(episode.record, rules);
      visitor.episode(episode);
    }
  }
}

void scan(const DataOptions& options, const ScanVisitor& visitor) {
  int64_t number = 0;
  for (const SourceOptions& source : options.expert) scan_source(source, number++, true, options, visitor);
  for (const SourceOptions& source : options.interactions)
    scan_source(source, number++, false, options, visitor);
}

void ActionSample::add(const Action& action) {
  if (min_.empty()) {
    min_.assign(action.begin(), action.end());
    max_ = min_;
  }
  APO_ASSERT(action.size() == min_.size());
  for (size_t j = 0; j < action.size(); ++j) {
    min_[j] = std::min(min_[j], static_cast<double>(action[j]));
    max_[j] = std::max(max_[j], static_cast<double>(action[j]));
  }
  if (seen_++ % stride_ != 0) return;
  rows_.insert(rows_.end(), action.begin(), action.end());
  const size_t width = action.size();
  if (rows_.size() / width < capacity_) return;
  for (size_t i = 0; 2 * i * width < rows_.size(); ++i)
    std::copy_n(rows_.begin() + static_cast<int64_t>(2 * i * width), width,
                rows_.begin() + static_cast<int64_t>(i * width));
  rows_.resize((rows_.size() / width + 1) / 2 * width);
  stride_ *= 2;
}

std::vector<double> ActionSample::sorted_column(size_t j) const {
  std::vector<double> column;
  const size_t width = min_.size();
  for (size_t i = j; i < rows_.size(); i += width) column.push_back(static_cast<double>(rows_[i]));
  std::sort(column.begin(), column.end());
  return column;
}

}  // namespace apo::audit
