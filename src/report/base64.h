// Bytes as text, for pictures inside a page.
#pragma once

#include <string>
#include <string_view>

namespace apo::report {

/// The bytes in base64 (RFC 4648, with padding, one line).
std::string base64(std::string_view bytes);

}  // namespace apo::report
