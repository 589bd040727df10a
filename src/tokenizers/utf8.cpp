#include "tokenizers/utf8.h"

namespace apo::tokenizers {
namespace {

// Bytes of a character that begins with `first`; 0: none does.
int length_from(unsigned char first) {
  if (first < 0x80) return 1;
  if (first < 0xC2) return 0;
  if (first < 0xE0) return 2;
  if (first < 0xF0) return 3;
  return first < 0xF5 ? 4 : 0;
}

unsigned char first_byte(const Utf8Pending& pending) {
  return static_cast<unsigned char>(pending.bytes >> (8 * (pending.size - 1)));
}

// The second byte excludes what would be too long, a surrogate or beyond U+10FFFF.
bool may_follow(const Utf8Pending& pending, unsigned char byte) {
  unsigned char low = 0x80, high = 0xBF;
  if (pending.size == 1) {
    switch (first_byte(pending)) {
      case 0xE0:
        low = 0xA0;
        break;
      case 0xED:
        high = 0x9F;
        break;
      case 0xF0:
        low = 0x90;
        break;
      case 0xF4:
        high = 0x8F;
        break;
      default:
        break;
    }
  }
  return low <= byte && byte <= high;
}

}  // namespace

Utf8Step take_byte(Utf8Pending& pending, unsigned char byte, char32_t& character) {
  if (pending.size == 0) {
    const int length = length_from(byte);
    if (length == 0) return Utf8Step::invalid;
    if (length == 1) {
      character = byte;
      return Utf8Step::whole;
    }
    pending = {byte, 1};
    return Utf8Step::pending;
  }
  if (!may_follow(pending, byte)) return Utf8Step::invalid;
  const int length = length_from(first_byte(pending));
  pending = {(pending.bytes << 8) | byte, pending.size + 1};
  if (pending.size < length) return Utf8Step::pending;
  character = first_byte(pending) & (0xFFU >> (length + 1));
  for (int i = length - 2; i >= 0; --i) character = (character << 6) | ((pending.bytes >> (8 * i)) & 0x3F);
  pending = {};
  return Utf8Step::whole;
}

std::u32string from_utf8_lossy(std::string_view bytes) {
  std::u32string text;
  Utf8Pending pending;
  char32_t character = 0;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    Utf8Step step = take_byte(pending, byte, character);
    if (step == Utf8Step::invalid &&
        pending.size > 0) {  // what had begun ends here, and the byte begins anew
      text += kReplacementCharacter;
      pending = {};
      step = take_byte(pending, byte, character);
    }
    if (step == Utf8Step::whole) text += character;
    if (step == Utf8Step::invalid) text += kReplacementCharacter;
  }
  if (pending.size > 0) text += kReplacementCharacter;
  return text;
}

void append_utf8(std::string& text, char32_t character) {
  const auto put = [&text](char32_t byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (character < 0x80) {
    put(character);
  } else if (character < 0x800) {
    put(0xC0 | (character >> 6));
    put(0x80 | (character & 0x3F));
  } else if (character < 0x10000) {
    put(0xE0 | (character >> 12));
    put(0x80 | ((character >> 6) & 0x3F));
    put(0x80 | (character & 0x3F));
  } else {
    put(0xF0 | (character >> 18));
    put(0x80 | ((character >> 12) & 0x3F));
    put(0x80 | ((character >> 6) & 0x3F));
    put(0x80 | (character & 0x3F));
  }
}

}  // namespace apo::tokenizers
