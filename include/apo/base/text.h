// What a text is made of.
#pragma once

#include <string_view>

namespace apo {

/// Whether the bytes are UTF-8: whole characters, none longer than it need be, no surrogates, nothing beyond U+10FFFF.
bool is_utf8(std::string_view text);

}  // namespace apo
