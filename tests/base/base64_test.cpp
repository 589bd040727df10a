#include "base/base64.h"

#include <gtest/gtest.h>

#include <string>

namespace apo {
namespace {

// RFC 4648, section 10.
TEST(Base64, GivesTheStandardsExamples) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("\xff\xfe\xfd"), "//79");
}

TEST(Base64, ComesBack) {
  std::string bytes;
  for (int i = 0; i < 700; ++i) {
    EXPECT_EQ(from_base64(base64(bytes)), bytes) << bytes.size();
    bytes += static_cast<char>(37 * i + i / 7);
  }
}

TEST(Base64, IsReadStrictly) {
  for (const char* text : {"Z", "Zg", "Zg=", "Zg==Zg==", "Zm9=v", "====", "=", "Zm 9", "Zm9v\n", "Zm9-",
                           "Zm9_", "Z\xc3\xa9g", "Zh==", "Zm9=", "Zg=a", "Z==="})
    EXPECT_EQ(from_base64(text), std::nullopt) << text;
  EXPECT_EQ(from_base64(std::string_view("Zm\0v", 4)), std::nullopt);
}

}  // namespace
}  // namespace apo
