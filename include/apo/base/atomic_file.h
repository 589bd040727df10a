// A file written piece by piece that appears whole or not at all.
#pragma once

#include <filesystem>
#include <string_view>

#include "apo/base/finishing.h"

namespace apo {

/// Writes to a temporary neighbour (`path`.partial); `commit` syncs it and renames it over `path`. Without `commit` the
/// neighbour is removed and `path` is as it was. A link at either name is replaced, never followed.
///
/// Errors  RunError naming the path and the system's reason (disk full, no permission)
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
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
