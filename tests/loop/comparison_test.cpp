#include "apo/loop/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/proportions.h"
#include "apo/deploy/evaluator.h"
#include "deploy/fakes.h"
#include "loop/comparing.h"
#include "results/table.h"
#include "support/temp_dir.h"

namespace apo::loop {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;

TEST(McNemar, CountsTheDiscordantPairs) {
  const PairedTest test = paired_test({true, true, true, false, false}, {true, false, false, true, false});
  EXPECT_EQ(test.only_first, 2);
  EXPECT_EQ(test.only_second, 1);
  EXPECT_EQ(test.pairs, 5);
  EXPECT_NEAR(test.difference, 0.2, 1e-12);
  EXPECT_EQ(test.p, 1);  // 2 (1 + 3) / 8
  EXPECT_EQ(paired_test({}, {}).p, 1);
}

MethodResult result(const std::string& method, std::vector<bool> success,
                    std::vector<std::vector<std::string>> take_overs) {
  MethodResult r;
  r.method = method;
  r.objective = method == "base" ? "" : "apo";
  r.policy = "methods/" + method;
  r.steps = 500;
  r.train_seconds = 20;
  r.unaided = std::vector<bool>(success.size(), false);
  r.success = std::move(success);
  r.take_overs = std::move(take_overs);
  r.lost = 1;
  return r;
}

Comparison comparison(int64_t seed = 1) {
  Comparison c;
  c.seed = seed;
  c.eval_seed = 800;
  c.against = {"base"};
  c.results = {
      result("base", {false, false, true, false}, {{"wrong object"}, {"wrong object"}, {"off course"}}),
      result("a|b", {true, true, true, seed == 2}, {{}, {"off course"}, {}})};
  return c;
}

TEST(Comparison, AMethodTrainsAsTheTopLevelButForWhatItSays) {
  training::TrainingOptions top;
  top.optimizer.learning_rate = 0.5;
  top.train.batch_size = 48;
  top.data.interactions.resize(1);
  MethodOptions method;
  method.objective.type = objective::ObjectiveType::kto;
  method.pools = {.desirable = 0.25, .intervention = 0.25, .undesirable = 0.5};
  training::TrainingOptions options = training_of(method, top);
  EXPECT_EQ(options.objective.type, objective::ObjectiveType::kto);
  EXPECT_EQ(options.data.pools.undesirable, 0.5);
  EXPECT_EQ(options.optimizer.learning_rate, 0.5);
  EXPECT_EQ(options.train.batch_size, 48);
  EXPECT_EQ(options.data.interactions.size(), 1u);
  method.learning_rate = 0.25, method.batch_size = 8, method.interactions = false;
  options = training_of(method, top);
  EXPECT_EQ(options.optimizer.learning_rate, 0.25);
  EXPECT_EQ(options.train.batch_size, 8);
  EXPECT_TRUE(options.data.interactions.empty());
}

TEST(Comparison, SurvivesJson) {
  const Comparison before = comparison();
  const Comparison after = Comparison::from_json(before.json(), "x");
  EXPECT_EQ(after.json(), before.json());
  EXPECT_EQ(after.results[1].success, before.results[1].success);
  EXPECT_EQ(after.results[0].take_overs, before.results[0].take_overs);
  EXPECT_EQ(after.results[1].method, "a|b");
}

TEST(Comparison, BadJsonSaysWhatIsWrong) {
  const auto message = [](const std::string& text) {
    return message_of<DataError>([&] { Comparison::from_json(text, "runs/1/comparison.json"); });
  };
  EXPECT_THAT(message("[]"), HasSubstr("runs/1/comparison.json: expected an object, found []"));
  EXPECT_THAT(message("{"), HasSubstr("runs/1/comparison.json:1: expected JSON"));
  EXPECT_THAT(message("{}"),
              HasSubstr("runs/1/comparison.json: seed: expected a whole number, found nothing"));
  std::string text = comparison().json();
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string other = text;
    return other.replace(other.find(from), from.size(), to);
  };
  EXPECT_THAT(message(replaced("\"success\":[0", "\"success\":[2")),
              HasSubstr("results[0].success[0]: expected an integer from 0 to 1, found 2"));
  EXPECT_THAT(message(replaced("\"unaided\":[0,", "\"unaided\":[")), HasSubstr("expected 4 trials"));
  EXPECT_THAT(message(replaced("\"lost\":1", "\"lost\":\"one\"")),
              HasSubstr("results[0].lost: expected a whole number, found \"one\""));
  EXPECT_THAT(message(replaced("\"results\":[", "\"results\":[],\"more\":[")), HasSubstr("results"));
}

