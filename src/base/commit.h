// The commit that was built; its definition is written by the build (cmake/ApoCommit.cmake).
#pragma once

#include <string_view>

namespace apo {

/// "8bcf3e61d2aa", with "-dirty" where files differed from it; "unknown" outside of a git work tree.
std::string_view built_commit();

}  // namespace apo
