// What a signal waits for, what it removes, and the end of a program whose work does not ask whether one
// arrived.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "apo/base/interrupt.h"

namespace apo {

/// From now on SIGINT, SIGTERM and SIGHUP (unless ignored, as nohup has it) set a flag. What has not ended
/// within a second is ended with exit code 130, unless something is `Finishing`: then `program` says what,
/// and goes on. A second signal ends the process at once. Either way what is `Unfinished` is removed.
void catch_interrupts(const std::string& program);

/// While one lives, a signal waits for its work, which asks `interrupted` itself and saves.
class Finishing {
 public:
  /// `what`, as the user is told: "the step, and saving a checkpoint".
  explicit Finishing(const std::string& what);
  ~Finishing();
  Finishing(const Finishing&) = delete;
  Finishing& operator=(const Finishing&) = delete;

 private:
  int64_t id_;
};

/// A file or directory that is being written under a temporary name: a process that a signal ends removes it.
class Unfinished {
 public:
  explicit Unfinished(const std::filesystem::path& path);
  ~Unfinished();
  /// Runs `last`, which gives it its name: no signal removes the path meanwhile, nor from then on.
  void finish(const std::function<void()>& last);
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;

 private:
  int64_t id_;
};

}  // namespace apo
