// Noise and delay around any environment, and the table of an evaluation under disruptions.
#include "apo/environments/disruptions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apo/base/files.h"
#include "apo/config/options.h"
#include "apo/deploy/evaluator.h"
#include "apo/deploy/rollout.h"
#include "apo/simulation/tabletop.h"
#include "deploy/fakes.h"
#include "support/temp_dir.h"

namespace apo::deploy {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::FunctionPolicy;
using ::testing::HasSubstr;
using testing::message_of;
using testing::Walk;

// A walk without an end.
class Endless : public Walk {
 public:
  environments::Situation situation() const override {
    environments::Situation now = Walk::situation();
    now.done = false;
    return now;
  }
};

environments::EnvironmentOptions endless() {
  environments::register_environment(
      "endless", [](const environments::EnvironmentOptions&) { return std::make_unique<Endless>(); });
  environments::EnvironmentOptions options;
  options.type = "endless";
  return options;
}

struct Played {
  std::vector<Action> executed;
  environments::Facts facts;
};

// What is executed of these actions in the episode of `seed`.
Played play(environments::Environment& environment, uint64_t seed, const std::vector<Action>& commanded) {
  Played played;
  Rollout rollout(environment.spec(), seed);
  rollout.begin(environment.reset(seed));
  for (const Action& action : commanded) {
    rollout.decided({action});
    Step step = rollout.act({});
    EXPECT_EQ(step.action, action) << "what is recorded stays clean";
    played.executed.push_back(rollout.executed(step.action));
    rollout.happened(environment.step(played.executed.back()), step);
  }
  played.facts = rollout.result().facts;
  return played;
}

TEST(ActionDelay, ShiftsActionsByItsSteps) {
  environments::EnvironmentOptions options = endless();
  options.disruptions.action_delay = {.probability = 1, .steps = 3};
  const auto environment = environments::make_environment(options);
  std::vector<Action> commanded;
  for (int i = 1; i <= 6; ++i) commanded.push_back({0.1f * static_cast<float>(i), -0.5f});
  for (const uint64_t seed : {1, 2}) {  // nothing is left over from the episode before
    const Played played = play(*environment, seed, commanded);
    ASSERT_EQ(played.executed.size(), 6u);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(played.executed[i], (Action{0, 0})) << "idle until one is due";
    for (int i = 3; i < 6; ++i) EXPECT_EQ(played.executed[i], commanded[i - 3]);
    EXPECT_EQ(played.facts.at("action_delay"), "yes");
    EXPECT_EQ(played.facts.count("action_noise"), 0u);
    EXPECT_EQ(played.facts.at("start"), "line");
  }
}

TEST(ActionNoise, HasTheStatedSpreadOnTheStatedDimensions) {
  environments::EnvironmentOptions options = endless();
  options.disruptions.action_noise = {.probability = 1, .std = 0.2, .dimensions = 1};
  const auto environment = environments::make_environment(options);
  double sum = 0, squares = 0;
  constexpr int kSteps = 4000;
  for (const Action& action : play(*environment, 7, std::vector<Action>(kSteps, {0.1f, 0.3f})).executed) {
    EXPECT_EQ(action[1], 0.3f);
    EXPECT_LE(std::abs(action[0]), 1);
    sum += action[0] - 0.1;
    squares += (action[0] - 0.1) * (action[0] - 0.1);
  }
  // standard errors: of the mean 0.2 / sqrt(4000) = 0.0032, of the spread 0.2 / sqrt(8000) = 0.0022
  EXPECT_NEAR(sum / kSteps, 0, 0.013);
  EXPECT_NEAR(std::sqrt(squares / kSteps), 0.2, 0.009);
}

TEST(ActionNoise, StaysWithinTheActionsRange) {
  environments::EnvironmentOptions options = endless();
  options.disruptions.action_noise = {.probability = 1, .std = 2, .dimensions = 5};  // more than there are
  const auto environment = environments::make_environment(options);
  for (const Action& action : play(*environment, 1, std::vector<Action>(100, {0, 3})).executed) {
    EXPECT_LE(std::abs(action[0]), 1);
    EXPECT_LE(std::abs(action[1]), 3);
  }
}

TEST(ActionNoise, BelongsToTheSeed) {
  environments::EnvironmentOptions options = endless();
  options.disruptions.action_noise = {.probability = 0.5};
  const auto environment = environments::make_environment(options);
  const std::vector<Action> still(5, {0, 0});
  int noisy = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Played once = play(*environment, seed, still);
    EXPECT_EQ(once.executed, play(*environment, seed, still).executed);
    const bool disrupted = once.executed.front()[0] != 0;
    EXPECT_EQ(once.facts.at("action_noise"), disrupted ? "yes" : "no");
    noisy += disrupted;
  }
  EXPECT_NEAR(noisy, 100, 29);  // four standard deviations
  EXPECT_NE(play(*environment, 1, still).executed, play(*environment, 4, still).executed);
}

