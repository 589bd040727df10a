// The built-in policy with chunks through the programs: deployed, corrected within, refined, scored, resumed.
#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "apo/data/trajectory.h"
#include "programs/tiny_loop.h"

namespace apo::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Three steps at once; a base and what was recorded of it.
class ChunkLoop : public TinyLoop {
 protected:
  static constexpr int64_t kHorizon = 3;
  void SetUp() override {
    std::string text = kTinyConfig;
    const std::string small = "small: {";
    text.insert(text.find(small) + small.size(), "horizon: 3, ");
    spit(config(), text);
    train_base();
    const auto recorded = run("apo-collect", {base(), "--output", path("interactions.hdf5")});
    ASSERT_EQ(recorded.exit_code, 0) << recorded.err;
  }
  std::string base() const { return set("policy.checkpoint=" + path("base")); }
  std::vector<std::string> apo(const std::string& run_dir, std::vector<std::string> more = {}) const {
    more.insert(more.begin(),
                {base(), expert(), set("data.interactions=[{path: " + path("interactions.hdf5") + "}]"),
                 set("objective.type=apo"), set("objective.weights.type=uniform"),
                 set("objective.credit=dimension"), set("objective.label_smoothing_bins=2"),
                 set("schedule={type: constant, warmup_steps: 0}"), set("run.dir=" + path(run_dir))});
    return more;
  }
};

TEST_F(ChunkLoop, RecordsWhenThePolicyWasAskedAndTheHumanStepsInWithinAChunk) {
  const auto file = data::TrajectoryFile::open(path("interactions.hdf5"));
  std::set<int64_t> offsets, offsets_before_take_over;
  for (int64_t i = 0; i < file->num_episodes(); ++i) {
    const data::EpisodeRecord episode = file->episode(i);
    for (size_t t = 0; t < episode.actions.size(); ++t) {
      if (episode.sources[t] != ActionSource::policy) continue;
      ASSERT_TRUE(episode.decision_offsets[t]);
      const int64_t offset = *episode.decision_offsets[t];
      offsets.insert(offset);
      const bool goes_on = t > 0 && episode.sources[t - 1] == ActionSource::policy;
      const int64_t before = goes_on ? *episode.decision_offsets[t - 1] : -1;
      EXPECT_EQ(offset, goes_on ? (before + 1) % kHorizon : 0) << i << " " << t;
      if (t + 1 < episode.actions.size() && episode.sources[t + 1] == ActionSource::intervention)
        offsets_before_take_over.insert(offset);
    }
  }
  EXPECT_EQ(offsets, (std::set<int64_t>{0, 1, 2}));
  EXPECT_FALSE(offsets_before_take_over.empty());

  const auto again = run("apo-collect", {base(), set("policy.execute_steps=2"),
                                         set("deploy.collect.episodes=1"), "--output", path("two.hdf5")});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  for (const auto& offset : data::TrajectoryFile::open(path("two.hdf5"))->episode(0).decision_offsets)
    EXPECT_LT(offset.value_or(0), 2);
}

TEST_F(ChunkLoop, ScoresAreListsOfTheStepsThatThereAre) {
  const auto scored = run("apo-eval", {base(), "--dataset", path("interactions.hdf5"), "--output",
                                       path("scores.jsonl"), set("eval.decode=true")});
  ASSERT_EQ(scored.exit_code, 0) << scored.err;
  std::set<size_t> lengths;
  for (const json& line : lines(path("scores.jsonl"))) {
    const size_t steps = line["action"].size();
    lengths.insert(steps);
    const auto tokens = line["token_log_probs"].get<std::vector<double>>();
    EXPECT_EQ(tokens.size(), 7 * steps);
    EXPECT_NEAR(std::accumulate(tokens.begin(), tokens.end(), 0.0), line["log_prob"].get<double>(), 1e-4);
    EXPECT_EQ(line["predicted_action"].size(), steps);
    EXPECT_EQ(line["decoded_tokens"].size(), 21u);
    EXPECT_EQ(line["decoded_action"].size(), 3u);
  }
  EXPECT_EQ(lengths, (std::set<size_t>{1, 2, 3}));
}

TEST_F(ChunkLoop, EveryEstimatorBeginsAtTheReferenceAndATrainingResumesBitForBit) {
  for (const std::string z0 : {"exact", "mismatched", "shifted-labels"}) {
    const auto trained = run("apo-train", apo(z0, {set("objective.z0=" + z0)}));
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
    const auto metrics = lines(path(z0 + "/metrics.jsonl"));
    ASSERT_EQ(metrics.size(), 6u);
    EXPECT_EQ(metrics[0]["reward_desirable"], 0.0) << z0;
    EXPECT_EQ(metrics[0]["z0"], 0.0) << z0;
    EXPECT_NEAR(metrics[0]["unweighted_loss"].get<double>(), 0.5, 1e-6) << z0;
    EXPECT_NE(metrics[5]["reward_margin"], 0.0) << z0;
  }
  const std::string exact = set("objective.z0=exact");
  ASSERT_EQ(run("apo-train", apo("halves", {exact, set("train.max_steps=4")})).exit_code, 0);
  const auto resumed = run("apo-train", apo("halves", {exact, "--resume"}));
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  const std::string weights = "/checkpoints/latest/policy/model.safetensors";
  EXPECT_EQ(slurp(path("halves" + weights)), slurp(path("exact" + weights)));
  EXPECT_FALSE(slurp(path("exact" + weights)).empty());
}

