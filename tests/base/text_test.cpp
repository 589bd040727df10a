#include "apo/base/text.h"

#include <gtest/gtest.h>

namespace apo {
namespace {

TEST(Utf8, IsWellFormed) {
  EXPECT_TRUE(is_utf8("lift the cube"));
  EXPECT_TRUE(is_utf8("Würfel 箱 🤖"));
  EXPECT_FALSE(is_utf8("\xff"));
  EXPECT_FALSE(is_utf8("W\xfcrfel"));      // Latin-1
  EXPECT_FALSE(is_utf8("\xc0\xaf"));       // overlong
  EXPECT_FALSE(is_utf8("\xed\xa0\x80"));   // surrogate
  EXPECT_FALSE(is_utf8("\xe7\xae"));       // cut short
}

}  // namespace
}  // namespace apo
