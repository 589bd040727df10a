#include "apo/data/dataset.h"

#include <glob.h>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/data/chunks.h"
#include "data/hdf5.h"

namespace apo::data {

namespace fs = std::filesystem;

namespace {

// The writer's own companions of a trajectory file.
bool is_companion(const fs::path& path) {
  const std::string end = path.extension().string();
  return end == ".journal" || end == ".partial" || end == ".new";
}

struct LabelledEpisode {
  EpisodeRecord record;
  std::vector<LabelledStep> steps;
};

// [N A] of the steps of a chunk; empty where all are one.
std::vector<float> credit_of(std::span<const LabelledStep> chunk, size_t action_size) {
  std::vector<float> credit;
  if (std::ranges::all_of(chunk, [](const LabelledStep& step) { return step.dimension_credit.empty(); }))
    return credit;
  for (const LabelledStep& step : chunk)
    if (step.dimension_credit.empty())
      credit.insert(credit.end(), action_size, 1.0f);
    else
      credit.insert(credit.end(), step.dimension_credit.begin(), step.dimension_credit.end());
  return credit;
}

// What filters did to a source.
struct FilterTally {
  std::string path;
  int64_t imitable = 0;                     // steps that would be imitated without filters
  std::map<std::string, int64_t> left_out;  // by reason
};

struct OpenFile {
  std::shared_ptr<TrajectoryFile> file;
  bool is_expert = false;
  std::vector<LabelledEpisode> episodes;
};

void expect_finite(const LabelledEpisode& episode, const fs::path& path) {
  for (size_t i = 0; i < episode.steps.size(); ++i) {
    if (episode.steps[i].label == StepLabel::skipped) continue;
    for (const float a : episode.record.actions[i])
      APO_CHECK(DataError, std::isfinite(a), path.string(), ": action of ", episode.record.name, " timestep ",
                i, ": expected finite numbers, found ", std::isnan(a) ? "NaN" : "infinity");
  }
}

}  // namespace

struct Dataset::State {
  std::vector<OpenFile> files;
  std::array<std::vector<StepIndex>, 3> pools;
  LabelCounts counts;
  std::vector<FilterTally> filters;  // of each source
  FilterOptions filter;
  int64_t num_episodes = 0;
  int64_t action_size = 0;
  int64_t horizon = 1;
  ChunkRule rule = ChunkRule::cut;
  ChunkOverlap overlap = ChunkOverlap::leave_out;
  GripperOptions gripper;
  std::vector<std::string> cameras;

