// What lies on the disk, asked without following links, and giving what was written its place.
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
/// The directory that `path` lies in; "." for a bare name.
std::filesystem::path parent_of(const std::filesystem::path& path);

/// Flushes a file or directory to the disk. RunError naming it and the reason.
void sync_to_disk(const std::filesystem::path& path);
enum class Sync { yes, no };
/// Renames `partial`, which was written whole, over `path`; `Sync::yes`: flushed to the disk before, and its
/// directory after. RunError naming `path` and the reason.
void put_in_place(const std::filesystem::path& partial, const std::filesystem::path& path,
                  Sync sync = Sync::yes);
/// Makes `link` one to `target`, at once: nobody sees none. RunError naming it and the reason, such as a
/// directory in the way.
void replace_link(const std::filesystem::path& link, const std::filesystem::path& target);

}  // namespace apo
