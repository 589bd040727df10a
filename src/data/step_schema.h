// What every step of a trajectory file must agree on, and be in itself.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "apo/base/types.h"

namespace apo::data {

/// The names and sizes of a step; those of a file's first step hold for all of its steps.
struct StepSchema {
  int64_t action_size = 0;
  std::map<std::string, std::pair<int64_t, int64_t>> cameras;  ///< height, width
  std::map<std::string, int64_t> states;                       ///< count of numbers
  bool operator==(const StepSchema&) const = default;
};

StepSchema schema_of(const Observation& observation, size_t action_size);
/// "action [7], camera front 64x64, state joints [6]".
std::string to_text(const StepSchema& schema);
/// DataError naming `where` unless the file format can hold the step: finite numbers, plain names, [Y, X, 3]
/// uint8 pictures on the CPU, a take-over only at a step of the human.
void check_step(const Step& step, const std::string& where);

}  // namespace apo::data
