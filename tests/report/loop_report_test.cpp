#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/report/report.h"
#include "report/loop_summary.h"
#include "report/markup.h"
#include "support/temp_dir.h"

namespace apo::report {
namespace {

namespace fs = std::filesystem;
using apo::testing::markup_fault;
using apo::testing::occurrences;
using apo::testing::TempDir;
using nlohmann::json;

json evaluation(int successes, int unaided) {
  return {{"trials", 200},
          {"successes", successes},
          {"success_rate", successes / 200.0},
          {"unaided", {{"count", unaided}, {"rate", unaided / 200.0}}},
          {"outcomes", {{"success", successes}, {"wrong object", 200 - successes}}},
          {"seconds", 11.0}};
}

// A base and two rounds, the last of which was not promoted.
json full_summary() {
  json summary = {{"command", "apo-refine --config tabletop.yaml"},
                  {"config", "objective:\n  type: apo\n"},
                  {"seed", 11},
                  {"seconds", 214.0},
                  {"environment", "tabletop"}};
  const json deployment = {{"episodes", 90},
                           {"take_overs", 30},
                           {"take_overs_by_reason", {{"off course", 3}, {"wrong object", 27}}},
                           {"recorded", 90},
                           {"hand_backs", 0},
                           {"corrected", 44},
                           {"alone", 40},
                           {"lost", 6},
                           {"outcomes", {{"success", 84}, {"timeout", 6}}},
                           {"seconds", 20.5},
                           {"steps", {{"policy", 1180}, {"intervention", 452}}}};
  summary["rounds"] = {
      {{"round", 0},
       {"policy", "base"},
       {"promoted", true},
       {"training", "base/training"},
       {"objective", "sft"},
       {"train_seconds", 72.0},
       {"evaluation", evaluation(106, 104)},
       {"deployment", nullptr},
       {"labels", {{"expert/desirable: demonstration", 5100}}}},
      {{"round", 1},
       {"policy", "one"},
       {"promoted", true},
       {"training", "round-1/training"},
       {"objective", "apo"},
       {"train_seconds", 27.0},
       {"evaluation", evaluation(170, 166)},
       {"deployment", deployment},
       {"labels",
        {{"expert/desirable: demonstration", 5100}, {"policy/undesirable: before take-over", 180}}}},
      {{"round", 2},
       {"policy", "two"},
       {"promoted", false},
       {"promotion",
        {{"difference", -0.05},
         {"only_refined", 3},
         {"only_in_use", 13},
         {"pairs", 200},
         {"p", 0.0213},
         {"tolerance", 0}}},
       {"training", nullptr},
       {"objective", "apo"},
       {"train_seconds", 27.0},
       {"evaluation", evaluation(160, 160)},
       {"deployment", deployment},
       {"labels", json::object()}}};
  return summary;
}

std::string page_of(const TempDir& dir, const json& summary) {
  write_file_atomic(dir / "summary.json", summary.dump(1));
  write_loop_report(dir.path());
  std::string page = read_file(dir / "report.html");
  EXPECT_EQ(markup_fault(page), "");
  return page;
}

std::string error_of(const TempDir& dir, const std::string& text) {
  write_file_atomic(dir / "summary.json", text);
  try {
    write_loop_report(dir.path());
  } catch (const DataError& error) {
    return error.what();
  }
  return "no error";
}

bool says(const std::string& page, const std::string& text) { return page.find(text) != std::string::npos; }

LoopSummary summary_of(const TempDir& dir, const json& summary) {
  write_file_atomic(dir / "summary.json", summary.dump());
  return read_summary(dir / "summary.json");
}

// Wilson at 106 / 200: (0.53 + 0.0096037) / 1.0192073 ± 1.96 / 1.0192073 * sqrt(0.0012455 + 0.0000240) =
// 0.5294 ± 0.0685 at 170 / 200: 0.8434 ± 0.0493. Difference 0.32; below: sqrt(0.0559² + 0.0680²) = 0.0880,
// above: sqrt(0.0427² + 0.0691²) = 0.0812.
TEST(LoopStory, TellsThreeSentencesFromTheNumbers) {
  TempDir dir;
  const std::vector<std::string> told = story(summary_of(dir, full_summary()));
  ASSERT_EQ(told.size(), 3u);
  EXPECT_EQ(told[0],
            "The base policy succeeded in tabletop in 106 of 200 trials (53%, 95% interval 46–60%).");
  EXPECT_EQ(told[1],
            "Deployed twice for 180 episodes in all under a person's eyes, it was taken over 60 times "
            "(wrong object 54, off course 6); the corrections are 904 steps.");
  EXPECT_EQ(
      told[2],
      "Refined with apo on what was recorded (round 1), it succeeds in 170 of 200 trials (85%, 95% "
      "interval 79–89%): 32 points more than the base [23, 40]. Round 2 brought no better policy and was "
      "not kept.");
}

TEST(LoopStory, DoesNotClaimWhatMayBeChance) {
  TempDir dir;
  json summary = full_summary();
  summary["rounds"][1]["evaluation"] = evaluation(112, 110);
  EXPECT_TRUE(
      says(story(summary_of(dir, summary))[2], "3 points more than the base [-7, 13], which may be chance."));
  summary["rounds"][1]["evaluation"] = evaluation(60, 60);
  EXPECT_TRUE(says(story(summary_of(dir, summary))[2], "23 points fewer than the base [-32, -13]."));
}

TEST(LoopStory, TellsOfLoopsThatCameToNothing) {
  TempDir dir;
  json summary = full_summary();
  summary["rounds"][1]["promoted"] = false;
  EXPECT_EQ(story(summary_of(dir, summary))[2],
            "Rounds 1 and 2 brought no better policy: the base stays in use.");
  summary["rounds"] = {summary["rounds"][0]};
  EXPECT_EQ(story(summary_of(dir, summary))[1], "It was not yet deployed under a person's eyes.");
  EXPECT_EQ(story(summary_of(dir, summary))[2], "It was not refined yet.");
  EXPECT_EQ(story(summary_of(dir, {{"rounds", {json::object()}}}))[0], "The base policy was not evaluated.");
}

TEST(LoopReport, ShowsEveryPart) {
  TempDir dir;
  const std::string page = page_of(dir, full_summary());
  for (const char* part :
       {"Success by round", "Take-overs", "How the trials ended", "What each round learned from",
        "All numbers", "apo-refine --config tabletop.yaml", "objective:\n  type: apo", "3 min 34 s",
        "Hollow: not promoted.", "95% Wilson interval"})
    EXPECT_TRUE(says(page, part)) << part;
  // success and unaided success of three rounds
  EXPECT_EQ(occurrences(page, "class=\"whisker\""), 3 * 6);
  EXPECT_EQ(occurrences(page, "<circle class=\"hollow\""), 2);
  // 27 take-overs in 90 episodes are 30 in 100
  EXPECT_TRUE(says(page, "base, wrong object: 30<"));
  EXPECT_TRUE(says(page, "take-overs in 100 episodes"));
  EXPECT_TRUE(says(page, ">30 in 90</text>"));
  EXPECT_TRUE(says(page, "<td>106/200 = 53.0% [46.1, 59.8]</td>"));
  EXPECT_TRUE(says(page,
                   "<td>success against the policy in use</td><td>–</td><td>–</td><td>−5.0 points (3 won, 13 "
                   "lost of 200), p = 0.021</td>"));
  EXPECT_TRUE(
      says(page, "promoted if it succeeds in at least as many of the same trials as the policy in use."));
  EXPECT_TRUE(
      says(page, "<td>labels, policy/undesirable: before take-over</td><td>–</td><td>180</td><td>–</td>"));
}

TEST(LoopReport, SaysWhoThePersonIs) {
  TempDir dir;
  json summary = full_summary();
  const std::string page = page_of(dir, summary);
  EXPECT_FALSE(says(page, "played by a script"));
  EXPECT_TRUE(says(page, "before it failed. What was recorded"));
  summary["config"] = "deploy:\n  intervention:\n    type: scripted  # none | scripted\n";
  EXPECT_TRUE(
      says(page_of(dir, summary),
           "This page shows how well it did before and after. The person is played by a script here.</p>"));
}

TEST(LoopReport, NeedsOnlyRounds) {
  TempDir dir;
  const std::string page = page_of(dir, {{"rounds", {json::object()}}});
  EXPECT_EQ(occurrences(page, "<figure"), 0);
  EXPECT_TRUE(says(page, "The base policy was not evaluated."));
}

TEST(LoopReport, TakesTheFilesIntervalsBeforeItsOwn) {
  TempDir dir;
  json summary = full_summary();
  summary["rounds"][0]["evaluation"]["success_low"] = 0.5;
  summary["rounds"][0]["evaluation"]["success_high"] = 0.6;
  EXPECT_TRUE(says(page_of(dir, summary), "<td>106/200 = 53.0% [50.0, 60.0]</td>"));
}

TEST(LoopReport, ComparesCircumstances) {
  TempDir dir;
  json summary = full_summary();
  const auto share = [](int n) {
    return json{{"count", n}, {"rate", n / 100.0}, {"low", 0.0}, {"high", 1.0}};
  };
  summary["rounds"][0]["evaluation"]["success_by_fact"] = {
      {"layout=habit", share(98)}, {"layout=swapped", share(3)}, {"mood=calm", share(50)}};
  const std::string page = page_of(dir, summary);
  EXPECT_TRUE(says(page, "Success by layout"));
  EXPECT_TRUE(says(page, "base, layout=swapped: 3.0% [0.0%, 100.0%]"));
  EXPECT_FALSE(says(page, "Success by mood")) << "one value is no comparison";
}

// Ten trials of the base and of round 1 with the seeds from 7: the base succeeds in the first `before`, round
// 1 in the first `after`; every second one is of the layout "swapped".
json paired_summary(const TempDir& dir, int before, int after) {
  json summary = full_summary();
  summary["rounds"].erase(2);
  for (int round = 0; round < 2; ++round) {
    const int successes = round == 0 ? before : after;
    std::vector<results::Trial> trials;
    for (int i = 0; i < 10; ++i)
      trials.push_back({.trial = i,
                        .seed = static_cast<uint64_t>(7 + i),
                        .success = i < successes,
                        .outcome = i < successes ? "success" : "timeout",
                        .facts = {{"layout", i % 2 == 0 ? "habit" : "swapped"}, {"target", "red"}}});
    const fs::path directory = dir / (round == 0 ? "base" : "round-1") / "evaluation";
    fs::create_directories(directory);
    write_file_atomic(directory / "results.json", results::summarize_trials(std::move(trials)).json());
    summary["rounds"][round]["evaluation"] = {
        {"trials", 10},
        {"successes", successes},
        {"outcomes", {{"success", successes}, {"timeout", 10 - successes}}}};
  }
  return summary;
}

// Six seeds that round 1 alone solves: p = 2 / 64; as independent shares 2 of 10 against 8 of 10 would be
// [16, 80].
TEST(LoopReport, ComparesOnTheSameSeedsWhereTrialsAreKnown) {
  TempDir dir;
  json summary = paired_summary(dir, 2, 8);
  EXPECT_TRUE(
      says(story(summary_of(dir, summary))[2],
           ". Of the same 10 trials it alone solves 6, the base alone 0 (McNemar's exact p = 0.031)."));
  const std::string page = page_of(dir, summary);
  EXPECT_TRUE(says(page, "paired 95% interval ["));
  EXPECT_TRUE(says(page, ", p = 0.031</dd>"));
  EXPECT_TRUE(says(page, "interval for paired proportions (1998, method 10)"));
  summary = paired_summary(dir, 2, 5);  // 2 / 8
  EXPECT_TRUE(says(story(summary_of(dir, summary))[2], "], which may be chance. Of the same 10 trials"));
  summary["rounds"][0]["evaluation"]["successes"] = 3;  // not those of the file
  const std::string other = page_of(dir, summary);
  EXPECT_TRUE(says(other, "base/evaluation/results.json holds other trials than the summary tells of"));
  EXPECT_TRUE(says(other, "takes the two sets of trials as independent"));
  write_file_atomic(dir / "base" / "evaluation" / "results.json", "{\"trials\": [{\"success\": true}]}");
  EXPECT_TRUE(
      says(error_of(dir, summary.dump()), "results.json: success: expected an object, found nothing"));
}

TEST(LoopReport, SaysTheTaskAndItsCircumstances) {
  TempDir dir;
  json summary = paired_summary(dir, 2, 8);
  summary["animations"] = {
      {{"title", "fails"}, {"caption", "seed 8: timeout"}, {"path", "a.webp"}, {"instruction", "lift <it>"}}};
  fs::create_directories(dir / "round-1" / "training");
  write_file_atomic(
      dir / "round-1" / "training" / "heaviest_samples.json",
      R"({"desirable": [{"instruction": "push it"}], "undesirable": [{"instruction": "lift <it>"}]})");
  const std::string page = page_of(dir, summary);
  EXPECT_TRUE(says(page, "“lift &lt;it&gt;” or “push it”, in the environment tabletop.</p>"));
  EXPECT_TRUE(says(page, "<p class=\"task\">Task: “lift &lt;it&gt;”; layout swapped, target red</p>"));
  summary["animations"][0]["caption"] = "seed 99: timeout";  // not one of the trials
  EXPECT_TRUE(says(page_of(dir, summary), "<p class=\"task\">Task: “lift &lt;it&gt;”</p>"));
}

TEST(LoopReport, SaysWhereSuccessChangedMost) {
  TempDir dir;
  json summary = full_summary();
  const auto share = [](int n) {
    return json{{"count", n},
                {"total", 100},
                {"rate", n / 100.0},
                {"low", n / 100.0 - 0.05},
                {"high", n / 100.0 + 0.05}};
  };
  summary["rounds"][0]["evaluation"]["success_by_fact"] = {{"layout=habit", share(90)},
                                                           {"layout=swapped", share(5)},
                                                           {"target=red", share(40)},
                                                           {"target=blue", share(41)}};
  summary["rounds"][1]["evaluation"]["success_by_fact"] = {{"layout=habit", share(92)},
                                                           {"layout=swapped", share(63)},
                                                           {"target=red", share(43)},
                                                           {"target=blue", share(42)}};
  EXPECT_EQ(story(summary_of(dir, summary)).back(),
            "The largest change: where layout is swapped, success went from 5% to 63%.");
  const std::string page = page_of(dir, summary);
  EXPECT_TRUE(says(page, "The largest change: where layout is swapped, 5% → 63%. Points"));
  EXPECT_TRUE(says(page, "The largest change: where target is red, 40% → 43%, which may be chance. Points"));
}

TEST(LoopReport, ExplainsTheWordsThatStandOnIt) {
  TempDir dir;
  json summary = full_summary();
  const std::string page = page_of(dir, summary);
  for (const char* word :
       {"base", "take-over", "wrong object", "off course", "unaided", "apo", "sft", "undesirable"})
    EXPECT_TRUE(says(page, concat("<dt>", word, "</dt><dd>"))) << word;
  for (const char* word : {"timeout", "z0", "kto", "layout", "skipped", "McNemar"})
    EXPECT_FALSE(says(page, concat("<dt>", word, "</dt>"))) << word << " does not stand on the page";
  summary["environment"] = "my-robot";
  EXPECT_FALSE(says(page_of(dir, summary), "<dt>wrong object</dt>"))
      << "what it means there, only its authors know";
  summary = paired_summary(dir, 2, 8);
  summary["rounds"][0]["evaluation"]["outcomes"] = {{"success", 2}, {"timeout", 8}};
  EXPECT_TRUE(says(page_of(dir, summary), "<dt>timeout</dt>"));
}

// 60 of 100 trials and 30 take-overs in 90 episodes have room for their numbers, 2 of 100 have not.
TEST(LoopReport, WritesSharesIntoBarsWhereThereIsRoom) {
  TempDir dir;
  json summary = full_summary();
  summary["rounds"][0]["evaluation"]["outcomes"] = {{"success", 60}, {"timeout", 38}, {"lost", 2}};
  const std::string page = page_of(dir, summary);
  EXPECT_TRUE(says(page, "text-anchor=\"middle\">60%</text>"));
  EXPECT_TRUE(says(page, "text-anchor=\"middle\">38%</text>"));
  EXPECT_FALSE(says(page, "text-anchor=\"middle\">2.0%</text>"));
  EXPECT_TRUE(says(page, "Deployed: base for round 1, round 1 for round 2 to learn from."));
}

TEST(LoopReport, DrawsTheTrainingOfEachRound) {
  TempDir dir;
  fs::create_directories(dir / "base" / "training");
  std::string metrics;
  for (int step = 1; step <= 5; ++step)
    metrics += concat("{\"step\":", step, ",\"loss\":", step, ",\"z0\":", step, ",\"grad_norm\":1}\n");
  write_file_atomic(dir / "base" / "training" / "metrics.jsonl", metrics + "{\"st");
  const std::string page = page_of(dir, full_summary());
  EXPECT_TRUE(says(page, "base, sft, 5 steps, 72 s"));
  // loss and reward; folded below them z0 and the gradient's norm
  EXPECT_EQ(occurrences(page, "<svg class=\"chart lines\""), 4);
  EXPECT_LT(page.find("<figcaption>Reward"),
            page.find("<summary>All curves of base, and what weighed most</summary>"));
  EXPECT_GT(page.find("<figcaption>Gradient norm"), page.find("<summary>All curves of base"));
  EXPECT_TRUE(says(page, "href=\"./base/training/report.html\""));
  EXPECT_TRUE(
      says(read_file(dir / "base" / "training" / "report.html"), "<h1>Training run base/training</h1>"));
  EXPECT_TRUE(says(page, "Training of base: The last line of metrics.jsonl (line 6) is cut"));
  EXPECT_TRUE(
      says(page, "The training curves of round 1 are missing: there is no round-1/training/metrics.jsonl."));
  write_file_atomic(dir / "base" / "training" / "metrics.jsonl", "{}\n");
  EXPECT_TRUE(says(error_of(dir, full_summary().dump()), "metrics.jsonl:1: expected the field \"step\""));
}

// 3 of 4 episodes of the base with a take-over, one of them for both reasons; Wilson at 3 / 4: [30.1, 95.4]
// %.
TEST(LoopReport, CountsEpisodesWithATakeOver) {
  TempDir dir;
  json summary = full_summary();
  summary["rounds"][1]["deployment"]["take_overs_by_episode"] = {
      {"wrong object"}, {"wrong object", "off course", "off course"}, json::array(), {"wrong object"}};
  const std::string page = page_of(dir, summary);
  EXPECT_TRUE(says(page, "<figcaption>Episodes with a take-over"));
  EXPECT_TRUE(says(page, "base, any take-over: 75.0% [30.1%, 95.4%]"));
  EXPECT_TRUE(says(page, "base, wrong object: 75.0%"));
  EXPECT_TRUE(says(page, "base, off course: 25.0%"));
  summary["rounds"][2]["deployment"]["take_overs_by_episode"] = {json::array(), json::array()};
  EXPECT_TRUE(says(page_of(dir, summary), "round 1, any take-over: 0.0% [0.0%, 65.8%]"))
      << "of the promoted policy";
  summary["rounds"][2]["deployment"]["take_overs_by_episode"] = {3};
  EXPECT_TRUE(
      says(error_of(dir, summary.dump()), "rounds[2].deployment.take_overs_by_episode[0]: expected a list"));
}

TEST(LoopReport, EmbedsAnimations) {
  TempDir dir;
  fs::create_directories(dir / "animations");
  const std::string webp = std::string("RIFF\4\0\0\0WEBP", 12);  // base64 by hand: UklG RgQA AABX RUJQ
  write_file_atomic(dir / "animations" / "a.webp", webp);
  write_file_atomic(dir / "animations" / "b.webp", "GIF89a..WEBP, not what its name says");
  write_file_atomic(dir / "animations" / "d.webp", "RIFF....WAVE");
  json summary = full_summary();
  summary["animations"] = {{{"title", "failure"}, {"caption", "seed 7"}, {"path", "animations/a.webp"}},
                           {{"title", "correction"}, {"path", "animations/b.webp"}},
                           {{"title", "refined"}, {"path", "animations/c.webp"}},
                           {{"title", "sound"}, {"path", "animations/d.webp"}}};
  const std::string page = page_of(dir, summary);
  EXPECT_TRUE(says(page, "<img alt=\"failure\" src=\"data:image/webp;base64,UklGRgQAAABXRUJQ\"/>"));
  EXPECT_EQ(occurrences(page, "<img"), 1);
  EXPECT_EQ(occurrences(page, "<div class=\"pictures\">"), 2) << "one seed, and those without";
  EXPECT_TRUE(says(page, "The animation animations/b.webp is not a WebP picture."));
  EXPECT_TRUE(says(page, "The animation animations/d.webp is not a WebP picture."));
  EXPECT_TRUE(says(page, "The animation animations/c.webp is missing."));
}

// Of ten trials the base solves two, round 1 eight: six newly solved, two failed by both.
TEST(LoopReport, ShowsWhatStillFailsBesideWhatWasLearned) {
  TempDir dir;
  json summary = paired_summary(dir, 2, 8);
  const auto picture = [](const char* kind, int seed, const char* title) {
    return json{{"kind", kind},
                {"chosen", "the first 1 in <order>"},
                {"title", title},
                {"path", "a.webp"},
                {"caption", concat("seed ", seed, ": timeout after 40 steps")}};
  };
  summary["animations"] = {picture("solved", 3, "the base policy fails"),
                           picture("failed", 8, "the base policy fails"),
                           picture("failed", 8, "the refined policy fails")};
  std::string page = page_of(dir, summary);
  EXPECT_TRUE(says(
      page,
      "<h3>What it learned</h3>\n<p class=\"lead\">The policy in use solves 6 of 10 trials that the base "
      "failed. Shown: the first 1 in &lt;order&gt;.</p>"));
  EXPECT_TRUE(
      says(page,
           "<h3>What still fails</h3>\n<p class=\"lead\">The policy in use fails 2 of 10 trials; the base "
           "solved 0 of these. Shown: the first 1 in &lt;order&gt;.</p>"));
  EXPECT_EQ(occurrences(page, "<div class=\"pictures\">"), 2);
  summary["rounds"][1]["promoted"] = false;  // the base stays: it fails eight
  page = page_of(dir, summary);
  EXPECT_TRUE(says(page, "The policy in use fails 8 of 10 trials. Shown:"));
  summary["animations"][0]["kind"] = "funny";
  EXPECT_TRUE(
      says(error_of(dir, summary.dump()), "animations: expected animations of kind solved or failed"));
}

TEST(LoopReport, SaysWhereItComesFrom) {
  TempDir dir;
  json summary = full_summary();
  EXPECT_TRUE(says(page_of(dir, summary), "<pre>apo-refine --config tabletop.yaml\n</pre>"))
      << "of earlier versions";
  summary["provenance"] = {{"command", "apo-refine --resume"}, {"commit", "0123abc"}, {"threads", 3}};
  std::string page = page_of(dir, summary);
  EXPECT_TRUE(says(page, "<pre>apo-refine --resume\n</pre>"));
  EXPECT_TRUE(says(page, "<td>commit</td><td>0123abc</td>"));
  write_file_atomic(
      dir / "config.yaml",
      "# made by apo-refine\n#   command: begun so\n# made by apo-refine\n#   command: then so\n");
  EXPECT_TRUE(says(page_of(dir, summary), "<pre>begun so\nthen so\n</pre>")) << "all that worked on it";
}

TEST(LoopReport, LinksToFilesAlone) {
  TempDir dir;
  const std::string name = "javascript:document.body.textContent='PWNED';void 0";
  fs::create_directories(dir / name);
  write_file_atomic(dir / name / "metrics.jsonl", "{\"step\":1,\"loss\":2}\n");
  json summary = full_summary();
  summary["rounds"][0]["training"] = name + "//";
  const std::string page = page_of(dir, summary);
  EXPECT_TRUE(says(
      page, "<a href=\"./javascript%3Adocument.body.textContent%3D%27PWNED%27%3Bvoid%200///report.html\">"));
  EXPECT_FALSE(says(page, "href=\"javascript"));
}

TEST(LoopReport, EscapesEveryText) {
  TempDir dir;
  const std::string evil = "\"'><script>alert(1)</script>&";
  json summary = full_summary();
  for (const char* key : {"command", "config", "environment"}) summary[key] = evil;
  json& round = summary["rounds"][1];
  round["policy"] = round["objective"] = evil;
  round["labels"][evil] = 3;
  round["evaluation"]["outcomes"][evil] = 3;
  round["evaluation"]["success_by_fact"] = {{"a" + evil + "=1", {{"rate", 0.5}}},
                                            {"a" + evil + "=2", {{"rate", 0.5}}}};
  round["deployment"]["take_overs_by_reason"][evil] = 3;
  round["deployment"]["steps"][evil] = 3;
  round["training"] = "x" + evil;
  summary["animations"] = {{{"title", evil}, {"caption", evil}, {"path", "x" + evil}}};
  EXPECT_EQ(occurrences(page_of(dir, summary), "<script"), 1) << "our own";
}

// 100 + 60 + 30 + 20 steps; the 9 take-overs are no steps.
TEST(LoopReport, StacksLabelledStepsInTheColorsOfTheirLabels) {
  TempDir dir;
  json summary = full_summary();
  summary["rounds"] = {{{"round", 1},
                        {"labels",
                         {{"expert/desirable: demonstration", 100},
                          {"interactions/undesirable: before take-over", 60},
                          {"interactions/intervention: correction", 30},
                          {"interactions/skipped: undesirable motion", 20},
                          {"interactions/take-over: whole window", 9}}}}};
  const std::string page = page_of(dir, summary);
  EXPECT_TRUE(says(page, ">210</text>"));
  for (const char* layer : {"h5 t0\"><title>round 1, expert/desirable: demonstration: 100",
                            "h1 t0\"><title>round 1, interactions/undesirable: before take-over: 60",
                            "h2 t0\"><title>round 1, interactions/intervention: correction: 30",
                            "h6 t0\"><title>round 1, interactions/skipped: undesirable motion: 20"})
    EXPECT_TRUE(says(page, layer)) << layer;
  EXPECT_FALSE(says(page, "<title>round 1, interactions/take-over"));
  EXPECT_TRUE(says(page, "<td>labels, interactions/take-over: whole window</td><td>9</td>"));
}

TEST(BadSummary, NamesTheLineThatIsNotJson) {
  TempDir dir;
  const std::string where = (dir / "summary.json").string();
  EXPECT_EQ(error_of(dir, "{\"rounds\": [\n  {\"round\": 0},\n  oops\n]}"),
            where + ":3: expected JSON, found something else");
  EXPECT_EQ(error_of(dir, "{\"rounds\": [\n"),
            where + ":2: expected JSON, found the end of the file (is it cut?)");
  EXPECT_EQ(error_of(dir, ""), where + ":1: expected JSON, found the end of the file (is it cut?)");
}

TEST(BadSummary, NamesTheKeyThatIsWrong) {
  TempDir dir;
  const std::string where = (dir / "summary.json").string() + ": ";
  const auto with = [](const char* pointer, const json& value) {
    json summary = full_summary();
    summary[json::json_pointer(pointer)] = value;
    return summary.dump();
  };
  EXPECT_EQ(error_of(dir, "{}"), where + "rounds: expected a list with at least one round, found nothing");
  EXPECT_EQ(error_of(dir, "[1]"), where + "expected an object, found [1]");
  const std::string endless = std::string(200000, '[') + std::string(200000, ']');
  EXPECT_EQ(error_of(dir, "{\"rounds\": [" + endless + "]}"),
            where + "JSON nested too deeply, beyond 64 levels");
  EXPECT_EQ(error_of(dir, "{\"rounds\": []}"),
            where + "rounds: expected a list with at least one round, found []");
  EXPECT_EQ(error_of(dir, "{\"rounds\": [3]}"), where + "rounds[0]: expected an object, found 3");
  EXPECT_EQ(error_of(dir, with("/rounds/1/evaluation/trials", "many")),
            where + "rounds[1].evaluation.trials: expected a whole number, at least 0, found \"many\"");
  EXPECT_EQ(error_of(dir, with("/rounds/1/evaluation/successes", -1)),
            where + "rounds[1].evaluation.successes: expected a whole number, at least 0, found -1");
  EXPECT_EQ(error_of(dir, with("/rounds/1/evaluation/successes", 201)),
            where + "rounds[1].evaluation.successes: expected at most the 200 trials, found 201");
  EXPECT_EQ(error_of(dir, with("/rounds/0/evaluation/success_rate", 53)),
            where + "rounds[0].evaluation.success_rate: expected a number between 0 and 1, found 53");
  EXPECT_EQ(error_of(dir, with("/rounds/0/evaluation/success_low", 0.9)),
            where + "rounds[0].evaluation.success_low: expected at most the rate, found 0.9");
  EXPECT_EQ(error_of(dir, with("/rounds/1/labels", {{"a", 0.5}})),
            where + "rounds[1].labels.a: expected a whole number, at least 0, found 0.5");
  EXPECT_EQ(error_of(dir, with("/rounds/1/deployment/alone", nullptr)),
            where + "rounds[1].deployment.alone: expected a whole number, at least 0, found nothing");
  EXPECT_EQ(error_of(dir, with("/rounds/1/deployment/lost", -2)),
            where + "rounds[1].deployment.lost: expected a whole number, at least 0, found -2");
  EXPECT_EQ(error_of(dir, with("/rounds/2/promotion/p", 2)),
            where + "rounds[2].promotion.p: expected a number between 0 and 1, found 2");
  EXPECT_EQ(error_of(dir, with("/rounds/1/promoted", "yes")),
            where + "rounds[1].promoted: expected true or false, found \"yes\"");
}

TEST(BadSummary, RefusesPathsThatLeaveTheDirectory) {
  TempDir dir;
  for (const char* path : {"/etc/passwd", "../other/secret.webp", "animations/../../x.webp"}) {
    json summary = full_summary();
    summary["animations"] = {{{"title", "a"}, {"path", path}}};
    EXPECT_TRUE(says(
        error_of(dir, summary.dump()),
        "animations[0].path: expected a relative path that stays in the directory of this file, found \""))
        << path;
  }
}

}  // namespace
}  // namespace apo::report
