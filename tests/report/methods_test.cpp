#include "report/methods.h"

#include <gtest/gtest.h>

#include <filesystem>
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
  json episodes = json::array();
  for (int i = 0; i < 50; ++i) episodes.push_back(i < take_overs ? json{"wrong object"} : json::array());
  return {{"method", name},
          {"round", round},
          {"train_seconds", 27.0},
          {"evaluation",
           {{"trials", 200},
            {"successes", successes},
            {"unaided", {{"count", successes}, {"rate", successes / 200.0}}}}},
          {"deployment",
           {{"episodes", 50},
            {"recorded", 50},
            {"take_overs", take_overs},
            {"hand_backs", 0},
            {"corrected", take_overs},
            {"alone", 47 - take_overs},
            {"lost", 3},
            {"outcomes", json::object()},
            {"steps", json::object()},
            {"seconds", 9.0},
            {"take_overs_by_reason", {{"wrong object", take_overs}}},
            {"take_overs_by_episode", episodes}}}};
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

// 24 of 50: 48.0 [34.8, 61.5]; 4 of 50: 8.0 [3.2, 18.8]; 3 lost of 50: 6.0 [2.1, 16.2].
TEST(Methods, StandSideBySide) {
  TempDir dir;
  const std::string page = page_of(dir, compared());
  EXPECT_EQ(markup_fault(page), "");
  for (const char* part :
       {"Methods side by side", "Success by method", "Take-overs in the next deployment",
        ">apo &amp; &lt;co&gt;</text>", "<td>48.0% [34.8, 61.5]</td>", "<td>8.0% [3.2, 18.8]</td>",
        "<td>6.0% [2.1, 16.2]</td>", "base, any take-over: 48.0%", "sft, wrong object: 18.0%"})
    EXPECT_TRUE(says(page, part)) << part;
  EXPECT_TRUE(says(
      page,
      "2 methods learned from the same corrections.</p>\n<p>After 1 round, \u201capo &amp; &lt;co&gt;\u201d "
      "succeeded most often: in 170 of 200 trials (85%, 95% interval 79–89%); its lead over \u201csft\u201d "
      "may be chance.</p>"));
  EXPECT_TRUE(says(page, "They learned from the very same recordings"));
  EXPECT_TRUE(says(page, "<h1>Comparison "));
  EXPECT_TRUE(says(page, "before it failed. Several methods then learned"));
  // three lines a whisker: success, unaided, any take-over, wrong object and lost of three methods
  EXPECT_EQ(occurrences(page, "class=\"whisker\""), 3 * 15);
  EXPECT_TRUE(says(page, "<dt>success, apo &amp; &lt;co&gt;</dt>"));
  EXPECT_FALSE(says(page, "Round by round"));
  EXPECT_FALSE(says(page, "It was not refined yet."));
}

TEST(Methods, AreTestedAgainstOthers) {
  TempDir dir;
  json summary = compared();
  summary["methods"][1]["against"] = {
      {{"method", "base"}, {"of", "success"}, {"difference", 0.32}, {"p", 1e-9}},
      {{"method", "base"}, {"of", "take-overs"}, {"difference", -0.4}, {"p", 0.0625}}};
  const std::string page = page_of(dir, summary);
  EXPECT_TRUE(says(page, "<th>success against base</th><th>take-overs against base</th>"));
  EXPECT_TRUE(says(page, "<td>+32.0, p &lt; 0.001</td><td>−40.0, p = 0.062</td>"));
  EXPECT_TRUE(says(page, ", in per cent. Against: the difference in points"));
  summary["methods"][1]["against"][0]["p"] = 2;
  EXPECT_THROW(page_of(dir, summary), DataError);
}

// 170 and 160 of 200 are 0.85 [0.79, 0.89] and 0.80 [0.74, 0.85]: Newcombe's interval of the difference has 0
// in it, which the paired test overrules. 112 are beaten without one.
TEST(Methods, LeadOnlyWhereChanceDoesNotExplainIt) {
  TempDir dir;
  json summary = compared();
  summary["methods"].push_back(method("dpo", 1, 112, 9));
  EXPECT_TRUE(says(page_of(dir, summary), "; its lead over \u201csft\u201d may be chance."));
  summary["methods"][1]["against"] = {
      {{"method", "sft"}, {"of", "success"}, {"difference", 0.05}, {"p", 0.04}},
      {{"method", "sft"}, {"of", "take-overs"}, {"difference", 0}, {"p", 1}}};
  EXPECT_FALSE(says(page_of(dir, summary), "may be chance"));
  for (const char* name : {"a", "b", "c"}) summary["methods"].push_back(method(name, 1, 168, 9));
  EXPECT_TRUE(says(page_of(dir, summary), "over \u201ca\u201d, \u201cb\u201d and 1 other may be chance."));
}

