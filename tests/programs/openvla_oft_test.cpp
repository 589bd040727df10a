// OpenVLA-OFT through the programs: chunks deployed, corrected within, refined, scored, exported.
#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "programs/tiny_loop.h"
#include "support/places.h"

namespace apo::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

// The tensors of a tiny plain OpenVLA, which are an OpenVLA-OFT's too, with an adapter; three steps at once.
class OftLoop : public TinyLoop {
 protected:
  void SetUp() override {
    const fs::path golden = apo::testing::in_source("tests/models/goldens/openvla/b");
    spit(config(), R"(
run: {dir: run, seed: 3, device: cpu, threads: 1}
policy:
  checkpoint: )" + (golden / "checkpoint").string() +
                       R"(
  adapter: )" + (golden / "adapter_new").string() +
                       R"(
  unnorm_key: tabletop
  cameras: [front]
  gripper: {open: 1, closed: 0}
  openvla: {dtype: float32, chunk_steps: 3}
environment: {type: tabletop, tabletop: {image_size: 32, max_steps: 40}}
deploy:
  collect: {take_overs: 2, episodes: 4}
  demonstrations: {episodes: 2}
  intervention: {scripted: {patience_steps: 13, ignore: [stuck, grasped air, passed by]}}
eval: {trials: 2, parallel: 2}
data:
  expert: [{path: demos.hdf5, gripper: {dimension: [6], open: -1, closed: 1}}]
  interactions: [{path: interactions.hdf5, gripper: {dimension: [6], open: -1, closed: 1}}]
  labels: {undesirable_reasons: [wrong object, off course, out of patience]}
  filter: {min_motion: 0}
  checks: warn
  augmentation: {enabled: false}
objective: {type: apo, z0: mismatched, beta: 0.03}
optimizer: {type: adam, learning_rate: 1.0e-3, weight_decay: 0}
schedule: {type: constant, warmup_steps: 0}
train: {batch_size: 8, max_steps: 4, checkpoint_every: 2}
logging: {per_sample: true}
)");
    auto recorded = run("apo-collect", {"--demonstrations", "--output", path("demos.hdf5")});
    ASSERT_EQ(recorded.exit_code, 0) << recorded.err;
    recorded = run("apo-collect", {"--output", path("interactions.hdf5")});
    ASSERT_EQ(recorded.exit_code, 0) << recorded.err;
  }
  std::vector<json> scores(const std::string& name, std::vector<std::string> more = {}) const {
    more.insert(more.begin(),
                {"--dataset", path("interactions.hdf5"), "--output", path(name), set("eval.decode=true")});
    const auto result = run("apo-eval", more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return lines(path(name));
  }
};

TEST_F(OftLoop, DeployedCorrectedRefinedScoredAndExported) {
  const auto before = scores("before.jsonl");
  std::set<size_t> lengths;
  for (const json& line : before) {
    const size_t steps = line["action"].size();
    lengths.insert(steps);
    EXPECT_EQ(line["token_log_probs"].size(), 7 * steps);
    EXPECT_EQ(line["decoded_tokens"].size(), 21u);
    EXPECT_EQ(line["decoded_action"].size(), 3u);
    for (const json& id : line["decoded_tokens"]) {
      EXPECT_GE(id, 608 - 256);
      EXPECT_LT(id, 608);
    }
  }
  EXPECT_EQ(lengths, (std::set<size_t>{1, 2, 3}));

  auto result = run("apo-train", {set("run.dir=" + path("apo"))});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto metrics = lines(path("apo/metrics.jsonl"));
  ASSERT_EQ(metrics.size(), 4u);
  EXPECT_EQ(metrics[0]["reward_desirable"], 0.0);  // the policy is still the reference
  EXPECT_EQ(metrics[0]["z0"], 0.0);
  EXPECT_NEAR(metrics[0]["unweighted_loss"].get<double>(), 0.5, 1e-6);
  EXPECT_NE(metrics[3]["reward_margin"], 0.0);

  // a run of ours needs none of the keys
  const std::vector<std::string> bare{set("policy.checkpoint=" + path("apo")), set("policy.adapter="),
                                      set("policy.cameras=[]"), set("policy.openvla.chunk_steps=0")};
  const auto after = scores("after.jsonl", bare);
  ASSERT_EQ(after.size(), before.size());
  double moved = 0;
  for (size_t i = 0; i < after.size(); ++i) {
    EXPECT_EQ(after[i]["target_tokens"], before[i]["target_tokens"]);
    moved += std::abs(after[i]["log_prob"].get<double>() - before[i]["log_prob"].get<double>());
  }
  EXPECT_GT(moved, 1e-3);

  result = run_program("apo-data", {"export", "--checkpoint", path("apo/checkpoints/latest"), "--output",
                                    path("merged"), "--dtype", "float32"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  auto merged_keys = bare;
  merged_keys[0] = set("policy.checkpoint=" + path("merged"));
  const auto merged = scores("merged.jsonl", merged_keys);
  for (size_t i = 0; i < after.size(); ++i)
    EXPECT_NEAR(after[i]["log_prob"].get<double>(), merged[i]["log_prob"].get<double>(), 2e-3);
}

TEST_F(OftLoop, ResumesAndRefusesWhatCannotBe) {
  ASSERT_EQ(run("apo-train", {set("run.dir=" + path("halves")), set("train.max_steps=2")}).exit_code, 0);
  const auto resumed = run("apo-train", {set("run.dir=" + path("halves")), "--resume"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  const auto complaint = [&](std::vector<std::string> arguments, int exit_code) {
    arguments.push_back(set("run.dir=" + path("refused")));
    const auto result = run("apo-train", arguments);
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    return result.err;
  };
  EXPECT_THAT(complaint({set("objective.type=tpo")}, 2),
              AllOf(HasSubstr("objective.type: tpo"), HasSubstr("3 steps")));
  EXPECT_THAT(complaint({set("policy.execute_steps=4")}, 2),
              HasSubstr("policy.execute_steps: expected at most 3"));
  EXPECT_THAT(complaint({set("policy.state_keys=[eef_height]")}, 2), HasSubstr("no state projector"));
  EXPECT_EQ(run("apo-train", {set("run.dir=" + path("credit")), set("objective.credit=dimension"),
                              set("objective.z0=exact"), set("train.max_steps=1")})
                .exit_code,
            0);
}

}  // namespace
}  // namespace apo::testing
