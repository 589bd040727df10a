// run.dir: held by one process, never overwritten silently, and nothing removed in it that a run did not
// write.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apo/base/files.h"
#include "apo/training/trainer.h"
#include "base/manifest.h"

namespace apo::training {

/// ConfigError unless `path` is a directory, or may become one. Nothing is written.
void check_run_directory(const std::filesystem::path& path);

class RunDirectory {
 public:
  /// Takes the directory. ConfigError if it is used and `existing` is refuse; if it holds checkpoints none of
  /// which is whole and `existing` is resume; if what would be removed or replaced is not named by its
  /// manifest. RunError if another process holds it or it is not writable. Nothing is removed or written yet.
  RunDirectory(const std::filesystem::path& path, ExistingRun existing);

  /// The checkpoint to go on from; none when the run begins, also where --resume found none.
  const std::optional<std::filesystem::path>& resume_from() const { return resume_from_; }
  /// Removes what an earlier run wrote and writes config.yaml. On resuming nothing is removed: without a
  /// checkpoint, what a run wrote from its first step on is moved to before-resume-N. A run from before
  /// manifests that goes on gets one. ConfigError if something else lies where the run would write.
  void begin(const std::string& config_yaml);

  /// As Manifest::claim.
  void claim(const std::filesystem::path& file);
  /// Empties the directory `name` of what was written into it, and lets `fill` write it anew. ConfigError if
  /// it holds anything else.
  void fill(const std::string& name, const std::function<void()>& fill);
  /// Lets `save` write checkpoints/step-`step`, and removes all but the `keep` newest whole ones (0: none);
  /// files of others in an old one stay, with a warning. Returns what `save` returns.
  std::filesystem::path checkpoint(int64_t step, int64_t keep,
                                   const std::function<std::filesystem::path()>& save);

  std::filesystem::path operator/(const char* name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  void check_before_removal() const;
  std::vector<std::string> to_be_removed() const;
  bool holds_steps() const;
  void put_aside();

  std::filesystem::path path_;
  ExistingRun existing_;
  std::unique_ptr<DirectoryLock> lock_;
  std::optional<Manifest> manifest_;
  std::optional<std::filesystem::path> resume_from_;
};

}  // namespace apo::training
