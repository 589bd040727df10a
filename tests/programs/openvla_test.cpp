// OpenVLA through the programs: deployed in the simulation, corrected, refined, scored, resumed.
#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "programs/tiny_loop.h"
#include "support/places.h"

namespace apo::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

std::vector<json> numbers(const std::string& path) {
  auto all = lines(path);
  for (json& line : all)
    for (const char* timing : {"samples_per_second", "step_seconds", "data_seconds", "memory_bytes"})
      line.erase(timing);
  return all;
}

// A tiny random OpenVLA (42 pixels, grouped keys) with the adapter that peft 0.11 wrote.
class OpenVlaLoop : public TinyLoop {
 protected:
  static fs::path golden() { return apo::testing::in_source("tests/models/goldens/openvla/b"); }
  static int64_t rank() {
    return json::parse(slurp(golden() / "adapter_old/adapter_config.json"))["r"].get<int64_t>();
  }

  void SetUp() override {
    const std::string base = (golden() / "checkpoint").string(),
                      adapter = (golden() / "adapter_old").string();
    spit(config(), R"(
run: {dir: run, seed: 3, device: cpu, threads: 1}
policy:
  checkpoint: )" + base +
                       R"(
  adapter: )" + adapter +
                       R"(
  unnorm_key: tabletop
  openvla: {dtype: float32}
  lora: {rank: )" + std::to_string(rank()) +
                       R"(}
environment: {type: tabletop, tabletop: {image_size: 32, max_steps: 40}}
deploy:
  collect: {take_overs: 2, episodes: 4}
  demonstrations: {episodes: 2}
  intervention: {scripted: {patience_steps: 12, ignore: [stuck, grasped air, passed by]}}
eval: {trials: 2, parallel: 2}
data:
  expert: [{path: demos.hdf5}]
  interactions: [{path: interactions.hdf5}]
  labels: {undesirable_reasons: [wrong object, off course, out of patience]}
  filter: {min_motion: 0}
  checks: warn
  augmentation: {enabled: false}
objective: {type: apo, z0: mismatched}
optimizer: {type: adam, learning_rate: 1.0e-3, weight_decay: 0}
schedule: {type: constant, warmup_steps: 0}
train: {batch_size: 8, max_steps: 4, checkpoint_every: 2}
logging: {per_sample: true}
)");
  }
  void collect() const {
    auto recorded = run("apo-collect", {"--demonstrations", "--output", path("demos.hdf5")});
    ASSERT_EQ(recorded.exit_code, 0) << recorded.err;
    recorded = run("apo-collect", {"--output", path("interactions.hdf5")});
    ASSERT_EQ(recorded.exit_code, 0) << recorded.err;
  }
};