// A control's labels are the expert's alone.
TEST(Methods, TellWhichOfThemSawTheSameCorrections) {
  TempDir dir;
  json summary = compared();
  const json all = {{"expert/desirable: demonstration", 5},
                    {"interactions/intervention: human correction", 2}};
  summary["methods"][1]["labels"] = summary["methods"][2]["labels"] = all;
  summary["methods"].push_back(method("demonstrations only", 1, 108, 20));
  summary["methods"][3]["labels"] = {{"expert/desirable: demonstration", 5}};
  const std::string first = page_of(dir, summary);
  EXPECT_TRUE(
      says(first,
           "<p>2 methods learned from the same corrections; \u201cdemonstrations only\u201d saw none, "
           "as a control.</p>"));
  EXPECT_TRUE(says(first,
                   "Without the corrections, to show what more training alone does: \u201cdemonstrations "
                   "only\u201d."));
  summary["methods"].push_back(method("sft", 2, 170, 2));
  summary["methods"][4]["labels"] = all;
  const std::string second = page_of(dir, summary);
  EXPECT_TRUE(
      says(second,
           "<p>2 methods learned from corrections: in round 1 from the same, then each also from those "
           "of its own deployments; \u201cdemonstrations only\u201d saw none, as a control.</p>"));
  EXPECT_TRUE(says(second, "in later rounds each learned also from the recordings of its own deployments."));
  EXPECT_FALSE(says(second, "learned from the same corrections"));
  EXPECT_FALSE(says(second, "They learned from the very same recordings"));
}

TEST(Methods, ExplainTheirObjectives) {
  TempDir dir;
  json summary = compared();
  EXPECT_FALSE(says(page_of(dir, summary), "<ul class=\"objectives\">"));
  summary["methods"][0]["objective"] = "sft";  // the base's is that of its own training
  summary["methods"][1]["objective"] = "apo";
  summary["methods"][2]["objective"] = "sft";
  EXPECT_FALSE(says(page_of(dir, summary), "Methods in one line differ"));
  summary["methods"].push_back(method("control", 1, 108, 20));
  summary["methods"][3]["objective"] = "sft";
  summary["methods"].push_back(method("sft", 2, 170, 2));
  summary["methods"][4]["objective"] = "sft";
  const std::string page = page_of(dir, summary);
  EXPECT_EQ(markup_fault(page), "");
  EXPECT_TRUE(says(page, "<li><b>apo &amp; &lt;co&gt;</b> (apo): Action Preference Optimization: "));
  EXPECT_TRUE(says(page, "<li><b>sft; control</b> (sft): Supervised fine-tuning: "));
  EXPECT_TRUE(says(page, "Methods in one line differ"));
}

TEST(Methods, LeaveOutColumnsThatNobodyHasNumbersFor) {
  TempDir dir;
  json summary = compared();
  for (json& entry : summary["methods"]) entry["deployment"].erase("take_overs_by_episode");
  const std::string page = page_of(dir, summary);
  EXPECT_FALSE(says(page, "<th>episodes with a take-over</th>"));
  EXPECT_TRUE(says(page, "<th>success</th><th>unaided</th><th>lost</th>"));
  EXPECT_TRUE(says(page, "In brackets: 95% Wilson intervals, in per cent.</p>")) << "nothing was tested";
  EXPECT_TRUE(says(page_of(dir, compared()), "<th>episodes with a take-over</th><th>wrong object</th>"));
}

TEST(Methods, ShowTheirTraining) {
  TempDir dir;
  json summary = compared();
  summary["methods"][1]["training"] = "methods/1/training";
  summary["methods"][2]["training"] = "methods/2/training";
  std::filesystem::create_directories(dir / "methods/1/training");
  write_file_atomic(dir / "methods/1/training/metrics.jsonl",
                    "{\"step\":1,\"loss\":2}\n{\"step\":2,\"loss\":1}\n");
  const std::string page = page_of(dir, summary);
  EXPECT_TRUE(says(page, "<h3>apo &amp; &lt;co&gt;, 2 steps, 27 s"));
  EXPECT_TRUE(
      says(page, "The training curves of sft are missing: there is no methods/2/training/metrics.jsonl."));
  summary["methods"][2]["training"] = "../elsewhere";
  EXPECT_THROW(page_of(dir, summary), DataError);
}

TEST(Methods, SayWhatTheyLearnedFrom) {
  TempDir dir;
  json summary = compared();
  summary["corrections"] = summary["methods"][0]["deployment"];
  summary["corrections"]["episodes"] = 82;
  summary["corrections"]["take_overs"] = 30;
  summary["corrections"]["take_overs_by_reason"] = {{"wrong object", 30}};
  EXPECT_TRUE(says(page_of(dir, summary),
                   "<p>Deployed for 82 episodes under a person&#39;s eyes, it was taken over 30 times (wrong "
                   "object 30).</p>"));
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