TEST(Disruptions, NoneAddsNothing) {
  const auto environment = environments::make_environment(endless());
  EXPECT_NE(dynamic_cast<Endless*>(environment.get()), nullptr) << "nothing stands between";
  const std::vector<Action> commanded = {{0.5f, 2}, {-3, 0}};
  const Played played = play(*environment, 3, commanded);
  EXPECT_EQ(played.executed, commanded);
  EXPECT_EQ(played.facts, (environments::Facts{{"start", "line"}}));
}

TEST(Disruptions, WhatAnEnvironmentCannotDoIsAnError) {
  environments::EnvironmentOptions options = endless();
  options.disruptions.scene.lighting.probability = 0.5;
  EXPECT_THAT(message_of<ConfigError>([&] { environments::make_environment(options); }),
              AllOf(HasSubstr("environment.disruptions.lighting.probability is 0.5"), HasSubstr("endless"),
                    HasSubstr("action_noise, action_delay")));
  EXPECT_THAT(environments::available_disruptions(options), ElementsAre("action_noise", "action_delay"));
}

TEST(Disruptions, NamesAreCheckedWithASuggestion) {
  const environments::EnvironmentOptions options = endless();
  EXPECT_THAT(
      message_of<ConfigError>([&] { environments::disrupted_by(options, "action_dealy"); }),
      AllOf(HasSubstr("action_dealy"), HasSubstr("did you mean action_delay?"), HasSubstr("endless")));
  EXPECT_THAT(message_of<ConfigError>([&] { environments::disrupted_by(options, "lighting"); }),
              HasSubstr("unknown disruption lighting"))
      << "known in the config, but not to this environment";
  EXPECT_THAT(environments::chosen_disruptions(options, {"none", "action_delay", "all"}),
              ElementsAre("action_delay", "action_noise"));
  const environments::EnvironmentOptions only = environments::disrupted_by(options, "action_delay");
  EXPECT_EQ(only.disruptions.action_delay.probability, 1);
  EXPECT_EQ(only.disruptions.action_noise.probability, 0);
}

TEST(Disruptions, OfTheTabletop) {
  if (!simulation::Tabletop::available()) GTEST_SKIP() << "built without MuJoCo";
  environments::EnvironmentOptions options;
  EXPECT_THAT(environments::available_disruptions(options),
              ElementsAre("object_moved", "lighting", "background", "distractors", "camera_moved",
                          "action_noise", "action_delay"));
  options.disruptions.scene.lighting.probability = 1;
  options.disruptions.action_delay.probability = 1;
  const auto environment = environments::make_environment(options);
  const environments::Facts facts = play(*environment, 3, {}).facts;
  EXPECT_EQ(facts.at("lighting"), "yes");
  EXPECT_EQ(facts.at("action_delay"), "yes");
  EXPECT_EQ(facts.count("background"), 0u);
  EXPECT_THAT(environment->spec().config, AllOf(HasSubstr("task: pick"), HasSubstr("brightness: 0.4")));
}

TEST(Disruptions, ACameraThatNobodyLooksThroughCannotBeMoved) {
  if (!simulation::Tabletop::available()) GTEST_SKIP() << "built without MuJoCo";
  environments::EnvironmentOptions options;
  for (const bool front : {true, false}) {
    auto& table = options.of<simulation::TabletopOptions>();
    table.cameras = front ? std::vector<std::string>{"wrist", "front"} : std::vector<std::string>{"wrist"};
    const auto available = environments::available_disruptions(options);
    EXPECT_EQ(std::ranges::count(available, "camera_moved"), front ? 1 : 0);
    EXPECT_EQ(available.size(), front ? 7u : 6u);
  }
  options.disruptions.scene.camera_moved.probability = 0.5;
  EXPECT_THAT(message_of<ConfigError>([&] { environments::make_environment(options); }),
              HasSubstr("environment.disruptions.camera_moved.probability is 0.5"));
}

