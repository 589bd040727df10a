// A file written piece by piece that appears whole or not at all.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

#include "apo/base/finishing.h"

namespace apo {

/// Writes to a temporary neighbor (`path`.partial); `commit` syncs it and renames it over `path`. Without
/// `commit` the neighbor is removed and `path` is as it was. A link at `path` is replaced, never followed.
///
/// Errors  RunError naming the path and the system's reason (disk full, no permission), or the neighbor that
///         lies there already and is not what a killed process left
class AtomicFile {
 public:
  /// `is_ours` says by its first bytes (64 KiB at most) whether a neighbor was left by a killed process, and
  /// is replaced; an empty one is.
  explicit AtomicFile(const std::filesystem::path& path,
                      const std::function<bool(std::string_view)>& is_ours = nullptr);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::string_view bytes);
  void commit();

 private:
  std::filesystem::path path_, temporary_;
  Unfinished unfinished_;
  int descriptor_ = -1;
};

}  // namespace apo
