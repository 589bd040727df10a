// apo-data export as a user runs it: what it says, and the exit code of each kind of mistake.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "support/places.h"
#include "support/program.h"

namespace apo::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

const fs::path kGolden = apo::testing::in_source("tests/models/goldens/openvla/a");

class ExportProgram : public ::testing::Test {
 protected:
  ProgramResult export_with(std::vector<std::string> more) {
    std::vector<std::string> arguments{"export", "--checkpoint", (kGolden / "checkpoint").string(),
                                       "--output", (directory_ / "out").string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program("apo-data", arguments);
  }
  const TempDir directory_;
};

TEST_F(ExportProgram, SaysWhatItWrote) {
  const ProgramResult result =
      export_with({"--adapter", (kGolden / "adapter_old").string(), "--dtype", "bfloat16"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("weights model.safetensors\n"), HasSubstr("copied  config.json\n"),
                    HasSubstr("copied  tokenizer.model\n"), HasSubstr("merged"), HasSubstr("exported ")));
  EXPECT_TRUE(fs::exists(directory_ / "out/model.safetensors"));
  EXPECT_THAT(result.out, HasSubstr("% of the adapter's change in the output's precision\n"));
  EXPECT_EQ(result.err.find("rounded away"), std::string::npos) << result.err;
  // what is merged is not merged again
  const ProgramResult again = run_program(
      "apo-data", {"export", "--checkpoint", (directory_ / "out").string(), "--adapter",
                   (kGolden / "adapter_old").string(), "--output", (directory_ / "twice").string()});
  EXPECT_EQ(again.exit_code, 3);
  EXPECT_THAT(again.err, HasSubstr("already"));
}

TEST_F(ExportProgram, EveryKindOfMistakeHasItsExitCode) {
  EXPECT_EQ(run_program("apo-data", {"export"}).exit_code, 2);
  ProgramResult result = export_with({"--dtype", "int8"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("found \"int8\""));
  result = export_with({"--adapter", (kGolden / "nowhere").string()});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("nowhere/adapter_config.json"));
  result = run_program(
      "apo-data", {"export", "--checkpoint", (kGolden / "checkpoint").string(), "--output", "/proc/out"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_THAT(result.err, HasSubstr("/proc/out"));
  EXPECT_EQ(export_with({}).exit_code, 0);
  result = export_with({});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("not empty"), HasSubstr("--overwrite")));
}

}  // namespace
}  // namespace apo::testing
