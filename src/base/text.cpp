#include "apo/base/text.h"

#include <cstddef>
#include <cstdint>

#include "apo/base/error.h"

namespace apo {
namespace {

// Bytes of the character that begins with `lead`; 0 for what begins none.
size_t character_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte < 0x80) return 1;
  if (byte >= 0xc2 && byte < 0xe0) return 2;
  if (byte >= 0xe0 && byte < 0xf0) return 3;
  return byte >= 0xf0 && byte < 0xf5 ? 4 : 0;
}

struct Character {
  size_t length = 0;  ///< in bytes; 0: none that is whole and well-formed
  uint32_t point = 0;
};

Character first_character(std::string_view text) {
  const size_t length = character_length(text[0]);
  if (length == 0 || length > text.size()) return {};
  const auto lead = static_cast<unsigned char>(text[0]);
  uint32_t point = length == 1 ? lead : lead & (0xffu >> (length + 1));
  for (size_t j = 1; j < length; ++j) {
    const auto next = static_cast<unsigned char>(text[j]);
    if ((next & 0xc0) != 0x80) return {};
    point = point << 6 | (next & 0x3f);
  }
  const bool overlong = (length == 3 && point < 0x800) || (length == 4 && point < 0x10000);
  if (overlong || (point >= 0xd800 && point < 0xe000) || point > 0x10ffff) return {};
  return {length, point};
}

// Moves the cursor, breaks lines or turns the direction of writing.
bool acts_on_a_terminal(uint32_t point) {
  return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x61c || point == 0x200e ||
         point == 0x200f || (point >= 0x2028 && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069);
}

std::string hexadecimal(uint32_t value, int digits) {
  std::string text;
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) text += "0123456789abcdef"[value >> shift & 0xf];
  return text;
}

}  // namespace

size_t character_size(std::string_view text) { return text.empty() ? 0 : first_character(text).length; }

size_t utf8_size(std::string_view text) {
  size_t size = 0;
  while (const size_t length = character_size(text.substr(size))) size += length;
  return size;
}

bool is_utf8(std::string_view text) { return utf8_size(text) == text.size(); }

std::string shortened(std::string_view text, size_t longest) {
  constexpr std::string_view kLeftOut = "...";
  if (text.size() <= longest) return std::string(text);
  text = text.substr(0, longest - kLeftOut.size());
  return concat(text.substr(0, text.size() - unfinished_character(text)), kLeftOut);
}

std::string printable(std::string_view text, NewLines lines) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Character character = first_character(text);
    const char c = text[0];
    if (character.length == 0)
      out += concat("\\x", hexadecimal(static_cast<unsigned char>(c), 2));
    else if (!acts_on_a_terminal(character.point) || (lines == NewLines::kept && (c == '\n' || c == '\t')))
      out += text.substr(0, character.length);
    else if (c == '\n' || c == '\r' || c == '\t')
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    else
      out += concat("\\u", hexadecimal(character.point, 4));
    text.remove_prefix(character.length == 0 ? 1 : character.length);
  }
  return out;
}

size_t unfinished_character(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const char lead = text[text.size() - back];
    if ((static_cast<unsigned char>(lead) & 0xc0) == 0x80) continue;
    return character_length(lead) > back ? back : 0;
  }
  return 0;
}

}  // namespace apo
