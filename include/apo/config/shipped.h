// The configs that come with the programs, found by name: `--config tabletop`.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apo/config/options.h"

namespace apo::config {

/// Names of the shipped configs, sorted; empty where none are installed beside the library.
std::vector<std::string> shipped_configs();

/// The file of the shipped config of that name; nothing where there is none.
std::optional<std::filesystem::path> shipped_config(const std::string& name);

/// What relative paths in a shipped config are relative to: as if it lay there, wherever it is installed.
inline constexpr const char* kShippedBase = "configs";

/// `file_or_name` is a file, or the name of a shipped config ("tabletop"). A shipped config's relative paths
/// are as if it lay in ./configs, so that `runs/tabletop` lies in the working directory, wherever the config
/// is installed.
/// ConfigError as Document::from_file; where there is neither file nor name, it lists the names and suggests
/// one.
Document open_config(const std::string& file_or_name, const std::vector<std::string>& overrides = {});

}  // namespace apo::config
