#include "apo/base/version.h"

namespace apo {

static_assert(std::string_view(APO_VERSION) == APO_HEADERS_VERSION,
              "the version stands in CMakeLists.txt and version.h");

std::string_view version() { return APO_VERSION; }

}  // namespace apo