TEST(DesignEffect, ByHand) {
  using Loop = std::vector<bool>;
  // Two loops, four seeds: shares by seed 1, 1, 1, 1/2 about 7/8. MSB = 2 (3/64 + 9/64) / 3 = 1/8,
  // MSW = 2 (1/4) / 4 = 1/8: no more alike than chance.
  EXPECT_NEAR(design_effect(std::vector<Loop>{{true, true, true, false}, {true, true, true, true}}), 1,
              1e-12);
  // Shares 1, 1, 1/2, 0 about 5/8: MSB = 2 (2 (9/64) + 1/64 + 25/64) / 3 = 11/24, MSW = 1/8,
  // ICC = (1/3) / (7/12) = 4/7.
  EXPECT_NEAR(design_effect(std::vector<Loop>{{true, true, true, false}, {true, true, false, false}}),
              11.0 / 7, 1e-12);
}

TEST(DesignEffect, IsTheNumberOfLoopsWhereTheyAgree) {
  std::vector<bool> loop(200, false);
  std::fill_n(loop.begin(), 102, true);
  EXPECT_NEAR(design_effect(std::vector(3, loop)), 3, 1e-12);
  EXPECT_EQ(design_effect(std::vector(3, std::vector<bool>(200, false))), 3);
  EXPECT_EQ(design_effect(std::vector(3, std::vector<bool>{true})), 3) << "one seed";
  EXPECT_EQ(design_effect(std::vector(1, loop)), 1);
}

// Every combination of three outcomes 25 times: MSB = 3 (50 / 4 + 150 / 36) / 199 = 50 / 199,
// MSW = 3 (150 · 2/9) / 400 = 1/4, so that ICC is 1 / 598 and 600 trials are worth 598.
std::vector<std::vector<bool>> independent_loops() {
  std::vector<std::vector<bool>> loops(3);
  for (int seed = 0; seed < 200; ++seed)
    for (int loop = 0; loop < 3; ++loop) loops[loop].push_back((seed >> loop & 1) != 0);
  return loops;
}

TEST(DesignEffect, IsAboutOneWhereLoopsAreIndependent) {
  EXPECT_NEAR(design_effect(independent_loops()), 1 + 2.0 / 598, 1e-12);
  EXPECT_EQ(design_effect(std::vector<std::vector<bool>>{{true, false, true}, {false, true, false}}), 1)
      << "less alike than chance";
}

// 102 of 200 in each of three loops, seed by seed the same: as wide as 102 of 200. 300 of 600 otherwise.
TEST(Comparison, IntervalsAreThoseOfTheEffectiveTrials) {
  std::vector<bool> alike(200, false);
  std::fill_n(alike.begin(), 102, true);
  std::vector<Comparison> loops(3);
  for (size_t i = 0; i < loops.size(); ++i)
    loops[i].results = {result("base", alike, {}), result("apo", independent_loops()[i], {})};
  const std::vector<std::string> names = {"one", "two", "three"};
  const std::string text = comparison_markdown(loops, names);
  EXPECT_THAT(text, HasSubstr("| base | 0.510 [0.44, 0.58] |"));
  EXPECT_THAT(text, HasSubstr("| apo | 0.500 [0.46, 0.54] |"));
  EXPECT_THAT(text, AllOf(HasSubstr("Kish's design effect"), HasSubstr("with more of the bases")));
  const std::string one = comparison_markdown(std::span(loops).first(1), std::span(names).first(1));
  EXPECT_THAT(one, AllOf(HasSubstr("| base | 0.510 [0.44, 0.58] |"),
                         HasSubstr("| apo | 0.500 [0.43, 0.57] |"), Not(HasSubstr("bases"))));
}

