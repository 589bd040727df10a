#include "models/checkpoints/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <set>

#include "apo/base/error.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;

// What a signal handler can read: addresses of mappings and the paths to name. Slot 0 is never used.
constexpr size_t kMostGuarded = 4096, kLongestPath = 512;
struct Guarded {
  std::atomic<uintptr_t> begin = 0, end = 0;
  std::array<char, kLongestPath> path = {};
};
std::array<Guarded, kMostGuarded> guarded;
struct sigaction before_us;

void say(const char* text) {
  size_t length = ::strlen(text);
  while (length > 0) {
    const ssize_t n = ::write(STDERR_FILENO, text, length);
    if (n <= 0) return;
    text += n;
    length -= static_cast<size_t>(n);
  }
}

void on_bus_error(int signal, siginfo_t* info, void* context) {
  const uintptr_t address =
      info->si_code > 0 ? reinterpret_cast<uintptr_t>(info->si_addr) : 0;  // not from raise
  for (const Guarded& file : guarded) {
    if (address == 0 || address < file.begin.load() || address >= file.end.load()) continue;
    say("\nerror: ");
    say(file.path.data());
    say(": cannot be read any more: it was cut short, or its disk failed, while it was in use; expected the "
        "file as it was "
        "when it was opened\n");
    ::_exit(static_cast<int>(ExitCode::data));
  }
  if ((before_us.sa_flags & SA_SIGINFO) != 0 && before_us.sa_sigaction != nullptr)
    return before_us.sa_sigaction(signal, info, context);
  ::sigaction(SIGBUS, &before_us, nullptr);  // happens again, and is then theirs
}

void install_handler() {
  struct sigaction action = {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, &before_us);
}

bool same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

// All that live.
class MappedFiles {
 public:
  static MappedFiles& instance() {
    static auto* all = new MappedFiles;  // tensors may outlive everything else
    return *all;
  }

  void add(MappedFile& file) {
    const std::lock_guard lock(mutex_);
    static const bool installed = [] {
      install_handler();
      return true;
    }();
    (void)installed;
    files_.insert(&file);
    for (size_t i = 1; i < guarded.size() && file.bytes_ != nullptr; ++i) {
      if (guarded[i].begin.load() != 0) continue;
      ::strncpy(guarded[i].path.data(), file.path_.c_str(), kLongestPath - 1);
      guarded[i].end = reinterpret_cast<uintptr_t>(file.bytes_) + file.size_;
      guarded[i].begin = reinterpret_cast<uintptr_t>(file.bytes_);
      file.guarded_ = i;
      return;
    }
  }
  void remove(MappedFile& file) {
    const std::lock_guard lock(mutex_);
    files_.erase(&file);
    if (file.guarded_ == 0) return;
    guarded[file.guarded_].end = 0;
    guarded[file.guarded_].begin = 0;
  }

  std::vector<ChangedFile> changed() {
    const std::lock_guard lock(mutex_);
    std::vector<ChangedFile> found;
    for (const MappedFile* file : files_) {
      struct stat now = {}, there = {};
      if (::fstat(file->descriptor_, &now) != 0) continue;
      if (static_cast<uint64_t>(now.st_size) < file->size_)
        found.push_back({file->path_, FileChange::truncated});
      else if (::stat(file->path_.c_str(), &there) == 0 &&
               (there.st_ino != now.st_ino || there.st_dev != now.st_dev))
        found.push_back({file->path_, FileChange::replaced});
      else if (!same_time(now.st_mtim, file->known_.st_mtim) || now.st_size != file->known_.st_size ||
               (now.st_nlink > 0 && !same_time(now.st_ctim, file->known_.st_ctim)))  // removal sets it, too
        found.push_back({file->path_, FileChange::written});
    }
    std::ranges::sort(found, {}, &ChangedFile::path);
    return found;
  }
  void accept() {
    const std::lock_guard lock(mutex_);
    for (MappedFile* file : files_) ::fstat(file->descriptor_, &file->known_);
  }

 private:
  std::mutex mutex_;
  std::set<MappedFile*> files_;
};

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  std::error_code ignored;
  APO_CHECK(DataError, !fs::is_directory(path, ignored), path.string(),
            ": expected a file, found a directory");
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  APO_CHECK(DataError, descriptor_ >= 0, path.string(), ": cannot open: ", strerror(errno));
  if (::fstat(descriptor_, &known_) == 0 && S_ISREG(known_.st_mode))
    size_ = static_cast<uint64_t>(known_.st_size);
  void* address = size_ == 0 ? nullptr
                             : ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                                      descriptor_, 0);
  if (address == MAP_FAILED) {
    const std::string reason = strerror(errno);
    ::close(descriptor_);
    throw DataError(concat(path.string(), ": cannot map: ", reason));
  }
  bytes_ = static_cast<char*>(address);
  MappedFiles::instance().add(*this);
}

MappedFile::~MappedFile() {
  MappedFiles::instance().remove(*this);
  if (bytes_ != nullptr) ::munmap(bytes_, size_);
  ::close(descriptor_);
}

std::vector<ChangedFile> changed_mapped_files() { return MappedFiles::instance().changed(); }
void accept_mapped_files() { MappedFiles::instance().accept(); }

}  // namespace apo::models
