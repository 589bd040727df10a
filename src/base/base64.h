// Bytes as text: pictures inside a page, arrays inside JSON.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace apo {

/// The bytes in base64 (RFC 4648, with padding, one line).
std::string base64(std::string_view bytes);
/// The bytes of such a text; nothing for any other, one without its padding or with line breaks among them.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace apo
