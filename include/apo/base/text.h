// What a text is made of.
#pragma once

#include <ranges>
#include <string>
#include <string_view>

namespace apo {

/// The words, of which none is empty, with `separator` between them.
template <std::ranges::input_range Words>
std::string join(const Words& words, std::string_view separator = ", ") {
  std::string all;
  for (const auto& word : words) {
    if (!all.empty()) all += separator;
    all += word;
  }
  return all;
}

/// Whether the bytes are UTF-8: whole characters, none longer than it need be, no surrogates, nothing beyond
/// U+10FFFF.
bool is_utf8(std::string_view text);
/// Whether a byte of UTF-8 begins a character: counting these counts characters.
constexpr bool begins_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }
/// Where the first byte stands that belongs to no such character; the size of the text if all do.
size_t utf8_size(std::string_view text);
/// Bytes of the character that `text` begins with, 0 if it begins with none.
size_t character_size(std::string_view text);
/// At most so many bytes (3 or more) of a text, "..." in place of what was left out; no character is cut.
std::string shortened(std::string_view text, size_t longest);

enum class NewLines { escaped, kept };
/// The text as it may stand on a terminal: what would move the cursor, begin an escape sequence, break the
/// line or turn the direction of writing is shown, not sent. "\n", "\r" and "\t" by these names, other
/// control characters and marks of direction as \u001b, bytes that are no UTF-8 as \xff. `kept` leaves line
/// feeds and tabs alone. Text from a file goes through here before people see it; log lines, messages and
/// standard output of the programs do as a whole.
std::string printable(std::string_view text, NewLines lines = NewLines::escaped);
/// Bytes at the end of `text` that begin a character which goes on behind it (0 to 3).
size_t unfinished_character(std::string_view text);

}  // namespace apo
