// What pi0-FAST is told beside its pictures: the task, and the state as numbers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace apo::models {

enum class Pi0FastDialect { openpi, lerobot };

/// The task as it stands in the prompt: blanks cut off both ends and "_" as a space; openpi's in lower case,
/// LeRobot's with line feeds as spaces.
std::string task_text(std::string_view instruction, Pi0FastDialect dialect);

/// The bins of normalised numbers: 256 of width 1/128 from -1 on; below it -1, and the last one from there
/// on. Source  numpy.digitize(x, linspace(-1, 1, 257)[:-1]) - 1
std::vector<int64_t> state_bins(const std::vector<double>& normalized);

/// "Task: {task}, State: {bins};\n".
std::string prompt_text(const std::string& task, const std::vector<int64_t>& bins);

}  // namespace apo::models
