// What a clone without Git LFS, or a half-finished download, leaves in place of a large file.
#pragma once

#include <filesystem>
#include <string_view>

#include "apo/base/error.h"

namespace apo {

/// Whether a file that begins so is no file of weights, tokens or pictures but Git LFS's note of where it
/// lies.
inline bool is_lfs_pointer(std::string_view begin) {
  return begin.starts_with("version https://git-lfs.github.com/spec/");
}

/// DataError that says what is to be done if the file, which begins with `begin`, is such a pointer.
inline void refuse_lfs_pointer(const std::filesystem::path& path, std::string_view begin) {
  APO_CHECK(DataError, !is_lfs_pointer(begin), path.string(),
            ": found a Git LFS pointer (a note of where the file lies) in place of the file; fetch it with "
            "`git lfs pull` in the clone that it comes from, or download the file itself");
}

}  // namespace apo
