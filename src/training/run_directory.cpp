#include "training/run_directory.h"

#include <algorithm>
#include <set>
#include <system_error>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/base/provenance.h"
#include "apo/base/text.h"
#include "apo/training/run_files.h"
#include "base/paths.h"
#include "models/checkpoints/checkpoint_files.h"
#include "results/file_names.h"
#include "training/cached_reference.h"
#include "training/checkpoint.h"
#include "training/event_file.h"
#include "training/profile.h"

namespace apo::training {
namespace {

namespace fs = std::filesystem;

// What a run writes; other files in the directory are somebody else's.
const std::vector<std::string> kFiles = {results::kConfigFile, results::kMetricsFile,  results::kSamplesFile,
                                         results::kLabelsFile, results::kHeaviestFile, CachedReference::kFile,
                                         StepProfiler::kTable, StepProfiler::kTrace,   "report.html"};
const std::vector<std::string> kDirectories = {"tensorboard", "checkpoints", "heaviest"};
constexpr const char* kCheckpoints = "checkpoints";
constexpr const char* kPutAside = "before-resume-";
constexpr std::string_view kPartial = ".partial";

std::vector<std::string> all_written() {
  std::vector<std::string> names = kFiles;
  names.insert(names.end(), kDirectories.begin(), kDirectories.end());
  return names;
}

// "step-12", and "step-12.partial" of a run that was killed while it saved.
bool is_step(std::string_view name) {
  if (name.ends_with(kPartial)) name.remove_suffix(kPartial.size());
  return models::step_of(name).has_value();
}

}  // namespace

bool is_run_file(const fs::path& run_dir, const std::string& name, bool is_link) {
  if (is_link || name == "checkpoints/latest") return is_link && name == "checkpoints/latest";
  const fs::path path = name;
  const std::string first = path.begin()->string(), file = path.filename().string();
  if (first == name) return std::ranges::find(kFiles, name) != kFiles.end();
  const std::string second = std::next(path.begin())->string();
  if (first == "tensorboard") return second == file && file.starts_with("events.out.tfevents.");
  if (first == "heaviest") return second == file && file.find("desirable-") <= 2 && file.ends_with(".webp");
  if (first != kCheckpoints || !is_step(second)) return false;
  return second.ends_with(kPartial) || lies_there(run_dir / first / second / results::kStateFile);
}

void check_run_directory(const fs::path& path) {
  APO_CHECK(ConfigError, !path.empty(),
            "run.dir: expected a directory to write into, found none; set run.dir=DIR");
  std::error_code ignored;
  APO_CHECK(ConfigError, !fs::exists(path, ignored) || fs::is_directory(path, ignored),
            "run.dir: ", path.string(), ": expected a directory, found a file");
}

RunDirectory::RunDirectory(const fs::path& path, ExistingRun existing) : path_(path), existing_(existing) {
  check_run_directory(path);
  lock_ = std::make_unique<DirectoryLock>(path);  // first: a run that goes on is told as such
  manifest_.emplace(path, concat("run.dir: ", path.string()));
  if (existing == ExistingRun::resume) resume_from_ = newest_checkpoint(path);
  if (!resume_from_) check_before_removal();
}

void RunDirectory::check_before_removal() const {
  const std::string where = "run.dir: " + path_.string();
  std::string used;
  for (const std::string& name : all_written())
    if (used.empty() && lies_there(path_ / name)) used = name;
  if (existing_ == ExistingRun::refuse) {
    APO_CHECK(ConfigError, used.empty() || !manifest_->found(), where, " holds an earlier run (", used,
              "); --resume goes on with it, --overwrite deletes it");
    APO_CHECK(ConfigError, used.empty(), where, " holds ", used, ", and no ", Manifest::kFile,
              " says that a run wrote it. If it is a run of before there were such files, --resume goes on "
              "with it and --overwrite does not delete it; otherwise choose another directory");
  }
  if (existing_ == ExistingRun::resume) {
    std::vector<std::string> broken;
    if (!fs::is_symlink(path_ / kCheckpoints)) broken = names_in(path_ / kCheckpoints);
    std::erase_if(broken,
                  [](const std::string& name) { return name == "latest" || name.ends_with(kPartial); });
    APO_CHECK(
        ConfigError, broken.empty(), where, ": nothing to resume: checkpoints holds ", join(broken),
        ", and none of them is a whole checkpoint of a run (step-N with its mark DONE); nothing was removed");
    log_warn(where, ": nothing to resume (",
             used.empty() ? "no run lies there" : "the run there has no checkpoint", "); beginning anew");
  }
  manifest_->refuse_strangers(to_be_removed());
}

std::vector<std::string> RunDirectory::to_be_removed() const {
  std::vector<std::string> names = all_written();
  if (existing_ == ExistingRun::overwrite)
    for (const std::string& name : names_in(path_))
      if (name.starts_with(kPutAside)) names.push_back(name);
  return names;
}

// False for a run that only said what it would do: it says so again.
bool RunDirectory::holds_steps() const {
  const auto is_larger = [](const fs::path& file, size_t bytes) {
    std::error_code error;
    const uintmax_t size = fs::file_size(file, error);
    return !error && size > bytes;
  };
  static const std::set<std::string> kBefore = {results::kConfigFile, results::kLabelsFile,
                                                CachedReference::kFile};
  for (const std::string& name : kFiles)
    if (!kBefore.contains(name) && is_larger(path_ / name, 0)) return true;
  for (const std::string& name : names_in(path_ / "tensorboard"))
    if (is_larger(path_ / "tensorboard" / name, EventFile::kHeadBytes)) return true;
  return !names_in(path_ / "heaviest").empty();
}

void RunDirectory::put_aside() {
  // none of which is a checkpoint: half of one, and a link that leads nowhere
  manifest_->remove({kCheckpoints});
  if (!holds_steps()) return;
  int number = 1;
  while (lies_there(path_ / concat(kPutAside, number))) ++number;
  const std::string name = concat(kPutAside, number);
  manifest_->move(all_written(), name);
  log_warn("run.dir: ", path_.string(), ": what the run without a checkpoint wrote lies in ",
           (path_ / name).string());
}

void RunDirectory::begin(const std::string& config_yaml) {
  for (const std::string& name : names_in(path_))  // a process that was killed while it moved files there
    if (name.starts_with(kPutAside)) manifest_->settle(name + "/");
  if (!resume_from_) {
    manifest_->refuse_strangers(to_be_removed());
    if (existing_ == ExistingRun::resume) put_aside();
    manifest_->remove(to_be_removed());
  } else {
    if (!manifest_->found())
      manifest_->adopt(all_written(), [this](const std::string& name, bool is_link) {
        return is_run_file(path_, name, is_link);
      });
    for (const std::string& name : kDirectories) {
      std::error_code ignored;
      const fs::file_status status = fs::symlink_status(path_ / name, ignored);
      APO_CHECK(ConfigError, !fs::exists(status) || fs::is_directory(status),
                "run.dir: ", (path_ / name).string(), ": expected a directory, found ",
                fs::is_symlink(status) ? "a link, which is not followed for writing" : "something else");
    }
    // what a killed process left half-written, or had no time to list
    for (const std::string& name : names_in(path_ / kCheckpoints)) {
      const std::string below = concat(kCheckpoints, "/", name);
      if (name.ends_with(kPartial)) manifest_->remove({below});
      manifest_->settle(below + "/");
      const auto later = is_step(name) &&
                         below != concat(kCheckpoints, "/", resume_from_->filename().string()) &&
                         !is_whole_directory(path_ / below);
      if (later) manifest_->refuse_strangers({below});
    }
  }
  std::vector<std::string> half_written;
  for (const std::string& name : kFiles) half_written.push_back(name + std::string(kPartial));
  manifest_->remove(half_written);
  std::vector<std::string> written = kFiles;
  written.push_back(concat(kCheckpoints, "/latest@"));
  manifest_->claim(written);
  const fs::path config = path_ / results::kConfigFile;
  std::error_code ignored;
  const bool goes_on = resume_from_ && fs::is_regular_file(config, ignored);
  write_file_atomic(config, with_provenance(config_yaml, goes_on ? read_file(config) : ""));
}

void RunDirectory::claim(const fs::path& file) {
  manifest_->claim({file.lexically_relative(path_).string()});
}

void RunDirectory::fill(const std::string& name, const std::function<void()>& fill) {
  manifest_->remove({name});
  manifest_->claim({name + "/"});
  fill();
  manifest_->settle(name + "/");
}

fs::path RunDirectory::checkpoint(int64_t step, int64_t keep, const std::function<fs::path()>& save) {
  const std::string name = concat(kCheckpoints, "/step-", step);
  manifest_->remove({name, name + ".partial"});
  manifest_->claim({name + "/"});
  const fs::path path = save();
  manifest_->settle(name + "/");
  const std::vector<fs::path> all = whole_checkpoints(path_);
  for (size_t i = static_cast<size_t>(keep); keep > 0 && i < all.size(); ++i) {
    try {
      manifest_->remove({concat(kCheckpoints, "/", all[i].filename().string())});
    } catch (const RunError& error) {
      log_warn("an old checkpoint stays: ", error.what());
    }
    if (lies_there(all[i])) log_warn(all[i].string(), ": holds files that the run did not write; they stay");
  }
  return path;
}

TrainingOptions relocated(TrainingOptions before, const TrainingOptions& now) {
  const fs::path from = before.run.dir, to = now.run.dir;
  const auto relocate = [&](std::string& path, const std::string& here) {
    if (path.empty() || here.empty() || path == here) return;
    const fs::path relative = fs::path(path).lexically_relative(from);
    if (!relative.empty() && relative == fs::path(here).lexically_relative(to)) path = here;
  };
  relocate(before.policy.checkpoint, now.policy.checkpoint);
  relocate(before.policy.adapter, now.policy.adapter);
  relocate(before.policy.statistics, now.policy.statistics);
  relocate(before.reference.cache, now.reference.cache);
  const auto relocate_all = [&](std::vector<data::SourceOptions>& sources,
                                const std::vector<data::SourceOptions>& here) {
    if (sources.size() != here.size()) return;
    for (size_t i = 0; i < sources.size(); ++i) relocate(sources[i].path, here[i].path);
  };
  relocate_all(before.data.expert, now.data.expert);
  relocate_all(before.data.interactions, now.data.interactions);
  return before;
}

}  // namespace apo::training
