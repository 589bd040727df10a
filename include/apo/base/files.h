// Files that are whole or absent: atomic writes, directories committed with a DONE mark, one process a
// directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace apo {

/// The whole file as bytes. DataError naming the path if it cannot be read.
std::string read_file(const std::filesystem::path& path);

/// Writes `bytes` to a temporary neighbour, syncs it and renames it over `path`.
/// RunError naming the path and the system's reason (disk full, no permission); `path` is then unchanged.
void write_file_atomic(const std::filesystem::path& path, std::string_view bytes);

/// Fills a directory through `fill(staging directory)`, syncs its files, adds the mark `DONE`, which names
/// them, and renames it to `path`: a free one, or one with nothing beside what its mark names. A throw leaves
/// all as it was (RunError).
void write_directory_atomic(const std::filesystem::path& path,
                            const std::function<void(const std::filesystem::path& staging)>& fill);
/// True if `path` is a directory that was committed whole.
bool is_whole_directory(const std::filesystem::path& path);

/// Holds a directory for this process (an advisory lock on `path`/.lock) until destroyed.
class DirectoryLock {
 public:
  /// Creates the directory if needed. RunError if another process holds it, naming its pid, or it is not
  /// writable.
  explicit DirectoryLock(const std::filesystem::path& path);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  int descriptor_ = -1;
};

/// Appends lines to a file (JSON lines); every `append` reaches the operating system before it returns.
class LineWriter {
 public:
  /// `truncate_to_bytes` >= 0 first cuts the file to that size (resuming after a crash); a file that
  /// is already shorter is kept, with a warning.
  explicit LineWriter(const std::filesystem::path& path, int64_t truncate_to_bytes = -1);
  ~LineWriter();
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;
  void append(std::string_view line);
  /// Bytes in the file, including what was there before.
  int64_t size() const { return size_; }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

}  // namespace apo
