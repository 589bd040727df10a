#include "results/summary.h"

#include <gtest/gtest.h>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "support/temp_dir.h"

namespace apo::results {
namespace {

using apo::testing::TempDir;
using nlohmann::json;

Trial trial(int64_t number, bool success, const std::string& layout) {
  return {.trial = number,
          .seed = static_cast<uint64_t>(700 + number),
          .success = success,
          .unaided = success,
          .outcome = success ? "success" : "timeout",
          .steps = 10 + number,
          .facts = {{"layout", layout}}};
}

CollectionSummary deployment() {
  return {.episodes = 3,
          .recorded = 3,
          .take_overs = 2,
          .take_overs_by_reason = {{"stuck", 1}, {"wrong object", 1}},
          .hand_backs = 1,
          .corrected = 1,
          .alone = 1,
          .lost = 1,
          .outcomes = {{"success", 2}, {"timeout", 1}},
          .steps = {{"intervention", 9}, {"policy", 40}},
          .seconds = 1.5,
          .num_clamped_tokens = 2,
          .take_overs_by_episode = {{"stuck"}, {}, {"wrong object"}}};
}

Summary whole() {
  Summary summary;
  summary.command = "apo-refine --config x.yaml";
  summary.config = "seed: 1\n";
  summary.environment = "tabletop";
  summary.provenance = apo::provenance();
  summary.seed = 11;
  summary.seconds = 2.5;
  Round base;
  base.policy = "base/training/checkpoints/step-8";
  base.objective = "sft";
  base.training = "base/training";
  base.train_seconds = 1.25;
  base.labels = {{"expert/desirable: demonstration", 50}};
  base.evaluation = summary_of(
      summarize_trials({trial(0, true, "habit"), trial(1, false, "swapped"), trial(2, true, "swapped")}));
  Round refined = base;
  refined.round = 1;
  refined.promoted = false;
  refined.promotion =
      PromotionTest{.test = {.only_first = 3, .only_second = 1, .pairs = 20, .difference = 0.1, .p = 0.625},
                    .tolerance = 0.05};
  refined.deployment = deployment();
  summary.rounds = {base, refined};
  Method method;
  method.name = "apo";
  method.policy = "methods/1-apo/round-1/training/checkpoints/step-8";
  method.round = 2;
  method.deployment = deployment();
  method.against = {{"base",
                     "success",
                     {.only_first = 5, .only_second = 2, .pairs = 50, .difference = 0.06, .p = 0.453125}}};
  summary.methods = {method};
  summary.corrections = deployment();
  summary.animations = {{.kind = "solved",
                         .chosen = "the first 2",
                         .title = "the base policy fails",
                         .instruction = "pick up the red block",
                         .caption = "seed 7: timeout after 40 steps",
                         .path = "animations/failure-7.webp",
                         .seed = 7}};
  return summary;
}

Summary read_back(const TempDir& dir, const std::string& text) {
  write_file_atomic(dir / "summary.json", text);
  return read_summary(dir / "summary.json");
}

TEST(Summary, IsReadAsItWasWritten) {
  TempDir dir;
  const Summary read = read_back(dir, whole().json());
  EXPECT_EQ(read.json(), whole().json());
  // what a comparison of the texts could hide: both sides might leave it out
  EXPECT_EQ(read.rounds[1].promotion->test.only_first, 3);
  EXPECT_EQ(read.rounds[1].promotion->tolerance, 0.05);
  EXPECT_EQ(read.rounds[1].evaluation->success->count, 2);
  EXPECT_EQ(read.rounds[1].evaluation->success_by_fact.at("layout=swapped").total, 2);
  EXPECT_EQ(read.rounds[1].evaluation->mean_steps, 11.0);
  EXPECT_EQ(read.rounds[1].deployment->take_overs_by_episode, deployment().take_overs_by_episode);
  EXPECT_EQ(read.rounds[0].labels, whole().rounds[0].labels);
  EXPECT_EQ(read.methods[0].against[0].test.only_second, 2);
  EXPECT_EQ(read.methods[0].round, 2);
  EXPECT_EQ(read.corrections->alone, 1);
  EXPECT_EQ(read.animations[0].seed, 7);
  EXPECT_EQ(read.provenance->command, apo::provenance().command);
  EXPECT_EQ(read.seconds, 2.5);
}

// Of older releases: tests without their counts, and seeds in captions alone.
TEST(Summary, OfOlderReleasesIsRead) {
  TempDir dir;
  json older = json::parse(whole().json());
  older["methods"][0]["against"][0] = {
      {"method", "base"}, {"of", "success"}, {"difference", 0.06}, {"p", 0.453125}};
  older["animations"][0].erase("seed");
  older["rounds"][1].erase("promotion");
  const Summary read = read_back(dir, older.dump());
  EXPECT_EQ(read.methods[0].against[0].test.difference, 0.06);
  EXPECT_EQ(read.methods[0].against[0].test.p, 0.453125);
  EXPECT_EQ(read.methods[0].against[0].test.pairs, 0);
  EXPECT_EQ(read.animations[0].seed, 7);
  EXPECT_FALSE(read.rounds[1].promotion);
}

TEST(Summary, NamesWhatAPairedTestLacks) {
  TempDir dir;
  json damaged = json::parse(whole().json());
  damaged["rounds"][1]["promotion"].erase("only_in_use");
  try {
    read_back(dir, damaged.dump());
    FAIL() << "it was read";
  } catch (const DataError& error) {
    EXPECT_EQ(error.what(),
              (dir / "summary.json").string() +
                  ": rounds[1].promotion.only_in_use: expected a whole number, at least 0, found nothing");
  }
}

}  // namespace
}  // namespace apo::results