TEST_F(ChunkLoop, WhatContradictsTheCheckpointIsRefused) {
  const auto complaint = [&](const std::string& assignment) {
    const auto refused = run("apo-train", apo("refused", {set(assignment)}));
    EXPECT_EQ(refused.exit_code, 2) << refused.err;
    return refused.err;
  };
  EXPECT_THAT(complaint("policy.small.horizon=1"),
              AllOf(HasSubstr("policy.small.horizon: is 1"), HasSubstr("horizon 3")));
  EXPECT_THAT(complaint("policy.execute_steps=4"), HasSubstr("policy.execute_steps: expected at most 3"));
  EXPECT_THAT(complaint("objective.type=tpo"), HasSubstr("3 steps at once"));
  const auto plain =
      run("apo-train", apo("plain", {set("policy.small.horizon=0"), set("train.max_steps=1")}));
  EXPECT_EQ(plain.exit_code, 0) << plain.err;
}

// configs/tabletop_chunks.yaml, all of it, with small numbers.
class ShippedChunks : public TinyLoop {
 protected:
  ProgramResult refine(const std::string& run_dir, std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"--config", "tabletop_chunks", set("run.dir=" + path(run_dir))};
    for (const char* small : {"policy.small.image_size=32",
                              "policy.small.width=16",
                              "policy.small.layers=1",
                              "policy.small.heads=2",
                              "policy.small.channels=4",
                              "environment.tabletop.image_size=32",
                              "deploy.demonstrations.episodes=6",
                              "deploy.collect.take_overs=2",
                              "deploy.collect.episodes=8",
                              "deploy.intervention.scripted.patience_steps=12",
                              "refine.animations=0",
                              "data.labels.undesirable_reasons=[wrong object, out of patience]",
                              "eval.trials=4",
                              "eval.parallel=4",
                              "train.batch_size=8",
                              "train.max_steps=4",
                              "train.checkpoint_every=2",
                              "refine.base.train.batch_size=8",
                              "refine.base.train.max_steps=4",
                              "refine.base.train.checkpoint_every=2",
                              "schedule.warmup_steps=1",
                              "refine.base.schedule.warmup_steps=1"})
      arguments.push_back(set(small));
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program("apo-refine", arguments);
  }
};

TEST_F(ShippedChunks, LookThroughTwoCamerasAndDecideFourSteps) {
  const auto refined = refine("loop", {set("eval.disruptions=[camera_moved]")});
  ASSERT_EQ(refined.exit_code, 0) << refined.err;
  const json summary = json::parse(slurp(path("loop/summary.json")));
  ASSERT_EQ(summary["rounds"].size(), 2u);
  EXPECT_EQ(summary["rounds"][1]["objective"], "apo");
  const auto recorded = data::TrajectoryFile::open(path("loop/demonstrations.hdf5"));
  for (const data::EpisodeRecord& episode : {recorded->episode(0), recorded->episode(5)}) {
    ASSERT_EQ(episode.cameras.size(), 2u);
    EXPECT_TRUE(episode.cameras.contains("front") && episode.cameras.contains("wrist"));
  }
  const auto images = recorded->observation(0, 3).images;
  EXPECT_FALSE(at::equal(images.at("front"), images.at("wrist")));
  const std::string options = slurp(path("loop/config.yaml"));
  EXPECT_THAT(options, AllOf(HasSubstr("cameras: [front, wrist]"), HasSubstr("execute_steps: 4"),
                             HasSubstr("beta: 0.5")));
  size_t policies = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path("loop"))) {
    if (entry.path().filename() != "preprocessor_config.json") continue;
    ++policies;
    EXPECT_EQ(json::parse(slurp(entry.path()))["cameras"], json({"front", "wrist"})) << entry.path();
  }
  EXPECT_GE(policies, 2u);
}

TEST_F(ShippedChunks, ACameraThatIsNotRecordedIsNamedWithTheOnesThatAre) {
  const auto refused = refine("one", {set("environment.tabletop.cameras=[front]")});
  EXPECT_EQ(refused.exit_code, 2) << refused.err;
  EXPECT_THAT(refused.err, HasSubstr("policy.cameras: the data has no \"wrist\"; there are: front"));
  const auto unknown = refine("unknown", {set("environment.tabletop.cameras=[front, hand]")});
  EXPECT_EQ(unknown.exit_code, 2) << unknown.err;
  EXPECT_THAT(unknown.err, HasSubstr("environment.tabletop.cameras: expected front, wrist or both"));
}

}  // namespace
}  // namespace apo::testing
