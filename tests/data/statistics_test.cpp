// Action statistics: numbers by hand, OpenVLA's file, and the way there and back.
#include "apo/data/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <nlohmann/json.hpp>

#include "data/recordings.h"
#include "support/temp_dir.h"

namespace apo::data {
namespace {

using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(Statistics, QuantilesAreNumpys) {
  // numpy.quantile([1, 2, 4, 8], q): place 3q; 0.5 -> 1.5 -> 3; 0.99 -> 2.97 -> 4 + 0.97 * 4 = 7.88; 0.01 -> 1.03
  const std::vector<double> x{1, 2, 4, 8};
  EXPECT_DOUBLE_EQ(quantile(x, 0.5), 3);
  EXPECT_NEAR(quantile(x, 0.99), 7.88, 1e-12);
  EXPECT_NEAR(quantile(x, 0.01), 1.03, 1e-12);
  EXPECT_DOUBLE_EQ(quantile(x, 1), 8);
  EXPECT_DOUBLE_EQ(quantile({5}, 0.99), 5);
}

TEST(Statistics, OfRecordedSteps) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"eeeee", "eeeee"});  // actions (id % 10) / 10, 0.5, 1 for id 0 .. 9
  DataOptions options;
  options.expert.push_back({.path = (dir / "a.hdf5").string()});
  const Dataset dataset(options);
  const DatasetStatistics s = compute_statistics(dataset, dataset.kept_steps(true));
  EXPECT_EQ(s.num_transitions, 10);
  EXPECT_EQ(s.num_trajectories, 2);
  ASSERT_EQ(s.action.size(), 3);
  EXPECT_NEAR(s.action.mean[0], 0.45, 1e-6);
  EXPECT_NEAR(s.action.std[0], 0.2872281, 1e-6);  // sqrt((100 - 1) / 12) / 10, the population's
  EXPECT_NEAR(s.action.min[0], 0, 1e-6);
  EXPECT_NEAR(s.action.max[0], 0.9, 1e-6);
  EXPECT_NEAR(s.action.q01[0], 0.009, 1e-6);      // place 0.09 between 0 and 0.1
  EXPECT_NEAR(s.action.q99[0], 0.891, 1e-6);
  EXPECT_EQ(s.action.mask, (std::vector<bool>{true, false, false}));  // the second never changes, the last is the gripper
  ASSERT_EQ(s.state.count("joints"), 1u);
  EXPECT_NEAR(s.state.at("joints").mean[0], 4.5, 1e-6);
  EXPECT_EQ(s.state.at("joints").mask, (std::vector<bool>{true, false}));
  EXPECT_THAT(data_error([&] { compute_statistics(dataset, {}); }), HasSubstr("expected at least one kept step"));
}

VectorStatistics example() {
  return {.mean = {0, 0, 0}, .std = {1, 1, 1}, .min = {-2, 0, -1}, .max = {2, 10, 1}, .q01 = {-1, 0, 0}, .q99 = {1, 10, 1},
          .mask = {true, true, false}};
}

TEST(Statistics, NormalizesByQuantiles) {
  int64_t clipped = 0;
  // 2 (5 - 0) / 10 - 1 = 0; the gripper stays
  EXPECT_EQ(normalize(example(), {0.5f, 5, -1}, &clipped), (std::vector<double>{0.5, 0, -1}));
  EXPECT_EQ(clipped, 0);
  EXPECT_EQ(normalize(example(), {-3, 12, 1.5f}, &clipped), (std::vector<double>{-1, 1, 1}));
  EXPECT_EQ(clipped, 3);
  EXPECT_EQ(unnormalize(example(), {0.5f, 0, -1}), (std::vector<float>{0.5f, 5, -1}));
  EXPECT_THAT(data_error([] { normalize(example(), {1, 2}); }), HasSubstr("expected 3 numbers as in the statistics, found 2"));
  EXPECT_THAT(data_error([] { unnormalize(example(), {1}); }), HasSubstr("found 1"));
}

