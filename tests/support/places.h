// Where the tests find what they read. The directories are linked in rather than compiled in, so that a
// compiler cache serves a clone elsewhere.
#pragma once

#include <string>

namespace apo::testing {

/// A path below the source tree ("tests/data/goldens/..."); "" is the tree itself.
std::string in_source(const std::string& path);
/// A path below the build directory.
std::string in_build(const std::string& path);
/// A path below the directory that the CMake variable APO_TEST_DATA names.
std::string test_data(const std::string& path);

}  // namespace apo::testing
