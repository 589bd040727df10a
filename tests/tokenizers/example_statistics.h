// Statistics of three numbers: q01..q99 of 2 and of 10, and a gripper that stays as it is.
#pragma once

#include "apo/tokenizers/statistics.h"

namespace apo::tokenizers::testing {

inline VectorStatistics example() {
  return {.mean = {0, 0, 0},
          .std = {1, 1, 1},
          .min = {-2, 0, -1},
          .max = {2, 10, 1},
          .q01 = {-1, 0, 0},
          .q99 = {1, 10, 1},
          .mask = {true, true, false}};
}

}  // namespace apo::tokenizers::testing
