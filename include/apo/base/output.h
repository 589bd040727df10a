// Files that programs are told to write: looked at before the work begins, and replaced only by their own
// kind.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace apo {

/// What an earlier file must be to be replaced.
struct OutputKind {
  std::string name;                               ///< "the label lines of apo-data label"
  std::function<bool(std::string_view)> is_this;  ///< by the first bytes of the file, 64 KiB at most
};
/// JSON objects, one a line, of which the first has this key.
OutputKind json_lines(const std::string& name, const std::string& key);
/// A JSON object in which this key occurs.
OutputKind json_object(const std::string& name, const std::string& key);
/// Text that begins like this.
OutputKind text_beginning(const std::string& name, const std::string& beginning);
OutputKind webp_picture();
OutputKind hdf5_file();
/// What a killed process left of a file with these bytes: it begins alike, as far as it got.
OutputKind begun_like(std::string_view bytes);

/// ConfigError, which begins with `option`, unless nothing lies at `path`, or an empty file, or one of this
/// kind: links, directories and devices are not replaced.
void check_kind(const std::string& option, const std::filesystem::path& path, const OutputKind& kind);
/// The same of `path`.partial, too; and RunError if no file can be written there. Creates the directories
/// above it.
void check_output(const std::string& option, const std::filesystem::path& path, const OutputKind& kind);

/// RunError naming the path and the reason if no file can be written there: also where `path`.partial is
/// neither empty nor `leftover`, of a killed process. Creates the directories above it.
void check_writable(const std::filesystem::path& path, const OutputKind& leftover = hdf5_file());

/// Files of an existing directory that its mark `DONE` does not name: not written with it, and lost if it
/// were replaced.
std::vector<std::string> files_not_marked(const std::filesystem::path& directory);

}  // namespace apo
