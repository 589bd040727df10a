#include "apo/base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <system_error>
#include <vector>

#include "apo/base/atomic_file.h"
#include "apo/base/error.h"
#include "apo/base/finishing.h"
#include "apo/base/log.h"
#include "apo/base/output.h"
#include "base/open_file.h"
#include "base/paths.h"

namespace apo {
namespace {

namespace fs = std::filesystem;

std::string reason() { return strerror(errno); }

constexpr const char* kMark = "DONE";
constexpr const char* kBegun = ".apo-unfinished";  // in a staging directory of ours
constexpr size_t kHeadBytes = size_t{64} << 10;

fs::path partial_of(const fs::path& path) { return path.string() + ".partial"; }

void check_replaceable(const fs::path& path) {
  const fs::file_status status = status_of(path);
  APO_CHECK(RunError, !fs::exists(status) || fs::is_regular_file(status) || fs::is_symlink(status),
            path.string(), ": cannot replace: it is a directory or a device");
}

// RunError if `partial` is there and not what a killed process left.
void check_leftover(const fs::path& partial, const std::function<bool(std::string_view)>& is_ours) {
  const fs::file_status status = status_of(partial);
  if (!fs::exists(status)) return;
  std::error_code ignored;
  const bool ours = fs::is_regular_file(status) &&
                    (fs::is_empty(partial, ignored) || (is_ours != nullptr && is_ours(head_of(partial))));
  APO_CHECK(RunError, ours, partial.string(), ": in the way, and not what an interrupted program left ",
            fs::is_symlink(status) ? "(it is a link)" : "of this file",
            "; nothing was written. Move it away");
}

// The name that `path` is written under, free for it.
fs::path free_neighbor(const fs::path& path, const std::function<bool(std::string_view)>& is_ours) {
  check_replaceable(path);
  const fs::path partial = partial_of(path);
  check_leftover(partial, is_ours);
  ::unlink(partial.c_str());
  return partial;
}

// Files and links below a directory, relative to it.
std::vector<std::string> files_below(const fs::path& directory) {
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory))
    if (entry.is_symlink() || !entry.is_directory())
      files.push_back(entry.path().lexically_relative(directory).string());
  std::erase(files, kBegun);
  std::ranges::sort(files);
  return files;
}

// What a killed process left; RunError for a directory of somebody else's.
void remove_staging(const fs::path& staging) {
  const fs::file_status status = status_of(staging);
  if (!fs::exists(status)) return;
  // an empty one, too: of a process that was killed before it could write kBegun
  const bool ours =
      fs::is_directory(status) && (lies_there(staging / kBegun) || files_not_marked(staging).empty());
  APO_CHECK(
      RunError, ours, staging.string(),
      ": in the way, and not begun by this program; expected nothing there, or what an interrupted run left");
  fs::remove_all(staging);
}

// Removes what the mark of an earlier directory names; RunError if there is anything else.
void remove_whole(const fs::path& path) {
  const fs::file_status status = status_of(path);
  if (!fs::exists(status)) return;
  APO_CHECK(RunError, fs::is_directory(status), path.string(),
            ": expected a directory to replace, found something else");
  for (const std::string& file : files_not_marked(path))
    throw RunError(
        concat(path.string(), ": holds ", file,
               ", which was not written with it, so it is not replaced; move it away, or write elsewhere"));
  fs::remove(path / kMark);  // first: what is half removed is not whole
  fs::remove_all(path);
}

}  // namespace

std::vector<std::string> files_not_marked(const fs::path& path) {
  std::set<std::string> named = {kMark};
  if (fs::is_regular_file(status_of(path / kMark))) {
    std::istringstream lines(read_file(path / kMark));
    for (std::string line; std::getline(lines, line);) named.insert(line);
  }
  std::vector<std::string> files = files_below(path);
  std::erase_if(files, [&](const std::string& file) { return named.contains(file); });
  return files;
}

