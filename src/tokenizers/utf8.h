// Whether a text is well-formed UTF-8.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace apo::tokenizers {

/// The position of the first byte that is not UTF-8 (overlong forms and surrogates included); nothing if all is well.
std::optional<size_t> first_invalid_utf8(std::string_view text);

}  // namespace apo::tokenizers
