// What a robot is told while nobody moves it.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "apo/base/types.h"

namespace apo::serving {

/// `idle` (serve.idle; empty: zeros) in `last`'s size, with its grippers: what a gripper holds is not
/// dropped.
inline Action held_still(std::span<const float> idle, std::span<const int64_t> grippers, const Action& last) {
  Action still(idle.begin(), idle.end());
  still.resize(last.size(), 0.0f);
  for (const int64_t d : grippers) still[static_cast<size_t>(d)] = last[static_cast<size_t>(d)];
  return still;
}

/// Milliseconds since 1970, `age` ago.
inline double wall_clock_ms(std::chrono::steady_clock::duration age = {}) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(now - age).count();
}

}  // namespace apo::serving
