// Where this library lies on disk, so that what is installed beside it is found wherever the installation was
// put.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>

namespace apo {

/// The library or program that contains this code, symbolic links resolved.
const std::filesystem::path& own_file();

/// The first of the paths, relative to the directory of `own_file()`, that exists.
std::optional<std::string> find_beside(std::initializer_list<std::string> relative_paths);

/// The loaded library or program that `symbol` (the address of a function or object) belongs to, links
/// resolved.
std::filesystem::path file_of(const void* symbol);

}  // namespace apo
