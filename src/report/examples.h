// Trials in pictures: what was learned, and what still fails.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "report/loop_summary.h"

namespace apo::report {

/// The animations of the summary by kind and seed, each kind under how many trials there are of it and how
/// those that are shown were chosen. Missing files are named in `notes`.
std::string examples(const LoopSummary& summary, const std::filesystem::path& loop_dir,
                     std::vector<std::string>& notes);

}  // namespace apo::report