TEST(Disruptions, ReadFromYaml) {
  const auto options = config::load<environments::EnvironmentOptions>(config::Document::from_text(
      "disruptions: {lighting: {probability: 0.5}, action_noise: {std: 0.1}, action_delay: {steps: 4}}\n"));
  EXPECT_EQ(options.disruptions.scene.lighting.probability, 0.5);
  EXPECT_EQ(options.disruptions.action_noise.std, 0.1);
  EXPECT_EQ(options.disruptions.action_delay.steps, 4);
  const auto read = [](const char* text) {
    return message_of<ConfigError>(
        [&] { config::load<environments::EnvironmentOptions>(config::Document::from_text(text)); });
  };
  EXPECT_THAT(read("disruptions: {action_delay: {steps: 0}}\n"), HasSubstr("steps"));
  EXPECT_THAT(read("disruptions: {action_noise: {std: -1}}\n"), HasSubstr("std"));
  EXPECT_THAT(read("disruptions: {action_nois: {std: 1}}\n"),
              AllOf(HasSubstr("action_nois"), HasSubstr("action_noise")));
}

// Strides of 0.5 need 6 to 10 of the 12 steps, 12 being too few once the first five are lost.
Action steady(const Observation&) { return {0.5f, 0}; }

environments::EnvironmentOptions delayed_walk() {
  environments::EnvironmentOptions options = testing::walk_options();
  options.disruptions.action_delay.steps = 5;
  options.disruptions.action_noise.std = 0;
  return options;
}

TEST(DisruptionTable, ByHand) {
  FunctionPolicy policy(steady);
  const EvalOptions options{
      .trials = 6, .seed = 0, .parallel = 4, .disruptions = {"action_noise", "action_delay"}};
  const EvalResult result = evaluate(policy, delayed_walk(), options);
  // Flags at 3, 4, 5 for seeds 0..5, seed 4 starts at -1 (flag at 4): 6, 8, 10, 6, 10, 10 steps. Five steps
  // later only the flags at 3 are reached in time: 11 steps.
  EXPECT_EQ(result.success.count, 6);
  ASSERT_EQ(result.disruptions.size(), 2u);
  const DisruptedResult& noise = result.disruptions[0];
  EXPECT_EQ(noise.disruption, "action_noise");
  EXPECT_EQ(noise.result.success.count, 6) << "noise of spread 0";
  EXPECT_EQ(noise.against_none.difference, 0);
  EXPECT_EQ(noise.against_none.p, 1);
  const DisruptedResult& delay = result.disruptions[1];
  EXPECT_EQ(delay.result.success.count, 2);
  EXPECT_EQ(delay.result.outcomes.at("timeout"), 4);
  EXPECT_EQ(delay.against_none.only_second, 4);
  EXPECT_EQ(delay.against_none.only_first, 0);
  EXPECT_NEAR(delay.against_none.difference, -4.0 / 6, 1e-12);
  EXPECT_NEAR(delay.against_none.p, 0.125, 1e-12);  // 2 / 2^4
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(delay.result.trials[i].seed, result.trials[i].seed);
  EXPECT_EQ(delay.result.policy_hash, result.policy_hash);
}

TEST(DisruptionTable, TheUndisruptedRowIsThePlainEvaluation) {
  FunctionPolicy policy(steady);
  environments::EnvironmentOptions environment = delayed_walk();
  const EvalResult plain = evaluate(policy, environment, {.trials = 4, .seed = 0});
  environment.disruptions.action_delay.probability = 1;  // of the config: the table has its own
  const EvalResult table =
      evaluate(policy, environment, {.trials = 4, .seed = 0, .disruptions = {"action_noise"}});
  EXPECT_EQ(table.success.count, plain.success.count);
  EXPECT_EQ(table.steps, plain.steps);
  const EvalResult delayed = evaluate(policy, environment, {.trials = 4, .seed = 0});
  EXPECT_EQ(delayed.success_by_fact.at("action_delay=yes").total, 4);
}

