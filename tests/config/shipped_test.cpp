// Configs by name: what is found, relative to what its paths are, and what is said where nothing is found.
#include "apo/config/shipped.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "apo/base/error.h"
#include "support/message_of.h"
#include "support/places.h"
#include "support/program.h"

namespace apo::config {
namespace {

namespace fs = std::filesystem;
using ::apo::testing::message_of;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::EndsWith;
using ::testing::HasSubstr;

struct Run {
  std::string dir;
  void visit(Visitor& v) { v.path("dir", dir, "where"); }
};
struct OnlyRun {
  Run run;
  void visit(Visitor& v) { v("run", run, "where"); }
};

TEST(ShippedConfigs, AreThoseOfTheConfigsFolder) {
  const std::vector<std::string> names = shipped_configs();
  size_t files = 0;
  for (const auto& entry : fs::directory_iterator(apo::testing::in_source("configs"))) {
    EXPECT_THAT(names, Contains(entry.path().stem().string()));
    ++files;
  }
  EXPECT_EQ(names.size(), files);
}

TEST(ShippedConfigs, YieldToAFileOfThatName) {
  const testing::TempDir dir;
  const fs::path before = fs::current_path();
  fs::current_path(dir.path());
  testing::spit("tabletop", "run: {dir: here}\n");
  EXPECT_EQ(load<OnlyRun>(open_config("tabletop")).run.dir, (fs::current_path() / "here").string());
  fs::current_path(before);
}

TEST(ShippedConfigs, DoNotYieldToAFolderOfThatName) {
  const testing::TempDir dir;
  const fs::path before = fs::current_path();
  fs::current_path(dir.path());
  fs::create_directory("tabletop");
  EXPECT_NO_THROW(open_config("tabletop"));
  fs::current_path(before);
}

TEST(ShippedConfigs, SuggestTheNearestName) {
  EXPECT_THAT(message_of<ConfigError>([] { open_config("tabeltop"); }),
              AllOf(HasSubstr("found 'tabeltop'"), HasSubstr("tabletop_push"),
                    HasSubstr("did you mean 'tabletop'?")));
}

TEST(ShippedConfigs, AreNotTakenForAFileButSuggested) {
  for (const std::string file : {"no/tabletop.yaml", "./tabletop", "no/tabletop"})
    EXPECT_THAT(message_of<ConfigError>([&] { open_config(file); }),
                AllOf(HasSubstr(file + ": there is no such file"), HasSubstr("shipped config 'tabletop'")))
        << file;
  for (const std::string file : {"mine.yaml", ""})
    EXPECT_THAT(message_of<ConfigError>([&] { open_config(file); }), ::testing::Not(HasSubstr("shipped")))
        << file;
}

}  // namespace
}  // namespace apo::config
