// UTF-8 byte by byte, for bytes that come piece by piece and may be none.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace apo::tokenizers {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

/// The bytes of a character that has begun and is not whole yet; none between characters.
struct Utf8Pending {
  uint32_t bytes = 0;  ///< the first one highest
  int size = 0;
  bool operator==(const Utf8Pending&) const = default;
};

enum class Utf8Step { whole, pending, invalid };
/// Takes a byte. `whole`: `character` is complete and `pending` empty; `invalid`: the byte does not go on
/// what has begun (or begins nothing), and `pending` stays as it was.
Utf8Step take_byte(Utf8Pending& pending, unsigned char byte, char32_t& character);

/// The characters of a text, U+FFFD for each maximal part that begins a character and does not end it, and
/// for every other byte that belongs to none (what Rust's from_utf8_lossy and Unicode's recommendation say).
std::u32string from_utf8_lossy(std::string_view bytes);

/// Appends the bytes of a character, which is no surrogate.
void append_utf8(std::string& text, char32_t character);

}  // namespace apo::tokenizers
