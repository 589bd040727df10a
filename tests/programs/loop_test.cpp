// The loop by hand and in one program, on the real simulator, small.
#include <gmock/gmock.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "programs/tiny_loop.h"

namespace apo::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// the numbers of a run that must not depend on when it was stopped
std::vector<json> numbers_of_run(const std::string& path) {
  auto all = lines(path);
  for (json& line : all)
    for (const char* timing : {"samples_per_second", "step_seconds", "data_seconds", "memory_bytes"})
      line.erase(timing);
  return all;
}

class Loop : public TinyLoop {
 protected:
  void collect_interactions() const {
    const auto result =
        run("apo-collect", {set("policy.checkpoint=" + path("base")), "--output", path("interactions.hdf5")});
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }
  std::vector<std::string> apo(const std::string& run_dir, std::vector<std::string> more = {}) const {
    std::vector<std::string> all = {
        expert(), set("data.interactions=[{path: " + path("interactions.hdf5") + "}]"),
        set("policy.checkpoint=" + path("base")), set("run.dir=" + path(run_dir))};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

TEST_F(Loop, ByHandInFiveCommands) {
  train_base();
  collect_interactions();
  const auto trained = run("apo-train", apo("apo", {set("logging.per_sample=true")}));
  ASSERT_EQ(trained.exit_code, 0) << trained.err;

  const auto metrics = lines(path("apo/metrics.jsonl"));
  ASSERT_EQ(metrics.size(), 6u);
  // at the first step the policy is the reference: r = 0, z0 = 0, every unweighted loss is 0.5
  EXPECT_EQ(metrics[0]["reward_desirable"], 0.0);
  EXPECT_EQ(metrics[0]["z0"], 0.0);
  EXPECT_NEAR(metrics[0]["unweighted_loss"].get<double>(), 0.5, 1e-6);
  EXPECT_EQ(metrics[0]["num_desirable"].get<int>() + metrics[0]["num_undesirable"].get<int>(), 8);
  const auto samples = lines(path("apo/samples.jsonl"));
  ASSERT_EQ(samples.size(), 48u);
  for (const json& sample : samples)
    if (sample["step"] == samples.front()["step"]) {
      EXPECT_NEAR(sample["loss"].get<double>(), 0.5 * sample["lambda"].get<double>(), 1e-6);
    }
  EXPECT_TRUE(std::filesystem::exists(path("apo/report.html")));

  const auto evaluated =
      run("apo-eval", {set("policy.checkpoint=" + path("apo")), "--output", path("evaluation")});
  ASSERT_EQ(evaluated.exit_code, 0) << evaluated.err;
  EXPECT_EQ(json::parse(slurp(path("evaluation/results.json")))["trials"].size(), 4u);
}

TEST_F(Loop, AnotherObjectiveAndAnotherKBySetAlone) {
  train_base();
  collect_interactions();
  const auto trained = run(
      "apo-train", apo("kto", {set("objective.type=kto"), set("data.labels.steps_before_intervention=3")}));
  EXPECT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(slurp(path("kto/config.yaml")), HasSubstr("steps_before_intervention: 3"));
}

// A z0 that is held at -0.5 is at its lower clamp in every step: a sign that needs no luck.
TEST_F(Loop, AGuardThatStopsSavesAndReportsAndLetsOneGoOn) {
  train_base();
  collect_interactions();
  std::vector<std::string> clamped = {set("objective.kl_min=-0.5"), set("objective.kl_max=-0.5"),
                                      set("train.max_steps=22"), set("train.guard=stop")};
  const auto dry = run("apo-train", apo("guarded", {"--dry-run"}));
  EXPECT_THAT(dry.out, HasSubstr("objective    the undesirable samples weigh 1.32 times the desirable ones"));
  const auto stopped = run("apo-train", apo("guarded", clamped));
  EXPECT_EQ(stopped.exit_code, 4) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("step 20: z0 is at its lower clamp"));
  EXPECT_THAT(stopped.err, HasSubstr("saved " + path("guarded/checkpoints/step-20")));
  EXPECT_TRUE(std::filesystem::exists(path("guarded/report.html")));
  clamped.emplace_back("--resume");
  const auto resumed = run("apo-train", apo("guarded", clamped));
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_EQ(lines(path("guarded/metrics.jsonl")).size(), 22u);
}

TEST_F(Loop, ScoresADatasetLineByLine) {
  train_base();
  const auto scored = run("apo-eval", {set("policy.checkpoint=" + path("base")), "--dataset",
                                       path("demos.hdf5"), "--output", path("scores.jsonl")});
  ASSERT_EQ(scored.exit_code, 0) << scored.err;
  const auto scores = lines(path("scores.jsonl"));
  ASSERT_GT(scores.size(), 50u);
  for (const char* key : {"file", "episode", "timestep", "log_prob", "token_log_probs", "target_tokens",
                          "predicted_tokens", "predicted_action", "action", "action_l1"})
    EXPECT_TRUE(scores[0].contains(key)) << key;
  double sum = 0;
  for (const double token : scores[0]["token_log_probs"]) sum += token;
  EXPECT_NEAR(sum, scores[0]["log_prob"].get<double>(), 1e-4);
}

TEST_F(Loop, ConfigYamlOfARunReproducesIt) {
  train_base();
  const auto again =
      run_program("apo-train", {"--config", path("base/config.yaml"), "--set", "run.dir=" + path("again")});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(numbers_of_run(path("base/metrics.jsonl")), numbers_of_run(path("again/metrics.jsonl")));
}

TEST_F(Loop, ResumedAfterKillEqualsUninterrupted) {
  record_demonstrations();
  const std::vector<std::string> longer = {set("train.max_steps=40")};
  ASSERT_EQ(run("apo-train", sft("whole", longer)).exit_code, 0);
  {
    auto arguments = sft("killed", longer);
    arguments.insert(arguments.begin(), {"--config", config()});
    RunningProgram victim("apo-train", arguments, dir_.path());
    while (victim.running() && !std::filesystem::exists(path("killed/checkpoints/step-8"))) ::usleep(1000);
    victim.send(SIGKILL);
    victim.wait();
  }
  auto resumed = longer;
  resumed.push_back("--resume");
  const auto result = run("apo-train", sft("killed", resumed));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(numbers_of_run(path("whole/metrics.jsonl")), numbers_of_run(path("killed/metrics.jsonl")));
}

TEST_F(Loop, InterruptSavesAndExits130) {
  record_demonstrations();
  auto arguments = sft("base", {set("train.max_steps=100000"), set("train.checkpoint_every=100000")});
  arguments.insert(arguments.begin(), {"--config", config()});
  RunningProgram program("apo-train", arguments, dir_.path());
  while (program.running() && slurp(path("base/metrics.jsonl")).empty()) ::usleep(20000);
  program.send(SIGINT);
  EXPECT_EQ(program.wait().exit_code, 130);
  EXPECT_TRUE(std::filesystem::exists(path("base/checkpoints/latest")));
}

TEST_F(Loop, WhatWasRecordedBeforeAKillIsReadable) {
  auto arguments =
      std::vector<std::string>{"--config", config(),           "--demonstrations",
                               "--output", path("demos.hdf5"), set("deploy.demonstrations.episodes=100000")};
  {
    RunningProgram victim("apo-collect", arguments, dir_.path());
    while (victim.running() && slurp(path("demos.hdf5.json")).find("\"recorded\"") == std::string::npos)
      ::usleep(5000);
    ::usleep(300000);
    victim.send(SIGKILL);
    victim.wait();
  }
  const int64_t promised = json::parse(slurp(path("demos.hdf5.json")))["recorded"];
  ASSERT_GT(promised, 0);
  const auto inspected = run_program("apo-data", {"inspect", path("demos.hdf5"), "--json"});
  ASSERT_EQ(inspected.exit_code, 0) << inspected.err;
  EXPECT_GE(json::parse(inspected.out)["total"]["episodes"].get<int64_t>(), promised);
}

TEST_F(Loop, DryRunTouchesNothing) {
  record_demonstrations();
  const auto result = run("apo-train", sft("dry", {"--dry-run"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("parameters"));
  EXPECT_FALSE(std::filesystem::exists(path("dry")));
}

TEST_F(Loop, RefineRunsAllStagesAndResumes) {
  const auto first = run("apo-refine", {set("run.dir=" + path("loop"))});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const json summary = json::parse(slurp(path("loop/summary.json")));
  ASSERT_EQ(summary["rounds"].size(), 2u);
  EXPECT_EQ(summary["rounds"][0]["objective"], "sft");
  EXPECT_EQ(summary["rounds"][1]["objective"], "apo");
  EXPECT_EQ(summary["rounds"][1]["evaluation"]["trials"], 4);
  EXPECT_TRUE(std::filesystem::exists(path("loop/report.html")));
  // the promoted policy is not worse than the base
  const auto rate = [&](int round) {
    return summary["rounds"][round]["evaluation"]["success_rate"].get<double>();
  };
  EXPECT_EQ(summary["rounds"][1]["promoted"].get<bool>(), rate(1) >= rate(0));
  const auto& promotion = summary["rounds"][1]["promotion"];
  EXPECT_NEAR(promotion["difference"].get<double>(), rate(1) - rate(0), 1e-12);
  EXPECT_FALSE(summary["rounds"][0].contains("promotion"));

  const auto again = run("apo-refine", {set("run.dir=" + path("loop")), "--resume"});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("done before"));
  EXPECT_EQ(run("apo-refine", {set("run.dir=" + path("loop"))}).exit_code, 2);
}

// summary.json without what measures time, says where it comes from, or holds run.dir
json numbers_of_loop(const std::string& path) {
  json summary = json::parse(slurp(path));
  for (const char* key : {"seconds", "config", "command", "provenance"}) summary.erase(key);
  for (json& round : summary["rounds"]) {
    round.erase("train_seconds");
    round["evaluation"].erase("seconds");
    if (round["deployment"].is_object()) round["deployment"].erase("seconds");
  }
  return summary;
}

TEST_F(Loop, MoreRoundsGoOnAsIfMeantFromTheBeginning) {
  const auto refine = [&](const std::string& name, const char* rounds, std::vector<std::string> more = {}) {
    more.push_back(set("run.dir=" + path(name)));
    more.push_back(set(std::string("refine.rounds=") + rounds));
    more.push_back(set("refine.animations=1"));
    return run("apo-refine", more);
  };
  ASSERT_EQ(refine("continued", "1").exit_code, 0);
  const auto continued = refine("continued", "2", {"--resume"});
  ASSERT_EQ(continued.exit_code, 0) << continued.err;
  EXPECT_THAT(continued.err, HasSubstr("round-1/training: done before"));
  ASSERT_EQ(refine("whole", "2").exit_code, 0);
  const json numbers = numbers_of_loop(path("continued/summary.json"));
  EXPECT_EQ(numbers["rounds"].size(), 3u);
  EXPECT_EQ(numbers, numbers_of_loop(path("whole/summary.json")));
  const char* metrics = "/round-2/training/metrics.jsonl";
  EXPECT_EQ(numbers_of_run(path(std::string("continued") + metrics)),
            numbers_of_run(path(std::string("whole") + metrics)));
  EXPECT_THAT(slurp(path("continued/config.yaml")), HasSubstr("rounds: 2"));

  // how fast it goes and how much it says is nobody's result
  const auto faster = refine(
      "continued", "2", {"--resume", set("run.threads=2"), set("eval.threads=1"), set("logging.every=7")});
  EXPECT_EQ(faster.exit_code, 0) << faster.err;
  EXPECT_EQ(numbers_of_loop(path("continued/summary.json")), numbers);

  const auto fewer = refine("continued", "1", {"--resume"});
  EXPECT_EQ(fewer.exit_code, 2);
  EXPECT_THAT(fewer.err, HasSubstr("refine.rounds: 2 -> 1"));
  const auto other = refine("continued", "3", {"--resume", set("objective.beta=0.3")});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.err, ::testing::AllOf(HasSubstr("objective.beta: 0.1 -> 0.3"),
                                          HasSubstr("only refine.rounds may grow"),
                                          ::testing::Not(HasSubstr("refine.rounds: "))));
  std::vector<std::string> ten = {"--resume"};
  for (const char* key : {"beta", "kl_max", "sft_weight", "label_smoothing_bins"})
    for (const char* section : {"objective.", "refine.base.objective."})
      ten.push_back(set(std::string(section) + key + "=2"));
  for (const char* key : {"eval.trials=3", "eval.seed=3"}) ten.push_back(set(key));
  const auto many = refine("continued", "2", ten);
  EXPECT_EQ(many.exit_code, 2);
  EXPECT_THAT(many.err, ::testing::ContainsRegex("[a-z_.]+: [0-9.]+ -> [0-9.]+, and [0-9]+ more\\); only"));

  // begun when the demonstrations' habit stood elsewhere
  std::string old = slurp(path("continued/config.yaml"));
  const std::string now = old, own = "\n    demonstration_habit: 1";
  ASSERT_NE(old.find(own), std::string::npos);
  old.erase(old.find(own), own.size());
  const size_t demonstrations = old.find("\n    episodes: 6", old.find("\n  demonstrations:"));
  ASSERT_NE(demonstrations, std::string::npos);
  old.insert(demonstrations, "\n    habit: 1");
  spit(path("continued/config.yaml"), old);
  const auto elsewhere = refine("continued", "2", {"--resume"});
  EXPECT_EQ(elsewhere.exit_code, 0) << elsewhere.err;
  for (const auto& [habit, changed] : {std::pair("0.75", "0.75 -> 1"), std::pair("null", "0.5 -> 1")}) {
    std::string another = old;
    another.replace(another.find("\n    habit: 1"), std::string("\n    habit: 1").size(),
                    std::string("\n    habit: ") + habit);
    spit(path("continued/config.yaml"), another);
    const auto refused = refine("continued", "2", {"--resume"});
    EXPECT_EQ(refused.exit_code, 2);
    EXPECT_THAT(refused.err, HasSubstr(std::string("environment.tabletop.demonstration_habit: ") + changed));
  }
  spit(path("continued/config.yaml"), now);

  // begun before there was a hold: it had none, and does not get one
  old = now;
  for (size_t at = old.find("reference_kl_weight:"); at != std::string::npos;
       at = old.find("reference_kl_weight:"))
    old.erase(old.rfind('\n', at), old.find('\n', at) - old.rfind('\n', at));
  spit(path("continued/config.yaml"), old);
  const auto held = refine("continued", "2", {"--resume"});
  EXPECT_EQ(held.exit_code, 2);
  EXPECT_THAT(held.err, HasSubstr("objective.reference_kl_weight: 0 -> 3"));
  EXPECT_EQ(slurp(path("continued/config.yaml")), old);
  const auto as_it_was = refine("continued", "2", {"--resume", set("objective.reference_kl_weight=0")});
  EXPECT_EQ(as_it_was.exit_code, 0) << as_it_was.err;
}

TEST_F(Loop, OverwriteTakesNothingThatTheLoopDidNotWrite) {
  std::filesystem::create_directories(path("mine"));
  spit(path("mine/config.yaml"), "my: own");
  const auto refused = run("apo-refine", {set("run.dir=" + path("mine")), "--overwrite"});
  EXPECT_EQ(refused.exit_code, 2) << refused.err;
  EXPECT_THAT(refused.err, HasSubstr("state.json"));
  EXPECT_EQ(slurp(path("mine/config.yaml")), "my: own");

  const std::vector<std::string> only_base = {set("run.dir=" + path("loop")), set("refine.rounds=0")};
  ASSERT_EQ(run("apo-refine", only_base).exit_code, 0);
  spit(path("loop/notes.txt"), "keep me");
  auto overwrite = only_base;
  overwrite.push_back("--overwrite");
  const auto again = run("apo-refine", overwrite);
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(slurp(path("loop/notes.txt")), "keep me");
}

TEST_F(Loop, ALaterRoundMayHaveAnotherHumanAndObjective) {
  const std::string later =
      "refine.later=[{from_round: 2, set: ['deploy.intervention.type=none', 'train.max_steps=2', "
      "'data.pools={desirable: 1, intervention: 0, undesirable: 0}']}]";
  const auto done = run("apo-refine", {set("refine.rounds=2"), set(later), set("run.dir=" + path("loop"))});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  const json rounds = json::parse(slurp(path("loop/summary.json")))["rounds"];
  ASSERT_EQ(rounds.size(), 3u);
  EXPECT_EQ(rounds[1]["deployment"]["take_overs"], 2);
  EXPECT_EQ(rounds[2]["deployment"]["take_overs"], 0);
  EXPECT_EQ(lines(path("loop/round-1/training/metrics.jsonl")).size(), 6u);
  EXPECT_EQ(lines(path("loop/round-2/training/metrics.jsonl")).size(), 2u);
}

TEST_F(Loop, AWrongLaterOptionIsToldBeforeTheFirstStep) {
  const auto key =
      run("apo-refine", {set("refine.later=[{set: [eval.trials=3]}]"), set("run.dir=" + path("loop"))});
  EXPECT_EQ(key.exit_code, 2);
  EXPECT_THAT(key.err, HasSubstr("refine.later[0].set[0]: expected a key of deploy.intervention"));
  const auto pools = run(
      "apo-refine", {set("refine.later=[{set: ['train.batch_size=1']}]"), set("run.dir=" + path("loop"))});
  EXPECT_EQ(pools.exit_code, 2);
  EXPECT_THAT(pools.err, HasSubstr("refine.later[0]: "));
  EXPECT_FALSE(std::filesystem::exists(path("loop/config.yaml")));
}

}  // namespace
}  // namespace apo::testing
