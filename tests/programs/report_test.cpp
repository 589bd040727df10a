// apo-data report: a page anew from what lies in a directory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "support/program.h"
#include "support/temp_dir.h"

namespace apo::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

TEST(ReportProgram, WritesThePageOfWhatLiesThere) {
  const TempDir dir;
  fs::create_directories(dir / "run");
  fs::create_directories(dir / "loop");
  spit(dir / "run/metrics.jsonl", "{\"step\":1,\"loss\":2}\n");
  spit(dir / "loop/summary.json", "{\"rounds\": [{}]}");
  const auto result = run_program("apo-data", {"report", dir / "run", dir / "loop"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr((dir / "loop").string() + "/report.html"));
  EXPECT_THAT(slurp(dir / "run/report.html"), HasSubstr("<h1>Training run run</h1>"));
  EXPECT_THAT(slurp(dir / "loop/report.html"), HasSubstr("<h1>Refinement loop loop</h1>"));
}

TEST(ReportProgram, EndsAsAlwaysWhereItCannot) {
  const TempDir dir;
  EXPECT_EQ(run_program("apo-data", {"report"}).exit_code, 2);
  const auto nothing = run_program("apo-data", {"report", dir.path()});
  EXPECT_EQ(nothing.exit_code, 3);
  EXPECT_THAT(nothing.err, HasSubstr("expected the directory of a refinement loop"));
  spit(dir / "metrics.jsonl", "nonsense\n");
  const auto damaged = run_program("apo-data", {"report", dir.path()});
  EXPECT_EQ(damaged.exit_code, 3);
  EXPECT_THAT(damaged.err, HasSubstr("metrics.jsonl:1: expected one JSON object, found nonsense"));
  EXPECT_FALSE(fs::exists(dir / "report.html"));
}

}  // namespace
}  // namespace apo::testing
