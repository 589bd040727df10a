// The content hash is XXH3's, however the bytes arrive.
#include "apo/base/hash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "support/message_of.h"
#include "support/temp_dir.h"

namespace apo {
namespace {

using apo::testing::message_of;
using apo::testing::TempDir;
using ::testing::HasSubstr;

// Golden: printf '' | xxhsum -H2, printf 'action preference' | xxhsum -H2, printf 'ab%.0s' {1..500} | xxhsum
// -H2
TEST(ContentHash, IsWhatXxhsumPrints) {
  EXPECT_EQ(content_hash(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(content_hash("action preference"), "20e8038c5aa663c76cd1781efcdcd5c8");
  std::string longer;
  for (int i = 0; i < 500; ++i) longer += "ab";
  EXPECT_EQ(content_hash(longer), "9f7bc9f56aca48240629c7a872cc8239");
}

TEST(ContentHash, HowBytesAreSplitMakesNoDifference) {
  std::string bytes(100003, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i % 251);
  ContentHash hash;
  for (size_t at = 0, n = 1; at < bytes.size(); at += n, n = n * 3 % 4099)
    hash.add(std::string_view(bytes).substr(at, n));
  EXPECT_EQ(hash.text(), content_hash(bytes));
  const TempDir dir;
  write_file_atomic(dir / "bytes", bytes);
  EXPECT_EQ(file_hash(dir / "bytes"), content_hash(bytes));
}

TEST(ContentHash, NumbersAreEightBytesTheLowestFirst) {
  ContentHash hash;
  hash.add_number(-2);
  hash.add_number(0x0102);
  EXPECT_EQ(hash.text(),
            content_hash(std::string_view("\xfe\xff\xff\xff\xff\xff\xff\xff\x02\x01\0\0\0\0\0\0", 16)));
}

TEST(ContentHash, TextsDoNotRunIntoEachOther) {
  ContentHash a, b;
  a.add_text("ab");
  a.add_text("c");
  b.add_text("a");
  b.add_text("bc");
  EXPECT_NE(a.text(), b.text());
}

TEST(ContentHash, OfAFileThatIsNotThereNamesIt) {
  const TempDir dir;
  EXPECT_THAT(message_of<DataError>([&] { file_hash(dir / "none"); }),
              HasSubstr((dir / "none").string() + ": cannot open"));
  EXPECT_THAT(message_of<DataError>([&] { file_hash(dir.path()); }),
              HasSubstr(": cannot read: Is a directory"));
}

}  // namespace
}  // namespace apo
