#include "report/methods.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/report/report.h"
#include "report/markup.h"
#include "support/temp_dir.h"

namespace apo::report {
namespace {

using apo::testing::markup_fault;
using apo::testing::occurrences;
using apo::testing::TempDir;
using nlohmann::json;

json method(const std::string& name, int round, int successes, int take_overs) {
  return {{"method", name},
          {"round", round},
          {"train_seconds", 27.0},
          {"evaluation",
           {{"trials", 200},
            {"successes", successes},
            {"unaided", {{"count", successes}, {"rate", successes / 200.0}}}}},
          {"deployment",
           {{"episodes", 50},
            {"take_overs", take_overs},
            {"lost", 3},
            {"take_overs_by_reason", {{"wrong object", take_overs}}}}}};
}

json compared() {
  json summary = {{"rounds", {{{"round", 0}, {"evaluation", method("", 0, 106, 0)["evaluation"]}}}}};
  summary["methods"] = {method("base", 1, 106, 24), method("apo & <co>", 1, 170, 4),
                        method("sft", 1, 160, 9)};
  return summary;
}

std::string page_of(const TempDir& dir, const json& summary) {
  write_file_atomic(dir / "summary.json", summary.dump(1));
  write_loop_report(dir.path());
  return read_file(dir / "report.html");
}

bool says(const std::string& page, const std::string& text) { return page.find(text) != std::string::npos; }

TEST(Methods, StandSideBySide) {
  TempDir dir;
  const std::string page = page_of(dir, compared());
  EXPECT_EQ(markup_fault(page), "");
  for (const char* part : {"Methods side by side", "Success by method", "Take-overs in the next deployment",
                           "take-overs in 100 episodes", "apo &amp; &lt;co&gt;", "<td>48.0</td>",
                           "<td>8.0</td>", "<td>6.0</td>"})
    EXPECT_TRUE(says(page, part)) << part;
  EXPECT_TRUE(
      says(page,
           "2 methods learned from the same corrections; after 1 round, \u201capo &amp; &lt;co&gt;\u201d "
           "succeeded most often: in 170 of 200 trials"));
  // three lines a whisker: success and unaided of three methods, and the base's once more round by round
  EXPECT_EQ(occurrences(page, "class=\"whisker\""), 3 * (6 + 2));
  EXPECT_FALSE(says(page, "It was not refined yet."));
}

TEST(Methods, HaveAPanelForEachRound) {
  TempDir dir;
  json summary = compared();
  EXPECT_EQ(occurrences(page_of(dir, summary), "<figcaption>Success by method"), 1);
  summary["methods"].push_back(method("sft", 2, 170, 2));
  const std::string page = page_of(dir, summary);
  EXPECT_EQ(occurrences(page, "<figcaption>Success by method"), 2);
  EXPECT_TRUE(says(page, "After 2 rounds"));
}

TEST(Methods, MayLackEverything) {
  TempDir dir;
  json summary = compared();
  summary["methods"] = {{{"method", "apo"}}};
  EXPECT_EQ(markup_fault(page_of(dir, summary)), "");
  summary["methods"] = json::array();
  EXPECT_FALSE(says(page_of(dir, summary), "Methods side by side"));
}

TEST(Methods, SayWhatIsWrong) {
  TempDir dir;
  json summary = compared();
  summary["methods"][1]["evaluation"]["successes"] = 300;
  try {
    page_of(dir, summary);
    FAIL() << "no error";
  } catch (const DataError& error) {
    EXPECT_TRUE(says(error.what(), "methods[1].evaluation.successes")) << error.what();
  }
}

}  // namespace
}  // namespace apo::report
