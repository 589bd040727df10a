// Which release this is.
#pragma once

#include <string_view>

/// Of these headers, as `version()` is of the library; what is compiled against the one must run with the
/// other.
#define APO_HEADERS_VERSION "0.1.0"

namespace apo {

/// "MAJOR.MINOR.PATCH".
std::string_view version();

}  // namespace apo
