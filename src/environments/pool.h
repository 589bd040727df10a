// Many environments, each stepped and drawn by the one thread that made it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "apo/environments/environment.h"

namespace apo::environments {

class EnvironmentPool {
 public:
  /// As many as `size`, or fewer where no more may live (EnvironmentSpec::instances). `threads` 0: all cores,
  /// or one for each where their number is limited, since those wait for others more than they work. What a
  /// factory throws is thrown here.
  EnvironmentPool(const EnvironmentOptions& options, int64_t size, int64_t threads);
  ~EnvironmentPool();
  EnvironmentPool(const EnvironmentPool&) = delete;
  EnvironmentPool& operator=(const EnvironmentPool&) = delete;

  int64_t size() const;
  /// work(i, environment i) for every i in `which`, in parallel; returns when all are done. Of several
  /// errors, that of the lowest i is thrown.
  void run(std::span<const int64_t> which, const std::function<void(int64_t, Environment&)>& work);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace apo::environments
