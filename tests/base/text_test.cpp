#include "apo/base/text.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace apo {
namespace {

TEST(Utf8, IsWellFormed) {
  EXPECT_TRUE(is_utf8("lift the cube"));
  EXPECT_TRUE(is_utf8("Würfel 箱 🤖"));
  EXPECT_FALSE(is_utf8("\xff"));
  EXPECT_FALSE(is_utf8("W\xfcrfel"));     // Latin-1
  EXPECT_FALSE(is_utf8("\xc0\xaf"));      // overlong
  EXPECT_FALSE(is_utf8("\xed\xa0\x80"));  // surrogate
  EXPECT_FALSE(is_utf8("\xe7\xae"));      // cut short
}

TEST(Printable, ShowsWhatWouldActOnATerminal) {
  EXPECT_EQ(printable("lift the Würfel 箱 🤖 \\n"), "lift the Würfel 箱 🤖 \\n");
  EXPECT_EQ(printable("a\nb\rc\td"), "a\\nb\\rc\\td");
  EXPECT_EQ(printable("\x1b[31mred\x1b]0;title\x07"), "\\u001b[31mred\\u001b]0;title\\u0007");
  EXPECT_EQ(printable(std::string_view("\0\x7f", 2)), "\\u0000\\u007f");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "\\u009b31m")
      << "CSI as one character";
  EXPECT_EQ(printable("\xe2\x80\xae"
                      "gpj.exe"),
            "\\u202egpj.exe")
      << "right to left";
  EXPECT_EQ(printable("\xe2\x80\xa8\xe2\x81\xa6"), "\\u2028\\u2066");
  EXPECT_EQ(printable("W\xfcrfel \xed\xa0\x80"), "W\\xfcrfel \\xed\\xa0\\x80");
  EXPECT_EQ(printable(""), "");
}

TEST(Printable, KeepsLinesWhereAsked) {
  EXPECT_EQ(printable("a\n\tb\r\x1b", NewLines::kept), "a\n\tb\\r\\u001b");
}

TEST(Printable, ChangesNothingTwice) {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  EXPECT_EQ(printable(printable(all)), printable(all));
  EXPECT_TRUE(is_utf8(printable(all)));
}

TEST(UnfinishedCharacter, IsWhatGoesOnBehindTheEnd) {
  EXPECT_EQ(unfinished_character(""), 0u);
  EXPECT_EQ(unfinished_character("abc"), 0u);
  EXPECT_EQ(unfinished_character("箱"), 0u);
  EXPECT_EQ(unfinished_character("a\xe7"), 1u);
  EXPECT_EQ(unfinished_character("a\xe7\xae"), 2u);
  EXPECT_EQ(unfinished_character("\xf0\x9f\xa4"), 3u);
  EXPECT_EQ(unfinished_character("\x80\x80\x80\x80"), 0u) << "begins none";
}

TEST(Join, PutsTheSeparatorBetween) {
  EXPECT_EQ(join(std::vector<std::string>{}), "");
  EXPECT_EQ(join(std::vector<std::string>{"one"}), "one");
  EXPECT_EQ(join(std::vector<std::string_view>{"one", "two", "three"}, " | "), "one | two | three");
}

TEST(Utf8Size, IsWhereTheFirstBadByteStands) {
  EXPECT_EQ(utf8_size(""), 0u);
  EXPECT_EQ(utf8_size("a\u00fc\u20ac\U0001f916"), 10u);
  EXPECT_EQ(utf8_size("ab\xff"
                      "c"),
            2u);
  EXPECT_EQ(utf8_size("a\u00fc\xe2\x82"), 3u);  // cut
  EXPECT_EQ(character_size("\u20ac and more"), 3u);
  EXPECT_EQ(character_size("\x82"), 0u);
  EXPECT_EQ(character_size(""), 0u);
}

TEST(Shortened, CutsNoCharacter) {
  EXPECT_EQ(shortened("12345678", 8), "12345678");
  EXPECT_EQ(shortened("123456789", 8), "12345...");
  EXPECT_EQ(shortened("1234\u00fc678", 8), "1234...");
  EXPECT_EQ(shortened("12\u20ac\u20ac\u20ac", 8), "12\u20ac...");
}

}  // namespace
}  // namespace apo
