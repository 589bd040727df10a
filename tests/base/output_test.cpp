// A file is replaced by its own kind, and what cannot be written is told before the work begins.
#include "apo/base/output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "apo/base/error.h"
#include "support/message_of.h"
#include "support/temp_dir.h"

namespace apo {
namespace {

namespace fs = std::filesystem;
using apo::testing::message_of;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(Output, OnlyItsOwnKindIsReplaced) {
  const TempDir dir;
  const OutputKind labels = json_lines("label lines", "label");
  const auto refused = [&](const std::string& text) {
    std::ofstream(dir / "out") << text;
    return message_of<ConfigError>([&] { check_output("--output", dir / "out", labels); });
  };
  EXPECT_EQ(refused(""), "(nothing thrown)");
  EXPECT_EQ(refused("{\"file\":\"a\",\"label\":\"desirable\"}\n{}\n"), "(nothing thrown)");
  EXPECT_THAT(refused("\x89HDF\r\n"),
              AllOf(HasSubstr("--output: " + (dir / "out").string() + ": found a recording"),
                    HasSubstr("expected no file, or label lines")));
  EXPECT_THAT(refused("RIFF1234WEBPVP8 "), HasSubstr("a WebP picture"));
  EXPECT_THAT(refused("{\"file\":\"a\"}\n{\"label\":\"desirable\"}\n"), HasSubstr("other JSON"));
  EXPECT_THAT(refused("int main() {}"), HasSubstr("another file"));
  EXPECT_EQ(message_of<ConfigError>([&] { check_output("--output", dir / "new/deep/out", labels); }),
            "(nothing thrown)");
  EXPECT_TRUE(fs::is_empty(dir / "new/deep"));
}

TEST(Output, LinksDirectoriesAndDevicesStay) {
  const TempDir dir;
  const OutputKind tables = text_beginning("tables", "# ");
  fs::create_directories(dir / "directory");
  fs::create_symlink("directory", dir / "link");
  fs::create_symlink("nowhere", dir / "broken");
  for (const auto& [name, found] : std::map<fs::path, std::string>{{dir / "directory", "a directory"},
                                                                   {dir / "link", "a link"},
                                                                   {dir / "broken", "a link"},
                                                                   {"/dev/null", "no plain file"}})
    EXPECT_THAT(message_of<ConfigError>([&] { check_output("--output", name, tables); }),
                HasSubstr("found " + found));
}

TEST(Output, APlaceThatCannotBeWrittenIsToldAtOnce) {
  const TempDir dir;
  std::ofstream(dir / "file") << "x";
  EXPECT_THAT(message_of<RunError>([&] { check_output("--output", dir / "file/out", webp_picture()); }),
              HasSubstr((dir / "file").string()));
  EXPECT_THAT(message_of<RunError>([&] { check_output("--output", "/proc/out", webp_picture()); }),
              HasSubstr("/proc/out"));
}

}  // namespace
}  // namespace apo
