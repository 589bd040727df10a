// Methods side by side, on the real simulator, small; and a loop that is killed where it hurts.
#include <gmock/gmock.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "programs/tiny_loop.h"
#include "support/places.h"

namespace apo::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kMethods =
    "refine.comparison={episodes: 3, against: [base, sft], methods: ["
    "{name: sft, objective: {type: sft}, pools: {desirable: 0.5, intervention: 0.5, undesirable: 0}},"
    "{name: demonstrations only, interactions: false, objective: {type: sft},"
    " pools: {desirable: 1, intervention: 0, undesirable: 0}},"
    "{name: dpo, objective: {type: dpo}, pools: {desirable: 0, intervention: 1, undesirable: 0}},"
    "{name: tpo, objective: {type: tpo}}]}";

class Comparing : public TinyLoop {
 protected:
  std::vector<std::string> loop(const std::string& name, std::vector<std::string> more = {}) const {
    std::vector<std::string> all = {set("run.dir=" + path(name)), set(kMethods), set("refine.rounds=2")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  // comparison.json without what measures time
  json results(const std::string& name) const {
    json comparison = json::parse(slurp(path(name + "/comparison.json")));
    for (json& result : comparison["results"]) result.erase("train_seconds");
    return comparison;
  }
};

TEST_F(Comparing, EveryMethodLearnsFromTheSameCorrections) {
  const auto done = run("apo-refine", loop("loop"));
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(done.out, AllOf(HasSubstr("## After 1 round"), HasSubstr("## After 2 rounds"),
                              HasSubstr("| demonstrations only |"), HasSubstr("success against sft")));
  const json comparison = results("loop");
  ASSERT_EQ(comparison["results"].size(), 10u);  // base and four methods, two rounds
  for (const json& result : comparison["results"]) {
    EXPECT_EQ(result["success"].size(), 4u);
    EXPECT_EQ(result["take_overs"].size(), 3u);
    EXPECT_EQ(result["steps"], result["method"] == "base" ? 4 : 6);
  }
  // the base's trials are the same after every round
  EXPECT_EQ(comparison["results"][0]["success"], comparison["results"][5]["success"]);
  const json summary = json::parse(slurp(path("loop/summary.json")));
  ASSERT_EQ(summary["methods"].size(), 10u);
  const auto labels = [&](size_t i) { return summary["methods"][i]["labels"]; };
  EXPECT_EQ(labels(1), labels(3));  // sft and dpo: the same recordings
  const json of_control = labels(2);
  for (const auto& [name, count] : of_control.items())
    EXPECT_THAT(name, ::testing::StartsWith("expert/")) << count;
  // after the second round each has its own recordings besides
  EXPECT_NE(labels(6), labels(1));
  EXPECT_TRUE(std::filesystem::exists(path("loop/methods/4-tpo/round-2/training/metrics.jsonl")));
  EXPECT_TRUE(
      std::filesystem::exists(path("loop/methods/2-demonstrations-only/round-1/evaluation/results.json")));
  const std::string report = slurp(path("loop/report.html"));
  EXPECT_THAT(report, AllOf(HasSubstr("Methods side by side"), HasSubstr("Success by method")));
  EXPECT_EQ(std::filesystem::canonical(path("loop/policy")),
            std::filesystem::canonical(path("loop/base/training/checkpoints/step-4")));
}

TEST_F(Comparing, AnotherRoundGoesOnAsIfMeantFromTheBeginning) {
  const std::string methods =
      set("refine.comparison={episodes: 2, methods: [{name: sft, objective: {type: sft}}]}");
  const auto refine = [&](const std::string& name, const char* rounds, std::vector<std::string> more = {}) {
    more.insert(more.end(),
                {methods, set("run.dir=" + path(name)), set(std::string("refine.rounds=") + rounds)});
    return run("apo-refine", more);
  };
  ASSERT_EQ(refine("continued", "1").exit_code, 0);
  const auto continued = refine("continued", "2", {"--resume"});
  ASSERT_EQ(continued.exit_code, 0) << continued.err;
  ASSERT_EQ(refine("whole", "2").exit_code, 0);
  EXPECT_EQ(results("continued"), results("whole"));
  EXPECT_EQ(slurp(path("continued/comparison.md")), slurp(path("whole/comparison.md")));
  EXPECT_THAT(slurp(path("continued/comparison.md")), HasSubstr("## After 2 rounds"));
}

TEST_F(Comparing, MergesLoopsIntoOneTable) {
  const std::vector<std::string> small = {
      set("refine.rounds=1"),
      set("refine.comparison={episodes: 2, methods: [{name: sft, objective: {type: sft}}]}")};
  for (const char* seed : {"1", "2"}) {
    auto arguments = small;
    arguments.push_back(set("run.dir=" + path(seed)));
    arguments.push_back(set(std::string("run.seed=") + seed));
    const auto done = run("apo-refine", arguments);
    ASSERT_EQ(done.exit_code, 0) << done.err;
  }
  const auto merged =
      run_program("apo-refine", {"--merge", path("1"), path("2"), "--output", path("tables.md")});
  ASSERT_EQ(merged.exit_code, 0) << merged.err;
  EXPECT_THAT(slurp(path("tables.md")), HasSubstr("2 freshly trained bases, 4 trials"));
  // once more, as when a comparison goes on; what is no such table stays
  const std::string tables = slurp(path("tables.md"));
  EXPECT_EQ(
      run_program("apo-refine", {"--merge", path("1"), path("2"), "--output", path("tables.md")}).exit_code,
      0);
  EXPECT_EQ(slurp(path("tables.md")), tables);
  spit(path("notes.md"), "## My notes\n");
  // a table that reaches nobody is none
  const std::string lost = "'" + apo::testing::in_build("bin/apo-refine") + "' --merge '" + path("1") +
                           "' > /dev/full 2> /dev/null";
  EXPECT_EQ(WEXITSTATUS(std::system(lost.c_str())), 4);
  const auto notes = run_program("apo-refine", {"--merge", path("1"), "--output", path("notes.md")});
  EXPECT_EQ(notes.exit_code, 2);
  EXPECT_EQ(slurp(path("notes.md")), "## My notes\n");
  const auto missing = run_program("apo-refine", {"--merge", path("1"), path("3")});
  EXPECT_EQ(missing.exit_code, 3);
  EXPECT_THAT(missing.err, HasSubstr("3/comparison.json"));
}

TEST_F(Comparing, WrongMethodsAreRefusedBeforeAnythingRuns) {
  const auto twice = run("apo-refine", {set("run.dir=" + path("loop")),
                                        set("refine.comparison.methods=[{name: a}, {name: a}]")});
  EXPECT_EQ(twice.exit_code, 2);
  EXPECT_THAT(twice.err, HasSubstr("refine.comparison.methods[1].name"));
  const auto later = [&](const std::string& settings) {
    const auto done =
        run("apo-refine", {set("run.dir=" + path("loop")), set("refine.later=[{set: [" + settings + "]}]"),
                           set("refine.comparison.methods=[{name: a}, {name: b, learning_rate: 1.0e-3}]")});
    EXPECT_EQ(done.exit_code, 2) << done.err;
    return done.err;
  };
  EXPECT_THAT(later("'objective.beta=0.2'"), HasSubstr("refine.later[0].set[0]: each method of"));
  EXPECT_THAT(later("'data.pools={desirable: 1}'"), HasSubstr("refine.later[0].set[0]: each method of"));
  EXPECT_THAT(later("'deploy.collect={episodes: 9}'"), HasSubstr("refine.comparison.episodes"));
  EXPECT_THAT(later("'optimizer.learning_rate=0.1'"), HasSubstr("refine.later[0].set[0]: a method of"));
  EXPECT_THAT(
      later("'train.batch_size=9', 'deploy.collect.take_overs=9'"),
      HasSubstr("refine.later[0].set[1]: later deployments"));  // no method has a batch size of its own

  const auto refused = [&](const std::string& method, std::vector<std::string> more = {}) {
    more.insert(more.end(),
                {set("run.dir=" + path("loop")),
                 set("refine.comparison.methods=[{name: a, objective: {reference_kl_weight: 0}}, {name: b, " +
                     method + "}]")});
    const auto done = run("apo-refine", more);
    EXPECT_EQ(done.exit_code, 2) << method;
    return done.err;
  };
  const char* where = "refine.comparison.methods[1] (b): ";
  EXPECT_THAT(refused("objective: {z0: exact, reference_kl_weight: 0}", {set("reference.mode=cached")}),
              AllOf(HasSubstr(where), HasSubstr("reference.mode")));
  EXPECT_THAT(refused("objective: {type: sft}, interactions: false"),
              AllOf(HasSubstr(where), HasSubstr("interactions")));
  EXPECT_THAT(refused("objective: {type: dpo}, pools: {desirable: 1, intervention: 0, undesirable: 0}"),
              AllOf(HasSubstr(where), HasSubstr("data.pools.intervention")));
  EXPECT_THAT(refused("objective: {type: tpo}, pools: {desirable: 1, intervention: 0, undesirable: 0}"),
              AllOf(HasSubstr(where), HasSubstr("segments")));
  EXPECT_THAT(refused("pools: {desirable: 100, intervention: 1, undesirable: 1}"),
              AllOf(HasSubstr(where), HasSubstr("rounds to no sample")));
  // as many updates for each
  EXPECT_THAT(refused("objective: {type: sft}", {set("train.max_steps=0")}),
              AllOf(HasSubstr("train.max_steps"), HasSubstr("same number of updates")));
  // and what a loop without methods would find out after its base
  const auto plain = run("apo-refine", {set("run.dir=" + path("loop")), set("objective.z0=exact"),
                                        set("reference.mode=cached")});
  EXPECT_EQ(plain.exit_code, 2);
  EXPECT_THAT(plain.err, HasSubstr("reference.mode"));
  const auto base =
      run("apo-refine", {set("run.dir=" + path("loop")), set("refine.base.train.micro_batch_size=9")});
  EXPECT_EQ(base.exit_code, 2);
  EXPECT_THAT(base.err, AllOf(HasSubstr("refine.base: "), HasSubstr("micro_batch_size")));
  EXPECT_FALSE(std::filesystem::exists(path("loop/state.json")));
}

// Killed again and again wherever it happens to be, a loop ends with the numbers of one that ran through.
TEST_F(Comparing, KilledAtRandomMomentsEndsEqual) {
  ASSERT_EQ(run("apo-refine", loop("whole")).exit_code, 0);
  std::mt19937 random(7);
  std::uniform_int_distribution<int> milliseconds(50, 900);
  int kills = 0, code = 137;
  for (int attempt = 0; attempt < 40 && code != 0; ++attempt) {
    std::vector<std::string> arguments = loop("killed", {"--resume"});
    arguments.insert(arguments.begin(), {"--config", config()});
    RunningProgram victim("apo-refine", arguments, dir_.path());
    // each attempt is left alone a little longer than the last, so that slow machines get on too
    const int patience = milliseconds(random) + 150 * attempt;
    for (int waited = 0; waited < patience && victim.running(); waited += 10) ::usleep(10000);
    if (victim.running()) {
      victim.send(SIGKILL);
      ++kills;
    }
    const ProgramResult result = victim.wait();
    code = result.exit_code;
    ASSERT_TRUE(code == 0 || code == 137) << code << "\n" << result.err;
  }
  ASSERT_EQ(code, 0) << "never came to an end";
  EXPECT_GT(kills, 3);
  EXPECT_EQ(results("killed"), results("whole"));
  for (const char* file :
       {"methods/1-sft/round-2/training/metrics.jsonl", "methods/4-tpo/round-1/training/metrics.jsonl"}) {
    const auto last_step = [&](const std::string& name) {
      const std::string text = slurp(path(name + "/" + file));
      return json::parse(text.substr(text.rfind('\n', text.size() - 2) + 1))["loss"];
    };
    EXPECT_EQ(last_step("killed"), last_step("whole")) << file;
  }
}

}  // namespace
}  // namespace apo::testing
