#include "apo/base/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <iterator>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "support/no_room.h"
#include "support/temp_dir.h"

namespace apo {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;

int64_t files_in(const fs::path& directory) {
  return std::distance(fs::directory_iterator(directory), fs::directory_iterator());
}

TEST(AtomicFile, AppearsWhenCommitted) {
  const TempDir directory;
  write_file_atomic(directory / "x", "before");
  AtomicFile file(directory / "x");
  file.write("one ");
  file.write("");
  file.write("two");
  EXPECT_EQ(read_file(directory / "x"), "before");
  file.commit();
  EXPECT_EQ(read_file(directory / "x"), "one two");
  EXPECT_EQ(files_in(directory.path()), 1);
}

TEST(AtomicFile, LeavesNothingWithoutCommit) {
  const TempDir directory;
  { AtomicFile(directory / "x").write("half"); }
  EXPECT_EQ(files_in(directory.path()), 0);
}

TEST(AtomicFile, NamesPathAndReason) {
  try {
    AtomicFile file("/nowhere/x");
    FAIL() << "nothing thrown";
  } catch (const RunError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("/nowhere/x"), HasSubstr("No such file")));
  }
}

TEST(AtomicFile, ReportsAFullDisk) {
  const TempDir directory;
  try {
    const apo::testing::NoRoom no_room;
    AtomicFile file(directory / "x");
    file.write("bytes");
    FAIL() << "nothing thrown";
  } catch (const RunError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("/x: cannot write"), HasSubstr("File too large")));
  }
  EXPECT_EQ(files_in(directory.path()), 0);
}

}  // namespace
}  // namespace apo
