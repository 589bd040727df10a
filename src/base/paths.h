// What lies on the disk, asked without following links.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace apo {

/// The status of `path` itself; "not found" where it cannot be asked.
std::filesystem::file_status status_of(const std::filesystem::path& path);
/// True if anything has this name, also a link that leads nowhere.
bool lies_there(const std::filesystem::path& path);
/// The names in a directory, sorted; none where it cannot be read.
std::vector<std::string> names_in(const std::filesystem::path& directory);
/// Creates the directory and those above it. RunError naming it and the reason, which may be a file in the
/// way.
void make_directory(const std::filesystem::path& directory);

}  // namespace apo
