// What belongs to a run, wherever its directory was moved.
#pragma once

#include <filesystem>
#include <string>

#include "apo/training/options.h"

namespace apo::training {

/// The options that a run was begun with as they read now: where its directory, and what a path in them leads
/// to from there, were moved together, the paths of `now`.
TrainingOptions relocated(TrainingOptions before, const TrainingOptions& now);

/// True for the names that runs write, relative to run.dir: for directories from before there were manifests.
/// What lies in a checkpoints/step-N counts where a state.json does, too: other programs call theirs so.
bool is_run_file(const std::filesystem::path& run_dir, const std::string& name, bool is_link);

}  // namespace apo::training
