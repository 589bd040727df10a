#include "base/paths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "support/message_of.h"
#include "support/temp_dir.h"

namespace apo {
namespace {

namespace fs = std::filesystem;
using apo::testing::message_of;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;

void write(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

TEST(ParentOf, BareNamesLieHere) {
  EXPECT_EQ(parent_of("a/b"), "a");
  EXPECT_EQ(parent_of("b"), ".");
  EXPECT_EQ(parent_of("/b"), "/");
}

TEST(MakeDirectory, NamesWhatIsInTheWay) {
  const TempDir dir;
  make_directory(dir / "a/b");
  make_directory(dir / "a/b");
  make_directory(parent_of("bare"));
  EXPECT_TRUE(fs::is_directory(dir / "a/b"));
  write(dir / "file", "");
  for (const char* name : {"file", "file/below"})
    EXPECT_THAT(message_of<RunError>([&] { make_directory(dir / name); }),
                AllOf(HasSubstr((dir / name).string()), HasSubstr("cannot create directory")));
}

TEST(PutInPlace, ReplacesOrSaysWhy) {
  const TempDir dir;
  for (const Sync sync : {Sync::yes, Sync::no}) {
    write(dir / "a", "old");
    write(dir / "a.partial", "new");
    put_in_place(dir / "a.partial", dir / "a", sync);
    EXPECT_EQ(read_file(dir / "a"), "new");
    EXPECT_FALSE(lies_there(dir / "a.partial"));
  }
  EXPECT_THAT(message_of<RunError>([&] { put_in_place(dir / "none", dir / "a"); }),
              HasSubstr("none: cannot sync to disk"));
  EXPECT_THAT(message_of<RunError>([&] { put_in_place(dir / "none", dir / "a", Sync::no); }),
              HasSubstr((dir / "a").string() + ": cannot write: "));
  EXPECT_EQ(read_file(dir / "a"), "new");
}

TEST(ReplaceLink, PointsItAtTheNewTarget) {
  const TempDir dir;
  for (const char* target : {"step-1", "step-2"}) {
    make_directory(dir / target);
    replace_link(dir / "latest", target);
    EXPECT_EQ(fs::read_symlink(dir / "latest"), target);
  }
  write(dir / "latest.partial", "left by a killed process");
  replace_link(dir / "latest", "step-1");
  EXPECT_EQ(fs::read_symlink(dir / "latest"), "step-1");
  EXPECT_FALSE(lies_there(dir / "latest.partial"));
}

TEST(ReplaceLink, SaysWhatIsInTheWay) {
  const TempDir dir;
  make_directory(dir / "policy/of somebody else");
  EXPECT_THAT(message_of<RunError>([&] { replace_link(dir / "policy", "base"); }),
              HasSubstr((dir / "policy").string() + ": cannot point it at base: "));
  EXPECT_TRUE(fs::is_directory(dir / "policy/of somebody else"));
  make_directory(dir / "latest.partial/of somebody else");
  EXPECT_THAT(message_of<RunError>([&] { replace_link(dir / "latest", "step-1"); }),
              HasSubstr((dir / "latest").string() + ": cannot point it at step-1: "));
}

}  // namespace
}  // namespace apo