TEST(MeanOverBases, ByHand) {
  // mean 2.75, deviations −4.75, 10.45, −1.75, −3.95: s² = 150.41 / 3, half = 3.182 * 7.081 / 2
  const MeanOverBases four = mean_over_bases(std::vector<double>{-2.0, 13.2, 1.0, -1.2});
  EXPECT_NEAR(four.mean, 2.75, 1e-12);
  EXPECT_NEAR(four.low, 2.75 - 11.266, 1e-3);
  EXPECT_NEAR(four.high, 2.75 + 11.266, 1e-3);
  // of 22 and more from a formula: close to the table's last
  std::vector<double> many(40);
  for (size_t i = 0; i < many.size(); ++i) many[i] = i % 2 == 0 ? 1 : -1;
  EXPECT_NEAR(mean_over_bases(many).high, 2.0227 * std::sqrt(40.0 / 39 / 40), 1e-3);
  const MeanOverBases one = mean_over_bases(std::vector<double>{0.5});
  EXPECT_EQ(one.mean, 0.5);
  EXPECT_TRUE(std::isinf(one.low) && std::isinf(one.high));
}

TEST(Comparison, TablesPoolTheLoops) {
  const std::vector<Comparison> loops = {comparison(1), comparison(2)};
  const std::vector<std::string> names = {"one", "two"};
  const std::string text = comparison_markdown(loops, names);
  EXPECT_THAT(text, HasSubstr("## After 1 round\n\n2 freshly trained bases, 4 trials"));
  // base: the same 1 of 4 in both, worth 1 of 4; the other: 3 of 4 and 4 of 4, so 7 of 8 (its design effect
  // is 1, see above), and never unaided, worth 0 of 4. Seeds 0 and 1 are better with both bases, seed 3 with
  // one, none is worse: p = 2 / 2^3
  EXPECT_THAT(text, HasSubstr("| base | 0.250 [0.05, 0.70] | 0.25 / 0.25 | 0.000 [0.00, 0.49] | – | – |"));
  EXPECT_THAT(
      text,
      HasSubstr(
          "| a\\|b | 0.875 [0.53, 0.98] | 0.75 / 1.00 | 0.000 [0.00, 0.49] | 1.00 | 0.83 | +62.5, p = 0.25 |"
          " +62.5 [−96.3, 100.0] |"));  // 50 and 75: 62.5 ± 12.706 * 17.68 / 1.414, points end at 100
  EXPECT_THAT(text, HasSubstr("| success against base | against base, over bases |"));
  EXPECT_THAT(comparison_markdown({loops.data(), 1}, {names.data(), 1}), Not(HasSubstr("over bases")));
  // deployments: 3 of 3 and 1 of 3, the base's commonest reason first; 4 discordant episodes: p = 2 / 16
  EXPECT_THAT(text, HasSubstr("| each base | wrong object | off course | lost | episodes | take-overs | "
                              "human steps | take-overs against base | wrong object against base |"));
  EXPECT_THAT(
      text,
      HasSubstr(
          "| a\\|b | 0.333 [0.10, 0.70] | 0.33 / 0.33 | 0.000 [0.00, 0.39] | 0.333 [0.10, 0.70] | 0.333 | "
          "6 | 2 | – | −66.7, p = 0.12 | −66.7, p = 0.12 |"));
}

// Deployments that end with their take-overs: each method's has a length of its own.
TEST(Comparison, TakeOversMayEndTheDeployments) {
  std::vector<Comparison> loops = {comparison(1), comparison(2)};
  for (Comparison& loop : loops) {
    loop.take_overs = 3;
    for (MethodResult& method : loop.results) method.human_steps = 20;
  }
  for (int i = 0; i < 2; ++i) loops[0].results[1].take_overs.push_back({"off course"});
  const std::vector<std::string> names = {"one", "two"};
  const std::string text = comparison_markdown(loops, names);
  EXPECT_THAT(text,
              HasSubstr("The next deployment: 3 take-overs of each policy under the human's eyes, or as many "
                        "episodes as allowed."));
  // 3 of 5 and 1 of 3 episodes; the tests are over the three seeds of each loop that both came to
  EXPECT_THAT(text,
              HasSubstr("| a\\|b | 0.500 [0.22, 0.78] | 0.60 / 0.33 | 0.000 [0.00, 0.32] | "
                        "0.500 [0.22, 0.78] | 0.250 | 8 | 4 | 40 | −66.7, p = 0.12 | −66.7, p = 0.12 |"));
  const Comparison after = Comparison::from_json(loops[0].json(), "x");
  EXPECT_EQ(after.take_overs, 3);
  EXPECT_EQ(after.results[0].human_steps, 20);
  loops[1].take_overs = 4;
  EXPECT_THAT(message_of<DataError>([&] { comparison_markdown(loops, names); }), HasSubstr("4 take-overs"));
}

