// Opening files to write in directories that others may have filled.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace apo {

/// open(2) for writing with `flags`, such as O_CREAT | O_APPEND. A link is not followed, and a pipe that
/// nobody reads does not stop the program: both fail. RunError naming the path: "PATH: `failure`: reason".
int open_to_write(const std::filesystem::path& path, int flags, const char* failure);

/// write(2) of all of `rest`, which is what is left of it where that fails. RunError naming `path`.
void write_all(int descriptor, std::string_view& rest, const std::filesystem::path& path);

/// flock(2) with `operation` (LOCK_EX or LOCK_SH), asked for again for half a second while another process
/// holds it: one that was killed may leave a child that for a moment holds what it held. False, with errno,
/// without it.
bool take_lock(int descriptor, int operation);

/// The first bytes of a file, 64 KiB at most; none if it cannot be read.
std::string head_of(const std::filesystem::path& path);

}  // namespace apo
