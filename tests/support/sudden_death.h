// A process that is killed, or finds the disk full, at the n-th point at which it changes files.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

namespace apo::testing {

/// What happens at point `at`, and from then on, to the process `who`; no other process is touched. A point
/// is a call of write, rename, unlink, remove, ftruncate or posix_fallocate; a write has a second one in its
/// middle.
struct Fate {
  enum What { nothing, death, full_disk };
  std::atomic<What> what{nothing};
  std::atomic<int> left{0};
  std::atomic<pid_t> who{0};

  void set(What w, int at) {
    left = at;
    who = ::getpid();
    what = w;
  }
  /// True where the disk is full; does not return where the process is killed.
  bool point() {
    if (what == nothing || who != ::getpid() || left.fetch_sub(1) > 0) return false;
    if (what == death) ::kill(::getpid(), SIGKILL);
    left = 0;
    return true;
  }
};
inline Fate fate;

}  // namespace apo::testing

// In place of the C library's, for the whole program: include this in one source of a test.
extern "C" {
ssize_t write(int descriptor, const void* bytes, size_t length) {
  if (apo::testing::fate.point()) {
    errno = ENOSPC;
    return -1;
  }
  if (length > 1 && apo::testing::fate.what != apo::testing::Fate::nothing) {
    const ssize_t half = ::syscall(SYS_write, descriptor, bytes, length / 2);
    apo::testing::fate.point();
    return half;  // the caller goes on
  }
  return ::syscall(SYS_write, descriptor, bytes, length);
}
int rename(const char* from, const char* to) noexcept {
  apo::testing::fate.point();
  return static_cast<int>(::syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to));
}
int unlink(const char* path) noexcept {
  apo::testing::fate.point();
  return static_cast<int>(::syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}
int remove(const char* path) noexcept {
  apo::testing::fate.point();
  const auto result = static_cast<int>(::syscall(SYS_unlinkat, AT_FDCWD, path, 0));
  if (result == 0 || errno != EISDIR) return result;
  return static_cast<int>(::syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR));
}
int ftruncate(int descriptor, off_t length) noexcept {
  apo::testing::fate.point();
  return static_cast<int>(::syscall(SYS_ftruncate, descriptor, length));
}
int posix_fallocate(int descriptor, off_t offset, off_t length) {
  if (apo::testing::fate.point()) return ENOSPC;
  return ::syscall(SYS_fallocate, descriptor, 0, offset, length) == 0 ? 0 : errno;
}
}
