// Opening files to write in directories that others may have filled.
#pragma once

#include <filesystem>
#include <string>

namespace apo {

/// open(2) for writing with `flags`, such as O_CREAT | O_APPEND. A link is not followed, and a pipe that
/// nobody reads does not stop the program: both fail. RunError naming the path: "PATH: `failure`: reason".
int open_to_write(const std::filesystem::path& path, int flags, const char* failure);

/// The first bytes of a file, 64 KiB at most; none if it cannot be read.
std::string head_of(const std::filesystem::path& path);

}  // namespace apo
