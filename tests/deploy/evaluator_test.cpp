#include "apo/deploy/evaluator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "apo/base/files.h"
#include "apo/base/interrupt.h"
#include "apo/base/random.h"
#include "apo/config/options.h"
#include "deploy/fakes.h"
#include "environments/pool.h"
#include "support/chunk_policy.h"
#include "support/temp_dir.h"

namespace apo::deploy {
namespace {

using testing::FunctionPolicy;
using ::testing::HasSubstr;
using testing::hesitant;
using testing::message_of;
using ::testing::Not;
using testing::Walk;
using testing::walk_options;

void expect_same_trials(const EvalResult& a, const EvalResult& b) {
  ASSERT_EQ(a.trials.size(), b.trials.size());
  for (size_t i = 0; i < a.trials.size(); ++i) {
    EXPECT_EQ(a.trials[i].seed, b.trials[i].seed);
    EXPECT_EQ(a.trials[i].success, b.trials[i].success) << i;
    EXPECT_EQ(a.trials[i].unaided, b.trials[i].unaided) << i;
    EXPECT_EQ(a.trials[i].outcome, b.trials[i].outcome) << i;
    EXPECT_EQ(a.trials[i].steps, b.trials[i].steps) << i;
    EXPECT_EQ(a.trials[i].facts, b.trials[i].facts) << i;
  }
}

// The fake's tokens are the row numbers of its batch, and 0 to 7 are its action tokens: rows 8 and 9 of ten
// environments are none, in each of 3 steps.
TEST(Evaluate, CountsDecodedTokensThatAreNoActions) {
  FunctionPolicy policy(hesitant);
  const EvalResult ten = evaluate(policy, walk_options(), {.trials = 10, .parallel = 10, .max_steps = 3});
  EXPECT_EQ(ten.num_clamped_tokens, 6);
  EXPECT_THAT(ten.text(), HasSubstr("6 decoded tokens were no action tokens"));
  EXPECT_EQ(EvalResult::from_json(ten.json(), "here").num_clamped_tokens, 6);
  const EvalResult eight = evaluate(policy, walk_options(), {.trials = 8, .parallel = 8, .max_steps = 3});
  EXPECT_EQ(eight.num_clamped_tokens, 0);
  EXPECT_THAT(eight.text(), Not(HasSubstr("no action tokens")));
}

// An opening of 1 / 8 is 0.125 for the policy, and 1 - 2 / 8 = 0.75 where -1 opens and 1 closes: four strides
// to the flag at 3, where 0.125 would lead nowhere in 12.
TEST(Evaluate, AGripperThatThePolicyCodesOtherwiseIsRecoded) {
  FunctionPolicy policy(
      [](const Observation&) {
        return Action{0.125f, 0};
      },
      2, {.dimension = {0}, .open = 1.0, .closed = 0.0});
  environments::EnvironmentOptions environment = walk_options();
  const EvalOptions options{.trials = 1, .seed = 0};
  EXPECT_EQ(evaluate(policy, environment, options).trials[0].outcome,
            "timeout");  // nobody knows the environment's
  environment.gripper = {.dimension = {}, .open = -1.0, .closed = 1.0};
  const EvalResult result = evaluate(policy, environment, options);
  EXPECT_EQ(result.trials[0].outcome, "success");
  EXPECT_EQ(result.trials[0].steps, 4);
  const auto walk = environments::make_environment(environment);
  EXPECT_EQ(record_trial(policy, *walk, 0, 4).trial.steps, 4);
  environment.gripper.dimension = {1};
  EXPECT_THAT(message_of<ConfigError>([&] { evaluate(policy, environment, options); }),
              HasSubstr("policy.gripper: dimension 0, 1 open, 0 closed; environment.gripper: dimension 1, -1 "
                        "open, 1 closed; "
                        "expected the same dimensions"));
  environment.gripper.dimension = {2};
  EXPECT_THAT(message_of<ConfigError>([&] { environments::make_environment(environment); }),
              HasSubstr("environment: gripper.dimension: expected from -2 to 1"));
}

TEST(Evaluate, WalksByHand) {
  FunctionPolicy policy(hesitant);
  const EvalResult result = evaluate(policy, walk_options(), {.trials = 6, .seed = 0, .parallel = 4});
  // even seeds stride 0.75 to the flag at 3 + seed % 3: seed 0 in 4 steps, seed 2 (flag at 5) in 7, seed 4
  // (from -1 to the flag at 4) in 7, the last one troubled by its start (-0.25 after the first step is no
  // concern, -1 was not a step). Odd seeds go back 0.5 a step and fall at -4 after 8.
  ASSERT_EQ(result.trials.size(), 6u);
  EXPECT_EQ(result.success.count, 3);
  EXPECT_EQ(result.success.total, 6);
  EXPECT_EQ(result.unaided.count, 3);
  const std::vector<int64_t> steps = {4, 8, 7, 8, 7, 8};
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(result.trials[i].steps, steps[i]) << i;
    EXPECT_EQ(result.trials[i].seed, i);
    EXPECT_EQ(result.trials[i].outcome, i % 2 ? "fell" : "success");
  }
  EXPECT_EQ(result.outcomes, (std::map<std::string, int64_t>{{"fell", 3}, {"success", 3}}));
  EXPECT_DOUBLE_EQ(result.mean_steps, 6);  // (4 + 7 + 7) / 3
  EXPECT_EQ(result.steps, 42);
  EXPECT_EQ(result.success_by_fact.at("start=back").total, 1);  // seed 4
  EXPECT_EQ(result.success_by_fact.at("start=line").count, 2);
  EXPECT_EQ(result.policy_hash.size(), 16u);
}

TEST(Evaluate, OutcomesDoNotDependOnParallelOrThreads) {
  FunctionPolicy policy(hesitant);
  const EvalResult one =
      evaluate(policy, walk_options(), {.trials = 23, .seed = 5, .parallel = 1, .threads = 1});
  const EvalResult seven =
      evaluate(policy, walk_options(), {.trials = 23, .seed = 5, .parallel = 7, .threads = 3});
  const EvalResult all =
      evaluate(policy, walk_options(), {.trials = 23, .seed = 5, .parallel = 50, .threads = 2});
  expect_same_trials(one, seven);
  expect_same_trials(one, all);
}

// A policy whose strides are drawn, each row's from its own seed.
class Dicing : public FunctionPolicy {
 public:
  Dicing() : FunctionPolicy([](const Observation&) { return Action{0, 0}; }) {}
  at::Tensor decode(const models::PolicyInput& input, const models::DecodeOptions& options) override {
    EXPECT_EQ(options.temperature, 0.7);
    EXPECT_EQ(std::ssize(options.seeds), input.size());
    at::Tensor ids = at::full({input.size(), 2}, 3, at::kLong);
    for (int64_t b = 0; b < input.size(); ++b)
      ids[b][0] = static_cast<int64_t>(Random(options.seeds[static_cast<size_t>(b)]).below(8));
    return ids;
  }
};

TEST(Evaluate, WhatIsDrawnDependsOnTheTrialAlone) {
  Dicing policy;
  EvalOptions options{.trials = 24, .seed = 5, .parallel = 1, .temperature = 0.7};
  const EvalResult one = evaluate(policy, walk_options(), options);
  options.parallel = 4;
  expect_same_trials(one, evaluate(policy, walk_options(), options));
  EXPECT_GT(one.outcomes.size(), 1u);
  // the same trial of another evaluation, and of a recording
  options.trials = 3;
  options.seed = 8;
  const EvalResult later = evaluate(policy, walk_options(), options);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(later.trials[i].steps, one.trials[i + 3].steps) << i;
}

TEST(Evaluate, DecidesForAllEnvironmentsInOneForwardPass) {
  FunctionPolicy policy([](const Observation&) { return Action{0.5f, 0}; });
  evaluate(policy, walk_options(), {.trials = 8, .seed = 0, .parallel = 8});
  EXPECT_EQ(policy.largest_batch, 8u);
  EXPECT_EQ(policy.calls, 10);  // the farthest flag is 5 away
  FunctionPolicy refilled([](const Observation&) { return Action{0.5f, 0}; });
  evaluate(refilled, walk_options(), {.trials = 12, .seed = 0, .parallel = 2});
  EXPECT_EQ(refilled.largest_batch, 2u);
}

TEST(Evaluate, TimeIsUpAfterTheLimit) {
  FunctionPolicy still([](const Observation&) { return Action{0, 0}; });
  EvalResult result = evaluate(still, walk_options(), {.trials = 2, .seed = 0});
  EXPECT_EQ(result.outcomes, (std::map<std::string, int64_t>{{"timeout", 2}}));
  EXPECT_EQ(result.trials[0].steps, 12);  // the environment's limit
  EXPECT_EQ(result.mean_steps, 0);
  result = evaluate(still, walk_options(), {.trials = 2, .seed = 0, .max_steps = 5});
  EXPECT_EQ(result.trials[1].steps, 5);
}

TEST(Evaluate, UnaidedNeedsAFlawlessEpisode) {
  // one step back to -0.6 (a concern), then straight on
  FunctionPolicy policy([](const Observation& o) {
    const float position = o.state.at("position")[0];
    return Action{position == 0.0f ? -0.6f : 1.0f, 0};
  });
  const EvalResult result = evaluate(policy, walk_options(), {.trials = 1, .seed = 0});
  EXPECT_EQ(result.success.count, 1);
  EXPECT_EQ(result.unaided.count, 0);
}

TEST(Evaluate, NamesTrialAndStepOfABadAction) {
  const EvalOptions options{.trials = 3, .seed = 100, .parallel = 2};
  FunctionPolicy nan([](const Observation& o) {
    const float position = o.state.at("position")[0];
    return Action{1, position > 1.5f ? std::numeric_limits<float>::quiet_NaN() : 0.0f};
  });
  std::string message = message_of<RunError>([&] { evaluate(nan, walk_options(), options); });
  EXPECT_THAT(message, HasSubstr("trial 0 (seed 100), step 2"));
  EXPECT_THAT(message, HasSubstr("dimension 1 = nan"));
  FunctionPolicy large([](const Observation&) { return Action{1, 0, 0}; }, 3);
  message = message_of<RunError>([&] { evaluate(large, walk_options(), options); });
  EXPECT_THAT(message, HasSubstr("expected an action of 2 numbers from the policy, found 3"));
}

TEST(Evaluate, BadOptionsAndUnknownEnvironment) {
  FunctionPolicy policy(hesitant);
  EXPECT_THAT(message_of<ConfigError>([&] { evaluate(policy, walk_options(), {.trials = 0}); }),
              HasSubstr("trials"));
  environments::EnvironmentOptions unknown;
  unknown.type = "nowhere";
  EXPECT_THAT(message_of<ConfigError>([&] { evaluate(policy, unknown, {.trials = 1}); }),
              HasSubstr("nowhere"));
  EXPECT_THAT(
      message_of<ConfigError>([] { config::load<EvalOptions>(config::Document::from_text("trials: 0\n")); }),
      HasSubstr("trials"));
}

TEST(Evaluate, StopsWhenInterrupted) {
  FunctionPolicy policy([](const Observation&) {
    set_interrupted(true);
    return Action{1, 0};
  });
  const std::string message =
      message_of<Interrupted>([&] { evaluate(policy, walk_options(), {.trials = 4}); });
  set_interrupted(false);
  EXPECT_THAT(message, HasSubstr("of 4 trials"));
}

TEST(Evaluate, DrawsTheFirstTrials) {
  FunctionPolicy policy(hesitant);
  const EvalResult result = evaluate(
      policy, walk_options(), {.trials = 5, .seed = 0, .parallel = 2, .animations = 3, .animation_size = 32});
  ASSERT_EQ(result.animations.size(), 3u);
  for (const auto& [trial, animation] : result.animations) {
    EXPECT_LT(trial, 3);
    EXPECT_EQ(animation.substr(0, 4), "RIFF");
    EXPECT_EQ(animation.substr(8, 4), "WEBP");
  }
}

TEST(Results, AreWrittenWholeAndReadBack) {
  const apo::testing::TempDir dir;
  FunctionPolicy policy(hesitant);
  const EvalOptions options{.trials = 5, .seed = 40, .animations = 1, .animation_size = 32};
  const EvalResult result = evaluate(policy, walk_options(), options);
  write_results(result, walk_options(), options, dir / "deep" / "evaluation");
  const std::string text = read_file(dir / "deep" / "evaluation" / "results.json");
  const auto object = nlohmann::json::parse(text);
  EXPECT_EQ(object["trials"].size(), 5u);
  EXPECT_EQ(object["trials"][2]["seed"], 42);
  EXPECT_EQ(object["trials"][2]["facts"]["start"], "line");
  EXPECT_EQ(object["success"]["count"], result.success.count);
  EXPECT_EQ(object["policy_hash"], result.policy_hash);
  EXPECT_THAT(object["config"]["eval"].get<std::string>(), HasSubstr("seed: 40"));
  EXPECT_THAT(object["config"]["environment"].get<std::string>(), HasSubstr("walk"));
  EXPECT_EQ(object["animations"]["0"], "trial-0.webp");
  EXPECT_EQ(read_file(dir / "deep" / "evaluation" / "trial-0.webp"), result.animations.at(0));

  const EvalResult again = EvalResult::from_json(text, "results.json");
  expect_same_trials(result, again);
  EXPECT_EQ(again.success.low, result.success.low);
  EXPECT_EQ(again.success_by_fact.size(), result.success_by_fact.size());
  EXPECT_EQ(again.json(), EvalResult::from_json(result.json(), "").json());
  EXPECT_THAT(result.text(), HasSubstr("success   "));
}

TEST(Results, BadFilesAndDirectories) {
  const apo::testing::TempDir dir;
  EXPECT_THAT(message_of<DataError>([] { EvalResult::from_json("[1", "x/results.json"); }),
              HasSubstr("x/results.json"));
  EXPECT_THAT(message_of<DataError>([] { EvalResult::from_json("{}", "x/results.json"); }),
              HasSubstr("success"));
  write_file_atomic(dir / "file", "");
  EXPECT_THAT(
      message_of<RunError>([&] { write_results({}, walk_options(), {}, dir / "file" / "evaluation"); }),
      HasSubstr("file/evaluation"));
}

TEST(EnvironmentPool, EachEnvironmentStaysWithTheThreadThatMadeIt) {
  static std::mutex mutex;
  static std::map<const environments::Environment*, std::thread::id> makers;
  struct Rooted : Walk {
    Rooted() { note(); }
    ~Rooted() override { EXPECT_EQ(makers.at(this), std::this_thread::get_id()); }
    void note() {
      std::lock_guard lock(mutex);
      makers[this] = std::this_thread::get_id();
    }
  };
  environments::register_environment(
      "rooted", [](const environments::EnvironmentOptions&) { return std::make_unique<Rooted>(); });
  environments::EnvironmentOptions options;
  options.type = "rooted";
  environments::EnvironmentPool pool(options, 7, 3);
  std::set<std::thread::id> threads;
  std::atomic<int> calls = 0;
  const std::vector<int64_t> which = {0, 2, 3, 6};
  pool.run(which, [&](int64_t i, environments::Environment& environment) {
    ++calls;
    EXPECT_NE(i, 1);
    std::lock_guard lock(mutex);
    EXPECT_EQ(makers.at(&environment), std::this_thread::get_id());
    threads.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(calls, 4);
  EXPECT_EQ(threads.size(), 2u);  // of three workers the first has 0, 3 and 6, the third has 2
}

TEST(EnvironmentPool, ThrowsTheErrorOfTheLowestAndGoesOn) {
  environments::EnvironmentPool pool(walk_options(), 5, 2);
  const std::vector<int64_t> all = {0, 1, 2, 3, 4};
  const auto fail = [&] {
    pool.run(all, [](int64_t i, environments::Environment&) {
      if (i == 1 || i == 4) throw RunError(concat("broken ", i));
    });
  };
  EXPECT_EQ(message_of<RunError>(fail), "broken 1");
  std::atomic<int> calls = 0;
  pool.run(all, [&](int64_t, environments::Environment&) { ++calls; });
  EXPECT_EQ(calls, 5);
  environments::register_environment(
      "unmakeable",
      [](const environments::EnvironmentOptions&) -> std::unique_ptr<environments::Environment> {
        throw ConfigError("no such robot");
      });
  environments::EnvironmentOptions options;
  options.type = "unmakeable";
  EXPECT_EQ(message_of<ConfigError>([&] { environments::EnvironmentPool(options, 3, 2); }), "no such robot");
}

// Six steps of a policy that decides three at once: it is asked twice for each trial.
TEST(Evaluate, APolicyOfChunksIsAskedWhenItsChunkIsPlayed) {
  apo::testing::ChunkPolicy policy;
  const EvalResult result =
      evaluate(policy, walk_options(), {.trials = 1, .seed = 0, .parallel = 1, .max_steps = 6});
  ASSERT_EQ(result.trials.size(), 1u);
  EXPECT_EQ(policy.asked, (result.trials[0].steps + 2) / 3);
  EXPECT_GT(policy.asked, 1);
}

// Two of the three: the third is what the policy decides anew.
TEST(Evaluate, AsManyOfAChunkAreExecutedAsThePolicyIsTold) {
  apo::testing::ChunkPolicy policy;
  policy.set_execute_steps(2);
  const EvalResult result =
      evaluate(policy, walk_options(), {.trials = 1, .seed = 0, .parallel = 1, .max_steps = 6});
  EXPECT_EQ(policy.asked, (result.trials.at(0).steps + 1) / 2);
  EXPECT_GT(policy.asked, 1);
  EXPECT_THAT(message_of<ConfigError>([&] { policy.set_execute_steps(4); }),
              ::testing::HasSubstr("policy.execute_steps: expected at most 3"));
}

}  // namespace
}  // namespace apo::deploy
