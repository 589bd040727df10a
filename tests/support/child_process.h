// Runs a function in a forked process, for what one process cannot show: locks, signals, privileges, sudden
// death.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace apo::testing {

/// The exit code of a child that runs `body` and ends without cleaning up; -1 if it was killed by a signal,
/// 99 if `body` threw.
inline int exit_code_of_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 99;
    try {
      code = body();
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace apo::testing