  void add_source(const SourceOptions& source, bool is_expert, const DataOptions& options);
  void leave_out_overlaps();
  void add_episode(OpenFile& file, LabelledEpisode episode, LabelCounts& counts);
  const LabelledEpisode& episode(int32_t f, int32_t e) const {
    return files.at(static_cast<size_t>(f)).episodes.at(static_cast<size_t>(e));
  }
};

void Dataset::State::add_episode(OpenFile& file, LabelledEpisode episode, LabelCounts& counts) {
  const auto size = static_cast<int64_t>(episode.record.actions.at(0).size());
  if (action_size == 0) action_size = size;
  APO_CHECK(DataError, size == action_size, file.file->path().string(), ": actions of ", episode.record.name,
            ": expected ", action_size, " numbers as in ",
            files.empty() ? "its first episode" : files[0].file->path().string(), ", found ", size);
  expect_finite(episode, file.file->path());
  count_labels(episode.steps, counts);
  StepIndex index{static_cast<int32_t>(files.size()), static_cast<int32_t>(file.episodes.size()), 0};
  FilterTally& filter = filters.back();
  for (const LabelledStep& step : episode.steps) {
    filter.imitable += step.is_imitable();
    if (step.filtered) ++filter.left_out[std::string(step.reason)];
    if (step.label != StepLabel::skipped) {
      const Pool pool = step.label == StepLabel::desirable      ? Pool::desirable
                        : step.label == StepLabel::intervention ? Pool::intervention
                                                                : Pool::undesirable;
      pools[static_cast<size_t>(pool)].push_back(index);
    }
    ++index.timestep;
  }
  file.episodes.push_back(std::move(episode));
  ++num_episodes;
}

void Dataset::State::leave_out_overlaps() {
  constexpr const char* kReason = "chunk reaches into an undesirable window";
  std::vector<StepIndex>& desirable = pools[static_cast<size_t>(Pool::desirable)];
  // decided on the labels as they are, then changed
  std::vector<StepIndex> kept, left_out;
  for (const StepIndex& index : desirable) {
    const LabelledEpisode& labelled = episode(index.file, index.episode);
    const bool reaches = reaches_undesirable(labelled.record, labelled.steps, index.timestep, horizon);
    (reaches ? left_out : kept).push_back(index);
  }
  for (const StepIndex& index : left_out) {
    OpenFile& file = files[static_cast<size_t>(index.file)];
    LabelledStep& step =
        file.episodes[static_cast<size_t>(index.episode)].steps[static_cast<size_t>(index.timestep)];
    const std::string source = file.is_expert ? "expert/" : "interactions/";
    if (--counts[concat(source, to_string(step.label), ": ", step.reason)] == 0)
      counts.erase(concat(source, to_string(step.label), ": ", step.reason));
    step.label = StepLabel::skipped;
    step.reason = kReason;
    ++counts[concat(source, "skipped: ", kReason)];
  }
  desirable = std::move(kept);
  if (!left_out.empty())
    log_info(left_out.size(), " desirable steps are left out: their chunks of ", horizon,
             " actions reach into undesirable windows (data.labels.chunk_overlap)");
}

void Dataset::State::add_source(const SourceOptions& source, bool is_expert, const DataOptions& options) {
  LabelCounts source_counts;
  const LabelRules rules = label_rules(options, source, is_expert);
  filters.push_back({source.path, 0, {}});
  for (const fs::path& path : expand_source(source)) {
    for (const OpenFile& other : files)
      if (other.file->path() == path)
        log_warn(path.string(), ": named by two data sources, its steps count twice");
    OpenFile file{TrajectoryFile::open(path, source.format, source.instruction, source.image_orientation),
                  is_expert,
                  {}};
    for (const std::string& what : file.file->left_out()) log_warn(path.string(), ": left out: ", what);
    const int64_t n = file.file->num_episodes();
    for (int64_t e = 0; e < (source.limit > 0 ? std::min(n, source.limit) : n); ++e) {
      LabelledEpisode episode{file.file->episode(e), {}};
      recode_gripper(episode.record, source, options);
      episode.steps = label_episode(episode.record, rules);
      episode.record.actions = imitated_actions(episode.record, rules);
      add_episode(file, std::move(episode), source_counts);
    }
    files.push_back(std::move(file));
  }
  if (const auto failed = source_counts.find("skipped: failed demonstration"); failed != source_counts.end())
    log_warn(source.path, ": ", failed->second,
             " steps of failed demonstrations (success 0) are left out "
             "(data.labels.failed_demonstrations)");
  for (const auto& [key, n] : source_counts) counts[(is_expert ? "expert/" : "interactions/") + key] += n;
}

LabelRules label_rules(const DataOptions& options, const SourceOptions& source, bool is_expert) {
  return {is_expert, options.labels, options.filter, options.compatibility, gripper_of(source, options)};
}

Dataset::Dataset(const DataOptions& options) : state_(std::make_shared<State>()) {
  state_->filter = options.filter;
  state_->overlap = options.labels.chunk_overlap;
  state_->gripper = gripper_of(options);
  state_->cameras = options.policy_cameras;
  for (const SourceOptions& source : options.expert) state_->add_source(source, true, options);
  for (const SourceOptions& source : options.interactions) state_->add_source(source, false, options);
}

const std::vector<StepIndex>& Dataset::pool(Pool pool) const {
  return state_->pools[static_cast<size_t>(pool)];
}
const LabelCounts& Dataset::counts() const { return state_->counts; }

void Dataset::expect_enough_kept() const {
  for (const FilterTally& source : state_->filters)
    if (const std::string message =
            mostly_filtered(source.path, source.imitable, source.left_out, state_->filter);
        !message.empty())
      throw DataError(message);
}

std::vector<SegmentPair> Dataset::segment_pairs() const {
  std::map<std::tuple<int32_t, int32_t, int32_t>, SegmentPair> pairs;  // by file, episode, take-over
  for (const StepIndex& index : kept_steps()) {
    const LabelledStep& step = label(index);
    if (step.take_over_number < 0) continue;
    SegmentPair& pair = pairs[{index.file, index.episode, step.take_over_number}];
    (step.label == StepLabel::undesirable ? pair.rejected : pair.preferred).push_back(index);
  }
  std::vector<SegmentPair> whole;
  for (auto& [take_over, pair] : pairs)
    if (!pair.preferred.empty() && !pair.rejected.empty()) whole.push_back(std::move(pair));
  return whole;
}

int64_t Dataset::num_files() const { return static_cast<int64_t>(state_->files.size()); }
int64_t Dataset::num_episodes() const { return state_->num_episodes; }
int64_t Dataset::action_size() const { return state_->action_size; }
void Dataset::set_horizon(int64_t horizon, ChunkRule rule) {
  APO_ASSERT(horizon >= 1);
  state_->horizon = horizon;
  state_->rule = rule;
  if (rule == ChunkRule::whole && state_->overlap == ChunkOverlap::leave_out) state_->leave_out_overlaps();
}
const GripperOptions& Dataset::gripper() const { return state_->gripper; }
const fs::path& Dataset::file_path(int32_t file) const { return this->file(file).path(); }
bool Dataset::is_expert(int32_t file) const { return state_->files.at(static_cast<size_t>(file)).is_expert; }
const TrajectoryFile& Dataset::file(int32_t file) const {
  return *state_->files.at(static_cast<size_t>(file)).file;
}
int32_t Dataset::num_episodes(int32_t file) const {
  return static_cast<int32_t>(state_->files.at(static_cast<size_t>(file)).episodes.size());
}
std::string Dataset::episode_name(int32_t file, int32_t episode) const { return record(file, episode).name; }

std::vector<std::string> Dataset::instructions() const {
  std::set<std::string> instructions;
  for (const OpenFile& file : state_->files)
    for (const LabelledEpisode& episode : file.episodes) instructions.insert(episode.record.instruction);
  return {instructions.begin(), instructions.end()};
}

std::vector<StepIndex> Dataset::kept_steps(bool expert_only) const {
  std::vector<StepIndex> kept;
  for (size_t f = 0; f < state_->files.size(); ++f) {
    const OpenFile& file = state_->files[f];
    if (expert_only && !file.is_expert) continue;
    for (size_t e = 0; e < file.episodes.size(); ++e)
      for (size_t t = 0; t < file.episodes[e].steps.size(); ++t)
        if (file.episodes[e].steps[t].label != StepLabel::skipped)
          kept.push_back({static_cast<int32_t>(f), static_cast<int32_t>(e), static_cast<int32_t>(t)});
  }
  return kept;
}

const LabelledStep& Dataset::label(const StepIndex& index) const {
  return state_->episode(index.file, index.episode).steps.at(static_cast<size_t>(index.timestep));
}

const EpisodeRecord& Dataset::record(int32_t file, int32_t episode) const {
  return state_->episode(file, episode).record;
}

Sample Dataset::sample_without_observation(const StepIndex& index) const {
  const EpisodeRecord& episode = record(index.file, index.episode);
  const LabelledStep& step = label(index);
  const auto t = static_cast<size_t>(index.timestep);
  Sample sample;
  sample.index = index;
  const std::vector<LabelledStep>& steps = state_->episode(index.file, index.episode).steps;
  const bool whole = state_->rule == ChunkRule::whole;
  sample.actions = whole ? whole_chunk_from(episode, index.timestep, state_->horizon)
                         : chunk_from(episode, steps, index.timestep, state_->horizon);
  sample.source = episode.sources.at(t);
  sample.desirable = step.label != StepLabel::undesirable;
  sample.dimension_credit =
      whole ? step.dimension_credit
            : credit_of({steps.data() + t, sample.actions.size()}, sample.actions.front().size());
  sample.policy_actions = wanted_chunk_from(episode, index.timestep, state_->horizon);
  sample.take_over_number = step.take_over_number;
  return sample;
}

Observation Dataset::state(const StepIndex& index) const {
  label(index);  // range
  return file(index.file).state(index.episode, index.timestep);
}

Observation Dataset::observation(const StepIndex& index) const {
  label(index);  // range
  const auto& there = record(index.file, index.episode).cameras;
  const bool all_there = std::all_of(state_->cameras.begin(), state_->cameras.end(),
                                     [&there](const std::string& camera) { return there.contains(camera); });
  return file(index.file)
      .observation(index.episode, index.timestep, all_there ? state_->cameras : std::vector<std::string>{});
}

Sample Dataset::sample(const StepIndex& index) const {
  Sample sample = sample_without_observation(index);
  sample.observation = observation(index);
  return sample;
}

std::vector<fs::path> expand_source(const SourceOptions& source) {
  APO_CHECK(ConfigError, !source.path.empty(), "a data source has no `path`");
  std::vector<fs::path> paths;
  std::error_code error;
  if (fs::is_directory(source.path, error)) {
    for (const auto& entry : fs::directory_iterator(source.path, error))
      if (hdf5::names_a_file(entry.path()) && entry.is_regular_file(error)) paths.push_back(entry.path());
    APO_CHECK(DataError, !paths.empty(), source.path,
              ": expected a directory with *.hdf5 or *.h5 files, found none");
  } else if (fs::exists(source.path, error)) {
    return {source.path};
  } else {
    glob_t matches = {};
    if (::glob(source.path.c_str(), 0, nullptr, &matches) == 0)
      for (size_t i = 0; i < matches.gl_pathc; ++i) paths.emplace_back(matches.gl_pathv[i]);
    ::globfree(&matches);
    std::erase_if(paths, [&error](const fs::path& path) {
      return is_companion(path) || fs::is_directory(path, error);
    });
    const bool pattern = source.path.find_first_of("*?[") != std::string::npos;
    APO_CHECK(DataError, !paths.empty(), source.path, pattern ? ": no file matches" : ": no such file");
  }
  std::sort(paths.begin(), paths.end(),
            [](const fs::path& a, const fs::path& b) { return hdf5::natural_less(a.string(), b.string()); });
  return paths;
}

}  // namespace apo::data