int open_to_write(const fs::path& path, int flags, const char* failure) {
  const int descriptor = ::open(path.c_str(), flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
  APO_CHECK(RunError, descriptor >= 0, path.string(), ": ", failure, ": ",
            errno == ELOOP ? "it is a link, which is not followed" : reason());
  return descriptor;
}

void write_all(int descriptor, std::string_view& rest, const fs::path& path) {
  while (!rest.empty()) {
    const ssize_t n = ::write(descriptor, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    APO_CHECK(RunError, n > 0, path.string(), ": cannot write: ", reason());
    rest.remove_prefix(static_cast<size_t>(n));
  }
}

bool take_lock(int descriptor, int operation) {
  constexpr int kTries = 50;
  constexpr useconds_t kWait = 10'000;
  for (int i = 0;; ++i) {
    if (::flock(descriptor, operation | LOCK_NB) == 0) return true;
    if (errno != EWOULDBLOCK || i == kTries) return false;
    ::usleep(kWait);
  }
}

std::string head_of(const fs::path& path) {
  std::string head(kHeadBytes, '\0');
  std::ifstream in(path, std::ios::binary);
  in.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(in.gcount()));
  return head;
}

void check_writable(const fs::path& path, const OutputKind& leftover) {
  make_directory(parent_of(path));
  check_replaceable(path);
  check_leftover(partial_of(path), leftover.is_this);
  // under a name of its own: another process may be writing the partial file
  fs::path probe = path.string() + ".check";
  for (int i = 1; lies_there(probe); ++i) probe = concat(path.string(), ".check-", i);
  const Unfinished unfinished(probe);
  const int descriptor = ::open(probe.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  APO_CHECK(RunError, descriptor >= 0, path.string(), ": cannot create a file there: ", reason());
  ::close(descriptor);
  ::unlink(probe.c_str());
}

std::string read_file(const fs::path& path) {
  std::error_code ignored;
  APO_CHECK(DataError, !fs::is_directory(path, ignored), path.string(),
            ": expected a file, found a directory");
  std::ifstream in(path, std::ios::binary);
  APO_CHECK(DataError, in.good(), path.string(), ": cannot open: ", reason());
  std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  APO_CHECK(DataError, !in.bad(), path.string(), ": cannot read: ", reason());
  return bytes;
}

AtomicFile::AtomicFile(const fs::path& path, const std::function<bool(std::string_view)>& is_ours)
    : path_(path), temporary_(free_neighbor(path, is_ours)), unfinished_(temporary_) {
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  APO_CHECK(RunError, descriptor_ >= 0, path.string(), ": cannot create ", temporary_.filename().string(),
            ": ", reason());
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view bytes) { write_all(descriptor_, bytes, path_); }

void AtomicFile::commit() {
  APO_CHECK(RunError, ::fsync(descriptor_) == 0, path_.string(), ": cannot sync to disk: ", reason());
  APO_CHECK(RunError, ::rename(temporary_.c_str(), path_.c_str()) == 0, path_.string(),
            ": cannot replace: ", reason());
  ::close(descriptor_);
  descriptor_ = -1;
  sync_to_disk(parent_of(path_));
}

void write_file_atomic(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path, begun_like(bytes).is_this);
  file.write(bytes);
  file.commit();
}

void write_directory_atomic(const fs::path& target, const std::function<void(const fs::path&)>& fill) {
  const fs::path path = target.has_filename() ? target : target.parent_path();  // "step-1/" is "step-1"
  const fs::path staging = path.string() + ".partial";
  remove_staging(staging);
  Unfinished unfinished(staging);
  try {
    fs::create_directories(staging);
    std::ofstream(staging / kBegun).flush();
    fill(staging);
    for (const auto& entry : fs::recursive_directory_iterator(staging)) sync_to_disk(entry.path());
    std::string names;
    for (const std::string& file : files_below(staging)) names += file + "\n";
    write_file_atomic(staging / kMark, names);
    fs::remove(staging / kBegun);
    unfinished.finish([&] {
      remove_whole(path);
      fs::rename(staging, path);
    });
    sync_to_disk(parent_of(path));
  } catch (const fs::filesystem_error& error) {
    std::error_code ignored;
    fs::remove_all(staging, ignored);
    throw RunError(concat(path.string(), ": cannot write directory: ", error.code().message()));
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(staging, ignored);
    throw;
  }
}

bool is_whole_directory(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored) && fs::exists(path / kMark, ignored);
}

DirectoryLock::DirectoryLock(const fs::path& path) {
  make_directory(path);
  const fs::path file = path / ".lock";
  descriptor_ = open_to_write(file, O_RDWR | O_CREAT, "expected a writable directory");
  if (!take_lock(descriptor_, LOCK_EX)) {
    char holder[16] = {};
    const ssize_t n = ::pread(descriptor_, holder, sizeof(holder) - 1, 0);
    ::close(descriptor_);
    descriptor_ = -1;
    throw RunError(
        concat(path.string(), ": in use by another process", n > 0 ? concat(" (pid ", holder, ")") : ""));
  }
  // for the message above: the lock is what counts, so a disk too full for the number is no error
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(descriptor_, 0) == 0 && ::pwrite(descriptor_, pid.data(), pid.size(), 0) < 0)
    log_debug(file.string(), ": cannot write the process id: ", reason());
}

DirectoryLock::~DirectoryLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

LineWriter::LineWriter(const fs::path& path, int64_t truncate_to_bytes) : path_(path) {
  descriptor_ = open_to_write(path, O_WRONLY | O_CREAT | O_APPEND, "cannot open for writing");
  struct stat status = {};
  ::fstat(descriptor_, &status);
  size_ = status.st_size;
  if (truncate_to_bytes > size_) {
    log_warn(path.string(), ": expected at least ", truncate_to_bytes, " bytes, found ", size_,
             "; lines were lost");
  }
  if (truncate_to_bytes >= 0 && truncate_to_bytes < size_) {
    APO_CHECK(RunError, ::ftruncate(descriptor_, truncate_to_bytes) == 0, path.string(),
              ": cannot cut: ", reason());
    size_ = truncate_to_bytes;
  }
}

LineWriter::~LineWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void LineWriter::append(std::string_view line) {
  const std::string whole = std::string(line) + '\n';
  std::string_view rest = whole;
  write_all(descriptor_, rest, path_);
  size_ += static_cast<int64_t>(whole.size());
}

}  // namespace apo