TEST(DisruptionTable, IsWrittenAndReadBack) {
  const apo::testing::TempDir dir;
  FunctionPolicy policy(steady);
  const EvalOptions options{
      .trials = 6, .seed = 0, .animations = 1, .animation_size = 32, .disruptions = {"all"}};
  const EvalResult result = evaluate(policy, delayed_walk(), options);
  write_results(result, delayed_walk(), options, dir / "e");
  const std::string text = read_file(dir / "e" / "results.json");
  const auto object = nlohmann::json::parse(text);
  EXPECT_EQ(object["success"]["count"], 6);
  EXPECT_EQ(object["disruptions"]["action_delay"]["success"]["count"], 2);
  EXPECT_EQ(object["disruptions"]["action_delay"]["against_none"]["only_none"], 4);
  EXPECT_EQ(object["disruptions"]["action_delay"]["trials"].size(), 6u);
  EXPECT_EQ(object["disruptions"]["action_delay"]["animations"]["0"], "action_delay-trial-0.webp");
  EXPECT_TRUE(std::filesystem::exists(dir / "e" / "action_delay-trial-0.webp"));
  const EvalResult again = EvalResult::from_json(text, "results.json");
  ASSERT_EQ(again.disruptions.size(), 2u);
  EXPECT_EQ(again.disruptions[1].disruption, "action_delay");
  EXPECT_EQ(again.disruptions[1].against_none.p, result.disruptions[1].against_none.p);
  EXPECT_EQ(again.json(), EvalResult::from_json(result.json(), "").json());

  const std::string markdown = read_file(dir / "e" / "disruptions.md");
  EXPECT_THAT(markdown, HasSubstr("| none | 1.00 [0.61, 1.00] | 1.00 | - | - | success 6 |\n"));
  EXPECT_THAT(markdown,
              HasSubstr("| action_delay | 0.33 [0.10, 0.70] | 0.33 | -66.7 points, p = 0.125 | 0 / 4 | "
                        "success 2, timeout 4 |\n"));
  EXPECT_THAT(markdown, HasSubstr("6 trials a row"));
  EXPECT_THAT(result.text(), HasSubstr("\naction_delay  0.33 [0.10, 0.70]"));
}

TEST(DisruptionTable, AbsentUnlessAskedFor) {
  const apo::testing::TempDir dir;
  FunctionPolicy policy(steady);
  const EvalResult result = evaluate(policy, delayed_walk(), {.trials = 2, .seed = 0});
  write_results(result, delayed_walk(), {}, dir / "e");
  EXPECT_FALSE(nlohmann::json::parse(read_file(dir / "e" / "results.json")).contains("disruptions"));
  EXPECT_FALSE(std::filesystem::exists(dir / "e" / "disruptions.md"));
  EXPECT_EQ(result.disruption_markdown(), "");
}

TEST(DisruptionTable, UnknownNamesAndBrokenFiles) {
  FunctionPolicy policy(steady);
  EXPECT_THAT(message_of<ConfigError>(
                  [&] { evaluate(policy, delayed_walk(), {.trials = 2, .disruptions = {"camera_moved"}}); }),
              HasSubstr("unknown disruption camera_moved"));
  EXPECT_EQ(policy.calls, 0) << "before the first trial";
  const EvalResult result = evaluate(policy, delayed_walk(), {.trials = 2, .disruptions = {"action_delay"}});
  auto object = nlohmann::json::parse(result.json());
  object["disruptions"]["action_delay"].erase("against_none");
  EXPECT_THAT(message_of<DataError>([&] { EvalResult::from_json(object.dump(), "x/results.json"); }),
              AllOf(HasSubstr("x/results.json"), HasSubstr("against_none")));
}

TEST(DisruptionSheet, HasATileForEach) {
  const apo::testing::TempDir dir;
  draw_disruptions(delayed_walk(), {"all"}, 1, 32, 3, dir / "sheet.webp");
  const std::string sheet = read_file(dir / "sheet.webp");
  EXPECT_EQ(sheet.substr(8, 4), "WEBP");
  // the canvas of an animation: three tiles of 32 and two gaps of 2, less one, in 24 bits from byte 24 on
  const auto side = [&](size_t at) {
    const auto byte = [&](size_t i) { return static_cast<int>(static_cast<unsigned char>(sheet[at + i])); };
    return 1 + byte(0) + 256 * byte(1) + 65536 * byte(2);
  };
  EXPECT_EQ(side(24), 100);
  EXPECT_EQ(side(27), 32);
  EXPECT_THAT(
      message_of<ConfigError>([&] { draw_disruptions(delayed_walk(), {"all"}, 1, 8, 3, dir / "x.webp"); }),
      HasSubstr("16 to 512"));
}

}  // namespace
}  // namespace apo::deploy