TEST(McNemar, ComparesWhatBothHave) {
  EXPECT_EQ(paired_test({true, true, true, true}, {false, true}).pairs, 2);
  EXPECT_EQ(paired_test({true}, {false, true, true}).only_second, 0);
}

TEST(Comparison, OlderFilesDoNotSayWhatTheHumanDid) {
  std::string text = comparison().json();
  EXPECT_THAT(text, Not(HasSubstr("human_steps")));
  const std::string key = "\"take_overs\":0,";
  ASSERT_NE(text.find(key), text.npos);
  text.erase(text.find(key), key.size());
  const Comparison older = Comparison::from_json(text, "x");
  EXPECT_EQ(older.take_overs, 0);
  EXPECT_FALSE(older.results[0].human_steps);
}

TEST(Comparison, LoopsMustBeAlike) {
  const std::vector<std::string> names = {"one", "two"};
  const auto message = [&](const Comparison& other) {
    const std::vector<Comparison> loops = {comparison(), other};
    return message_of<DataError>([&] { comparison_markdown(loops, names); });
  };
  Comparison other = comparison();
  other.results[1].method = "c";
  EXPECT_THAT(message(other), AllOf(HasSubstr("two: expected the same"), HasSubstr("c after round 1")));
  other = comparison();
  other.eval_seed = 801;
  EXPECT_THAT(message(other), HasSubstr("eval.seed 801"));
  other = comparison();
  other.results.pop_back();
  EXPECT_THAT(message(other), HasSubstr("expected the same"));
  other = comparison();
  other.results[0].take_overs.pop_back();
  EXPECT_THAT(message(other), HasSubstr("2 episodes"));
}

TEST(Comparison, MergesDirectories) {
  const apo::testing::TempDir dir;
  for (const char* name : {"1", "2"}) {
    std::filesystem::create_directories(dir / name);
    write_file_atomic(dir / name / "comparison.json", comparison(*name - '0').json());
  }
  const std::vector<std::string> directories = {(dir / "1").string(), (dir / "2").string()};
  EXPECT_THAT(merge_comparisons(directories), HasSubstr("2 freshly trained bases"));
  const std::vector<std::string> missing = {(dir / "3").string()};
  EXPECT_THAT(message_of<DataError>([&] { merge_comparisons(missing); }),
              AllOf(HasSubstr("3/comparison.json"), HasSubstr("refine.comparison.methods")));
}

TEST(ComparisonOptions, NamesAreCheckedFirst) {
  const auto message = [](std::vector<std::string> names, std::vector<std::string> against) {
    ComparisonOptions options;
    for (const std::string& name : names) options.methods.emplace_back().name = name;
    options.against = std::move(against);
    return message_of<ConfigError>([&] { check(options); });
  };
  EXPECT_EQ(message({"apo", "sft"}, {"base", "sft"}), "(nothing thrown)");
  EXPECT_EQ(message({}, {"base"}), "(nothing thrown)");
  EXPECT_THAT(message({"apo", ""}, {}), HasSubstr("refine.comparison.methods[1].name"));
  EXPECT_THAT(message({"apo", "apo"}, {}), AllOf(HasSubstr("methods[1].name"), HasSubstr("apo once more")));
  EXPECT_THAT(message({"base"}, {}), HasSubstr("methods[0].name"));
  EXPECT_THAT(message({"apo"}, {"dpo"}),
              AllOf(HasSubstr("refine.comparison.against"), HasSubstr("found dpo")));
  ComparisonOptions options;
  options.methods.emplace_back().name = "x";
  options.methods[0].objective.beta = -1;
  EXPECT_THAT(message_of<ConfigError>([&] { check(options); }),
              HasSubstr("refine.comparison.methods[0].objective.beta"));
}

EvalResult tried(const std::vector<bool>& undisrupted, const std::vector<bool>& noisy) {
  const auto result = [](const std::vector<bool>& success) {
    std::vector<Trial> trials(success.size());
    for (size_t i = 0; i < success.size(); ++i) {
      trials[i].seed = 40 + i;
      trials[i].success = success[i];
    }
    return results::summarize_trials(std::move(trials));
  };
  EvalResult all = result(undisrupted);
  all.disruptions.push_back({.disruption = "action_noise", .result = result(noisy), .against_none = {}});
  return all;
}

