// run.dir: held by one process, never overwritten silently.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "apo/base/files.h"
#include "apo/training/trainer.h"

namespace apo::training {

class RunDirectory {
 public:
  /// Takes the directory. ConfigError if it is used and `existing` is refuse; RunError if another process
  /// holds it or it is not writable. Nothing is removed or written yet.
  RunDirectory(const std::filesystem::path& path, ExistingRun existing);

  /// The checkpoint to go on from; none when the run begins (also one that stopped before its first
  /// checkpoint).
  const std::optional<std::filesystem::path>& resume_from() const { return resume_from_; }
  /// Removes what an earlier run wrote (except on resuming) and writes config.yaml.
  void begin(const std::string& config_yaml);

  std::filesystem::path operator/(const char* name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::unique_ptr<DirectoryLock> lock_;
  std::optional<std::filesystem::path> resume_from_;
};

}  // namespace apo::training
