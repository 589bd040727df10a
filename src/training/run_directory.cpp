#include "training/run_directory.h"

#include <array>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/base/provenance.h"
#include "training/checkpoint.h"

namespace apo::training {
namespace {

namespace fs = std::filesystem;

// What a run writes; other files in the directory are somebody else's.
constexpr std::array<const char*, 10> kWritten = {
    "config.yaml", "metrics.jsonl",         "samples.jsonl", "tensorboard", "checkpoints",
    "labels.json", "heaviest_samples.json", "heaviest",      "cached_reference.safetensors", "report.html"};

}  // namespace

RunDirectory::RunDirectory(const fs::path& path, ExistingRun existing) : path_(path) {
  APO_CHECK(ConfigError, !path.empty(),
            "run.dir: expected a directory to write into, found none; set run.dir=DIR");
  std::error_code ignored;
  APO_CHECK(ConfigError, !fs::exists(path, ignored) || fs::is_directory(path, ignored),
            "run.dir: ", path.string(), ": expected a directory, found a file");
  lock_ = std::make_unique<DirectoryLock>(path);  // first: a run that goes on is told as such
  if (existing == ExistingRun::refuse)
    for (const char* name : kWritten)
      APO_CHECK(ConfigError, !fs::exists(path / name, ignored), "run.dir: ", path.string(),
                " holds an earlier run (", name, "); --resume goes on with it, --overwrite deletes it");
  if (existing != ExistingRun::resume) return;
  resume_from_ = newest_checkpoint(path);
  if (!resume_from_)
    log_warn("run.dir: ", path.string(), ": nothing to resume (",
             fs::exists(path / "config.yaml", ignored) ? "stopped before its first checkpoint" : "no run lies there",
             "); beginning anew");
}

void RunDirectory::begin(const std::string& config_yaml) {
  if (!resume_from_) {
    for (const char* name : kWritten) {
      std::error_code error;
      fs::remove_all(path_ / name, error);
      APO_CHECK(RunError, !error, (path_ / name).string(), ": cannot remove: ", error.message());
    }
  } else {
    // what a killed process left half-written
    std::error_code error;
    for (fs::directory_iterator entry(path_ / "checkpoints", error), end; !error && entry != end;
         entry.increment(error)) {
      std::error_code ignored;
      if (entry->path().extension() == ".partial") fs::remove_all(entry->path(), ignored);
    }
  }
  const fs::path config = path_ / "config.yaml";
  std::error_code ignored;
  const bool goes_on = resume_from_ && fs::is_regular_file(config, ignored);
  write_file_atomic(config, with_provenance(config_yaml, goes_on ? read_file(config) : ""));
}

}  // namespace apo::training