// 2 (a - q01) / (q99 - q01 + 1e-8) - 1 in float64, in every dimension whatever the mask says.
TEST(Statistics, NormalizesAsTheReleasedProgram) {
  VectorStatistics s = example();
  s.q01[2] = -1;
  s.q99[2] = 1;
  int64_t clipped = 0;
  const auto x = normalize(s, {1, 2.5f, 1}, &clipped, 0, ActionNormalization::released_apo);
  EXPECT_EQ(x[0], 4 / (2 + 1e-8) - 1);
  EXPECT_LT(x[0], 1);                                   // about 1 - 1e-8, which float32 cannot tell from 1
  EXPECT_EQ(x[1], 2 * 2.5 / (10 + 1e-8) - 1);
  EXPECT_EQ(x[2], x[0]);
  EXPECT_EQ(clipped, 0);
  // a gripper of 0 between -1 and 1 is the middle, one of -1 the lower end; quantiles leave both as they are
  EXPECT_NEAR(normalize(s, {0, 0, 0}, nullptr, 0, ActionNormalization::released_apo)[2], 0, 1e-8);
  EXPECT_EQ(normalize(s, {0, 0, -1}, nullptr, 0, ActionNormalization::released_apo)[2], -1);
  // and between 0 and 1 it is not: 0.5 -> 0, where quantiles keep 0.5
  EXPECT_NEAR(normalize(example(), {0, 0, 0.5f}, nullptr, 0, ActionNormalization::released_apo)[2], 0, 2e-8);
  EXPECT_EQ(normalize(example(), {0, 0, 0.5f})[2], 0.5);
  EXPECT_EQ(normalize(s, {5, -3, 9}, &clipped, 0, ActionNormalization::released_apo), (std::vector<double>{1, -1, 1}));
  EXPECT_EQ(clipped, 3);
}

// Where the gripper is said to be elsewhere, its dimension is the one that stays as it is.
TEST(Statistics, OfAGripperThatIsNotTheLast) {
  TempDir dir;
  TrajectoryWriter writer(dir / "a.hdf5", test_info());
  writer.begin_episode("lift");
  for (int64_t i = 0; i < 40; ++i) {
    Step step = numbered_step(i);
    step.action = {static_cast<float>(i % 10) / 10, i < 20 ? -1.0f : 1.0f, static_cast<float>(i % 7) / 10, -1};
    writer.append(step);
  }
  writer.end_episode(true, "");
  DataOptions options;
  options.expert.push_back({.path = (dir / "a.hdf5").string()});
  const auto statistics = [&] {
    const Dataset dataset(options);
    return compute_statistics(dataset, dataset.kept_steps(true));
  };
  EXPECT_EQ(statistics().action.mask, (std::vector<bool>{true, true, true, false}));
  options.expert[0].gripper = {.dimension = {1}, .open = -1.0, .closed = 1.0};
  const DatasetStatistics s = statistics();
  EXPECT_EQ(s.action.mask, (std::vector<bool>{true, false, true, false}));   // the last one never changes
  EXPECT_EQ(unmasked_dimensions(s.action), (std::vector<int64_t>{1}));
  EXPECT_EQ(s.gripper, options.expert[0].gripper);
  // and what is known of it stays with the statistics
  const auto json = nlohmann::json::parse(to_json(s, "x"));
  EXPECT_EQ(json["x"]["gripper"], nlohmann::json::parse(R"({"dimension": [1], "open": -1, "closed": 1})"));
  EXPECT_EQ(statistics_from_json(json.dump(), "x", "here").gripper, s.gripper);
}

TEST(Statistics, ThereAndBack) {
  Random random(4);
  for (int i = 0; i < 100; ++i) {
    std::vector<float> action;
    for (const double scale : {1.0, 10.0, 1.0}) action.push_back(static_cast<float>(random.uniform(scale == 10 ? 0 : -1, scale)));
    const std::vector<double> normal = normalize(example(), action);
    const auto back = unnormalize(example(), std::vector<float>(normal.begin(), normal.end()));
    for (size_t j = 0; j < 3; ++j) EXPECT_NEAR(back[j], action[j], 1e-5);
  }
}

TEST(Statistics, JsonIsOpenVlas) {
  DatasetStatistics s{.action = example(), .state = {}, .num_transitions = 7, .num_trajectories = 2};
  s.state["joints"] = example();
  const auto json = nlohmann::json::parse(to_json(s, "tabletop"));
  EXPECT_EQ(json["tabletop"]["action"]["q99"], (std::vector<double>{1, 10, 1}));
  EXPECT_EQ(json["tabletop"]["action"]["mask"], (std::vector<bool>{true, true, false}));
  EXPECT_EQ(json["tabletop"]["proprio"]["q01"], (std::vector<double>{-1, 0, 0}));
  EXPECT_EQ(json["tabletop"]["num_transitions"], 7);
  const DatasetStatistics back = statistics_from_json(to_json(s, "tabletop"), "", "here");
  EXPECT_EQ(back.action.q01, s.action.q01);
  EXPECT_EQ(back.action.mask, s.action.mask);
  EXPECT_EQ(back.state.at("joints").max, example().max);
  EXPECT_EQ(back.num_trajectories, 2);
}