TEST(Evaluations, OfSeveralPoliciesAndBasesBecomeOneTable) {
  const apo::testing::TempDir dir;
  const auto write = [&dir](const std::string& name, const EvalResult& result) {
    std::filesystem::create_directories(dir / name);
    write_file_atomic(dir / name / "results.json", result.json());
    return (dir / name).string();
  };
  const std::string a1 = write("a1", tried({true, false, true, true}, {false, false, false, true})),
                    a2 = write("a2", tried({true, false, true, true}, {false, false, false, true})),
                    b1 = write("b1", tried({true, true, true, true}, {true, true, true, true})),
                    b2 = write("b2", tried({true, true, true, true}, {true, true, false, true}));
  // a's bases agree in every trial: 6 of 8, worth 3 of 4
  const Rate three = wilson(3, 4);
  const std::string table = merge_evaluations(
      std::vector<std::pair<std::string, std::string>>{{"a", a1}, {"b", b1}, {"a", a2}, {"b", b2}});
  EXPECT_THAT(table, HasSubstr("| disruption | a | b |"));
  EXPECT_THAT(table, HasSubstr(concat("| none | 0.750 [", results::fixed(three.low, 2), ", ",
                                      results::fixed(three.high, 2), "] (0.75 / 0.75) | 1.000 [")));
  EXPECT_THAT(table, HasSubstr("| action_noise | 0.250 ["));
  EXPECT_THAT(table, HasSubstr("(1.00 / 0.75) |\n"));
  EXPECT_THAT(table, HasSubstr("4 trials of each of 2 bases"));
  // one base: no bases to list
  EXPECT_THAT(merge_evaluations(std::vector<std::pair<std::string, std::string>>{{"a", a1}}),
              HasSubstr(concat("| none | 0.750 [", results::fixed(three.low, 2), ", ",
                               results::fixed(three.high, 2), "] |\n")));

  using Named = std::vector<std::pair<std::string, std::string>>;
  const auto refused = [](const Named& named) {
    return message_of<DataError>([&] { merge_evaluations(named); });
  };
  const auto misused = [](const Named& named) {
    return message_of<ConfigError>([&] { merge_evaluations(named); });
  };
  EXPECT_THAT(misused({{"a", a1}, {"a", a2}, {"b", b1}}),
              HasSubstr("as many directories of b as of a, 2, found 1"));
  EXPECT_THAT(misused({{"a", a1}, {"a", a1}}), HasSubstr("each directory once, found " + a1 + " twice"));
  EXPECT_THAT(merge_evaluations(Named{{"a|b", a1}}), HasSubstr("| disruption | a\\|b |"));
  const auto in_environment = [&](const std::string& name, const std::string& environment) {
    auto result = nlohmann::json::parse(tried({true, false, true, true}, {false, false, false, true}).json());
    result["config"] = {{"environment", environment}, {"eval", ""}};
    std::filesystem::create_directories(dir / name);
    write_file_atomic(dir / name / "results.json", result.dump());
    return (dir / name).string();
  };
  EXPECT_THAT(refused({{"a", a1}, {"b", in_environment("pushed", "task: push")}}),
              HasSubstr("expected the environment of " + a1));
  // an evaluation from before there was a key is one with its default
  const std::string older = in_environment("older", "tabletop: {task: push}"),
                    now = in_environment("now", "type: tabletop\ntabletop: {task: push, cameras: [front]}"),
                    wrist = in_environment("wrist", "tabletop: {task: push, cameras: [wrist]}");
  EXPECT_THAT(merge_evaluations(Named{{"a", older}, {"b", now}}), HasSubstr("| disruption | a | b |"));
  EXPECT_THAT(refused({{"a", older}, {"b", wrist}}), HasSubstr("expected the environment of " + older));
  EXPECT_THAT(refused({{"a", a1}, {"b", older}}), HasSubstr("expected the environment of " + a1));
  const std::string other = write("other", results::summarize_trials(std::vector<Trial>(4)));
  EXPECT_THAT(
      refused({{"a", a1}, {"b", other}}),
      AllOf(HasSubstr(other + "/results.json"), HasSubstr("same disruptions and trial seeds as in " + a1)));
  EXPECT_THAT(refused({{"a", write("empty", results::summarize_trials({}))}}),
              HasSubstr("expected trials, found none"));
  write_file_atomic(dir / "other/results.json", "{}");
  EXPECT_THAT(refused({{"a", other}}),
              HasSubstr(other + "/results.json: success: expected an object, found nothing"));
}

}  // namespace
}  // namespace apo::loop
