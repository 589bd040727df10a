// Files in memory, and what may become of them while they are used.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <vector>

namespace apo::models {

/// A file in memory, pages fetched when touched; changes stay private to the process.
///
/// Where the file shrinks, or its disk fails, the system can give no page any more: the program then says
/// which file it was and ends with the exit code for wrong data, in place of a bus error.
class MappedFile {
 public:
  /// DataError naming the path: a directory, not readable, no memory.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  char* bytes() const { return bytes_; }
  uint64_t size() const { return size_; }

 private:
  friend class MappedFiles;
  std::filesystem::path path_;
  int descriptor_ = -1;
  char* bytes_ = nullptr;
  uint64_t size_ = 0;
  struct stat known_ = {};
  size_t guarded_ = 0;
};

enum class FileChange {
  written,    ///< its times of change are others: what it holds may be, too
  truncated,  ///< shorter than what is mapped: not to be read
  replaced    ///< the path leads to another file
};

struct ChangedFile {
  std::filesystem::path path;
  FileChange change;
};

/// The mapped files, of all that live in this process, that are not as they were when they were mapped (or
/// last accepted). Asks the file system alone. A file that was removed is not among them: the mapping keeps
/// it.
std::vector<ChangedFile> changed_mapped_files();
/// Takes the files as they are now.
void accept_mapped_files();

}  // namespace apo::models