TEST_F(OpenVlaLoop, DeployedCorrectedRefinedAndDeployedAgain) {
  collect();
  auto result = run("apo-train", {set("run.dir=" + path("apo"))});
  ASSERT_EQ(result.exit_code, 0) << result.err;

  const auto metrics = lines(path("apo/metrics.jsonl"));
  ASSERT_EQ(metrics.size(), 4u);
  EXPECT_EQ(metrics[0]["reward_desirable"], 0.0);  // the policy is still the reference
  EXPECT_EQ(metrics[0]["z0"], 0.0);
  EXPECT_NEAR(metrics[0]["unweighted_loss"].get<double>(), 0.5, 1e-6);
  EXPECT_NE(metrics[3]["reward_margin"], 0.0);
  EXPECT_TRUE(fs::exists(path("apo/checkpoints/latest/policy/adapter_model.safetensors")));
  EXPECT_FALSE(fs::exists(path("apo/checkpoints/latest/policy/model.safetensors")));

  // what training called the reference is what apo-eval makes of the starting adapter
  result = run("apo-eval", {"--dataset", path("interactions.hdf5"), "--output", path("scores.jsonl")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  std::map<std::tuple<std::string, std::string, int64_t>, double> scores;
  for (const json& line : lines(path("scores.jsonl"))) {
    ASSERT_EQ(line["token_log_probs"].size(), 8u);
    scores[{fs::path(line["file"].get<std::string>()).filename(), line["episode"], line["timestep"]}] =
        line["log_prob"];
  }
  int64_t compared = 0;
  for (const json& sample : lines(path("apo/samples.jsonl"))) {
    const auto found = scores.find(
        {fs::path(sample["file"].get<std::string>()).filename(), sample["episode"], sample["timestep"]});
    if (found == scores.end()) continue;
    EXPECT_NEAR(sample["reference_log_prob"].get<double>(), found->second, 1e-3);
    ++compared;
  }
  EXPECT_GT(compared, 8);

  result = run("apo-eval", {set("policy.checkpoint=" + path("apo")), set("policy.adapter="), "--output",
                            path("evaluation")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(json::parse(slurp(path("evaluation/results.json")))["trials"].size(), 2u);
}

TEST_F(OpenVlaLoop, ResumedEqualsUninterrupted) {
  collect();
  ASSERT_EQ(run("apo-train", {set("run.dir=" + path("whole"))}).exit_code, 0);
  ASSERT_EQ(run("apo-train", {set("run.dir=" + path("halves")), set("train.max_steps=2")}).exit_code, 0);
  const auto resumed = run("apo-train", {set("run.dir=" + path("halves")), "--resume"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_EQ(numbers(path("whole/metrics.jsonl")), numbers(path("halves/metrics.jsonl")));
  const std::string adapter = "/checkpoints/step-4/policy/adapter_model.safetensors";
  EXPECT_EQ(slurp(path("whole") + adapter), slurp(path("halves") + adapter));
}

// micro-batches, recomputed activations and a full copy as reference change memory, not numbers
TEST_F(OpenVlaLoop, WhatSavesMemoryKeepsTheNumbers) {
  collect();
  ASSERT_EQ(run("apo-train", {set("run.dir=" + path("plain"))}).exit_code, 0);
  const auto plain = numbers(path("plain/metrics.jsonl"));
  int64_t variant = 0;
  for (const char* option :
       {"train.micro_batch_size=3", "policy.openvla.activation_checkpointing=true", "reference.mode=copy"}) {
    const std::string dir = path("variant-" + std::to_string(variant++));
    const auto result = run("apo-train", {set("run.dir=" + dir), set(option)});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const auto other = numbers(dir + "/metrics.jsonl");
    for (size_t i = 0; i < plain.size(); ++i)
      for (const char* key : {"loss", "z0", "reward_margin", "grad_norm"})
        EXPECT_NEAR(plain[i][key].get<double>(), other[i][key].get<double>(),
                    2e-3 * (1 + std::abs(plain[i][key].get<double>())))
            << option << " " << key << " " << i;
  }
}

// Recomputed blocks cast their weights anew: casts kept from before an update would be the old weights.
TEST_F(OpenVlaLoop, RecomputationInBFloat16FollowsTheWeights) {
  collect();
  std::vector<json> runs[2];
  for (const int checkpointing : {0, 1}) {
    const std::string dir = path("run-" + std::to_string(checkpointing));
    const auto result =
        run("apo-train", {set("run.dir=" + dir), set("run.precision=bfloat16"),
                          set("objective={type: sft, reduction: mean}"),
                          set("data.pools={desirable: 1, intervention: 0, undesirable: 0}"),
                          set("optimizer.learning_rate=0.01"),
                          set(checkpointing ? "policy.openvla.activation_checkpointing=true"
                                            : "policy.openvla.activation_checkpointing=false")});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    runs[checkpointing] = numbers(dir + "/metrics.jsonl");
  }
  EXPECT_LT(runs[0][3]["loss"].get<double>(), runs[0][0]["loss"].get<double>());
  for (size_t i = 0; i < runs[0].size(); ++i)
    EXPECT_NEAR(runs[0][i]["loss"].get<double>(), runs[1][i]["loss"].get<double>(), 1e-3) << i;
}

// The released weights by hand: while policy = reference every unweighted loss is 0.5, so the loss is Σ λ /
// 2, with λ_D = 1 - exp(-w), λ_U = exp(-w), w = (l + 1e-4) / (Σ l + 1e-4) over the group.
TEST_F(OpenVlaLoop, ReleasedCodeWeighsAsTheReleasedProgram) {
  collect();
  const auto result =
      run("apo-train", {set("run.dir=" + path("released")), set("objective.compatibility=released-code"),
                        set("objective.z0=shifted-labels"), set("train.max_steps=1")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto samples = lines(path("released/samples.jsonl"));
  double sum[2] = {0, 0}, loss = 0;
  for (const json& sample : samples)
    sum[sample["desirable"].get<bool>()] += sample["action_l1"].get<double>();
  for (const json& sample : samples) {
    const bool desirable = sample["desirable"];
    const double w = (sample["action_l1"].get<double>() + 1e-4) / (sum[desirable] + 1e-4);
    const double lambda = desirable ? 1 - std::exp(-w) : std::exp(-w);
    EXPECT_NEAR(sample["lambda"].get<double>(), lambda, 1e-5);
    loss += lambda / 2;
  }
  EXPECT_NEAR(lines(path("released/metrics.jsonl"))[0]["loss"].get<double>(), loss, 1e-4);
}

TEST_F(OpenVlaLoop, WarnsOfAnAdapterOfAnotherBaseAndTakesARunForItsAdapter) {
  collect();
  ASSERT_EQ(run("apo-train", {set("run.dir=" + path("first")), set("train.max_steps=2")}).exit_code, 0);
  fs::copy(golden() / "checkpoint", path("other"), fs::copy_options::recursive);
  const auto other =
      run("apo-train", {set("policy.checkpoint=" + path("other")), set("policy.adapter=" + path("first")),
                        set("run.dir=" + path("second")), set("train.max_steps=1")});
  EXPECT_EQ(other.exit_code, 0) << other.err;
  EXPECT_THAT(other.err, HasSubstr("this adapter was trained on"));
}

TEST_F(OpenVlaLoop, DryRunSaysWhatItWouldTake) {
  collect();
  const auto result = run("apo-train", {"--dry-run", set("policy.openvla.activation_checkpointing=true")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("language_model"), HasSubstr("vision_backbone"), HasSubstr("projector"),
                    HasSubstr("adapter"), HasSubstr("activations of one micro-batch")));
}

TEST_F(OpenVlaLoop, WrongInputIsNamedOnce) {
  const auto complaint = [&](std::vector<std::string> arguments, int exit_code) {
    const auto result = run("apo-train", arguments);
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    return result.err;
  };
  collect();
  EXPECT_THAT(complaint({set("policy.unnorm_key=garage")}, 3),
              AllOf(HasSubstr("garage"), HasSubstr("kitchen, tabletop")));
  EXPECT_THAT(complaint({set("policy.lora.rank=31")}, 2), HasSubstr("policy.lora.rank"));
  EXPECT_THAT(complaint({set("policy.cameras=[wrist]")}, 3), AllOf(HasSubstr("wrist"), HasSubstr("front")));
  EXPECT_THAT(complaint({set("policy.openvla.dtype=float8")}, 2), HasSubstr("policy.openvla.dtype"));
  EXPECT_THAT(complaint({set("policy.checkpoint="), set("policy.adapter="), set("policy.type=openvla")}, 2),
              HasSubstr("policy.checkpoint"));
}

}  // namespace
}  // namespace apo::testing
