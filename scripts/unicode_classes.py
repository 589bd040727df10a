#!/usr/bin/env python3
"""Makes src/tokenizers/unicode_classes.cpp: which characters `tokenizers` takes for letters, numbers and blanks.

    python scripts/unicode_classes.py > src/tokenizers/unicode_classes.cpp

Needs: pip install tokenizers (made with 0.22.2). Asked of its ByteLevel pre-tokenizer character by character, below the
surrogates, which is all that coefficients of actions can be."""
import unicodedata

import tokenizers

SURROGATES = 0xD800
split = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True).pre_tokenize_str


def joins(before, character):
    return len(split(before + character)) == 1


def ranges(of):
    found = []
    for code in range(SURROGATES):
        if not of(chr(code)):
            continue
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return found


def table(name, found):
    rows, row = [], "   "
    for first, last in found:
        cell = f" {{0x{first:X}, 0x{last:X}}},"
        if len(row) + len(cell) > 108:
            rows.append(row)
            row = "   "
        row += cell
    rows.append(row)
    return f"constexpr Range {name}[] = {{\n" + "\n".join(rows) + "\n};\n"


letters = ranges(lambda c: joins("a", c))
numbers = ranges(lambda c: joins("1", c))
blanks = ranges(lambda c: not joins("a", c) and not joins("1", c) and not joins("!", c))
assert all(unicodedata.category(chr(a))[0] == "L" for a, _ in letters[:200])
print('''// Made by scripts/unicode_classes.py.
#include "tokenizers/unicode_classes.h"

#include <algorithm>
#include <span>

namespace apo::tokenizers {
namespace {

struct Range {
  char32_t first, last;
};
// clang-format off''')
print(table("kLetters", letters) + table("kNumbers", numbers) + table("kBlanks", blanks) + '''// clang-format on

bool is_in(std::span<const Range> ranges, char32_t character) {
  const auto behind = std::ranges::upper_bound(ranges, character, {}, &Range::first);
  return behind != ranges.begin() && character <= std::prev(behind)->last;
}

}  // namespace

CharacterClass class_of(char32_t character) {
  if (is_in(kLetters, character)) return CharacterClass::letter;
  if (is_in(kNumbers, character)) return CharacterClass::number;
  return is_in(kBlanks, character) ? CharacterClass::blank : CharacterClass::other;
}

}  // namespace apo::tokenizers''')