// Nothing to divide by: 0 in the policy's units, and back to the one number that was seen.
TEST(Statistics, ADimensionThatNeverChangesIsNeverNan) {
  const DatasetStatistics s = statistics_from_json(
      R"({"a": {"action": {"q01": [3, 0], "q99": [3, 1], "mean": [3, 0], "std": [0, 1], "min": [3, 0], "max": [3, 1]}}})", "", "x");
  EXPECT_TRUE(s.action.mask[0]);
  EXPECT_EQ(normalize(s.action, {3, 0.5f}), (std::vector<double>{0, 0}));
  EXPECT_EQ(normalize(s.action, {7, 0.5f}), (std::vector<double>{0, 0}));
  EXPECT_EQ(normalize(s.action, {3, 0.5f}, nullptr, 1e-8)[0], -1);  // as OpenVLA
  for (const float a : {-1.0f, 0.0f, 0.7f}) EXPECT_EQ(unnormalize(s.action, {a, 0})[0], 3);
}

TEST(Statistics, TableForPeople) {
  DatasetStatistics s{.action = example(), .state = {}, .num_transitions = 7, .num_trajectories = 2};
  const std::string text = to_text(s);
  EXPECT_THAT(text, HasSubstr("7 steps of 2 episodes"));
  EXPECT_THAT(text, HasSubstr("10.0000  yes\n"));
  EXPECT_THAT(text, HasSubstr("  no\n"));
}

TEST(Statistics, JsonErrorsNameTheKey) {
  const auto message = [](const std::string& text, const std::string& name = "") {
    return data_error([&] { statistics_from_json(text, name, "statistics.json"); });
  };
  EXPECT_THAT(message("not json"), HasSubstr("statistics.json:1: expected JSON, found something else"));
  EXPECT_THAT(message("[1]"), HasSubstr("statistics.json: expected an object of action statistics, found [1]"));
  EXPECT_THAT(message(R"({"a": {"action": {"q01": )" + std::string(300000, '[') + std::string(300000, ']') + "}}}"),
              HasSubstr("statistics.json: JSON nested too deeply, beyond 64 levels"));
  EXPECT_THAT(message(R"({"a": {}, "b": {}})"), HasSubstr("name one with unnorm_key (valid: a, b)"));
  EXPECT_THAT(message(R"({"a": {}, "b": {}})", "c"), HasSubstr("no statistics 'c' (valid: a, b)"));
  EXPECT_THAT(message(R"({"a": {}})"), HasSubstr("a.action: expected an object with q01, q99, ..., found nothing"));
  EXPECT_THAT(message(R"({"a": {"action": {"q01": [0]}}})"), HasSubstr("a.action.q99: expected a list, found nothing"));
  const std::string good = R"("mean": [0], "std": [1], "min": [0], "max": [1])";
  EXPECT_THAT(message(R"({"a": {"action": {"q01": [0], "q99": [1, 2], )" + good + "}}}"), HasSubstr("a.action.q99: expected 1 numbers, found [1,2]"));
  EXPECT_THAT(message(R"({"a": {"action": {"q01": ["x"], "q99": [1], )" + good + "}}}"), HasSubstr("q01[0]: expected a number, found \"x\""));
  EXPECT_THAT(message(R"({"a": {"action": {"q01": [2], "q99": [1], )" + good + "}}}"), HasSubstr("dimension 0: expected q99 not below q01, found q01 2 and q99 1"));
  EXPECT_THAT(message(R"({"a": {"action": {"q01": [0], "q99": [1], "mask": [1], )" + good + "}}}"), HasSubstr("mask[0]: expected true or false, found 1"));
  const auto with = [&](const std::string& entry) {
    return message(R"({"a": {"action": {"q01": [0], "q99": [1], )" + good + "}, " + entry + "}}");
  };
  EXPECT_THAT(with(R"("gripper": [6])"), HasSubstr("a.gripper: expected an object, found [6]"));
  EXPECT_THAT(with(R"("gripper": {"dimension": ["x"]})"), HasSubstr("a.gripper.dimension[0]: expected a whole number, found \"x\""));
  EXPECT_THAT(with(R"("gripper": {"dimension": [6]})"), HasSubstr("gripper.dimension: expected from -1 to 0"));
  EXPECT_THAT(with(R"("action_normalization": "auto")"), HasSubstr("a.action_normalization: expected quantiles or released-apo, found \"auto\""));
}

}  // namespace
}  // namespace apo::data
