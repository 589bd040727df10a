// May a loop begin or go on in a directory, and with which of today's options.
#pragma once

#include <filesystem>
#include <string>

#include "apo/loop/refine.h"

namespace apo::loop {

/// Decides what happens to a directory that is already used; afterwards config.yaml lies in it. ConfigError
/// for one that is used and may not be, for files of others that would be replaced, and for a loop that was
/// begun with another config, naming the keys.
void open_directory(const std::filesystem::path& dir, training::ExistingRun existing,
                    const RefineSetup& setup, const std::string& config_yaml);

}  // namespace apo::loop
