// Which release this is.
#pragma once

#include <string_view>

namespace apo {

/// "MAJOR.MINOR.PATCH".
std::string_view version();

}  // namespace apo
