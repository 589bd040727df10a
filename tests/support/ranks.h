// Ranks of a group as forked processes of a test.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <functional>
#include <vector>

#include "apo/distributed/group.h"
#include "support/listening_port.h"

namespace apo::testing {

/// The exit codes of `size` processes, in each of which `body` runs with its group: what it says, but 1 where
/// an expectation failed, and 99 where it threw; -N if signal N ended it.
inline std::vector<int> run_ranks(int64_t size, const std::function<int(distributed::Group&)>& body,
                                  const distributed::DistributedOptions& options = {.timeout_seconds = 60}) {
  const int64_t port = free_port();
  std::vector<pid_t> children;
  std::fflush(nullptr);  // what is not yet written would be written by each
  for (int64_t rank = 0; rank < size; ++rank) {
    const pid_t child = ::fork();
    children.push_back(child);
    if (child != 0) continue;
    int code = 99;
    try {
      distributed::Group group(
          {.rank = rank, .size = size, .local_rank = rank, .address = "127.0.0.1", .port = port}, options);
      code = body(group);
      if (::testing::Test::HasFailure()) code = 1;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "rank %d: %s\n", static_cast<int>(rank), error.what());
    }
    std::fflush(nullptr);
    ::_exit(code);
  }
  std::vector<int> codes;
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    codes.push_back(WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  }
  return codes;
}

}  // namespace apo::testing
