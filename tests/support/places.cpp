#include "support/places.h"

namespace apo::testing {

std::string in_source(const std::string& path) { return APO_SOURCE_DIR "/" + path; }
std::string in_build(const std::string& path) { return APO_BINARY_DIR "/" + path; }
std::string test_data(const std::string& path) { return APO_TEST_DATA "/" + path; }

}  // namespace apo::testing
