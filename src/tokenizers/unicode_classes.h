// Which characters are letters, numbers or blanks, as the GPT-2 rule of byte-level tokenizers sees them.
#pragma once

#include <cstdint>

namespace apo::tokenizers {

enum class CharacterClass : uint8_t { letter, number, blank, other };
CharacterClass class_of(char32_t character);

}  // namespace apo::tokenizers
