// Statistics of recorded steps: numbers by hand.
#include "apo/data/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <nlohmann/json.hpp>

#include "apo/tokenizers/normalizer.h"
#include "data/recordings.h"
#include "support/temp_dir.h"

namespace apo::data {
namespace {

using apo::testing::TempDir;
using ::testing::HasSubstr;
using tokenizers::DatasetStatistics;
using tokenizers::statistics_from_json;
using tokenizers::unmasked_dimensions;

TEST(Statistics, QuantilesAreNumpys) {
  // numpy.quantile([1, 2, 4, 8], q): place 3q; 0.5 -> 1.5 -> 3; 0.99 -> 2.97 -> 4 + 0.97 * 4 = 7.88; 0.01 ->
  // 1.03
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
  EXPECT_NEAR(s.action.q01[0], 0.009, 1e-6);  // place 0.09 between 0 and 0.1
  EXPECT_NEAR(s.action.q99[0], 0.891, 1e-6);
  // the second never changes, the last is the gripper
  EXPECT_EQ(s.action.mask, (std::vector<bool>{true, true, false}));
  ASSERT_EQ(s.state.count("joints"), 1u);
  EXPECT_NEAR(s.state.at("joints").mean[0], 4.5, 1e-6);
  EXPECT_EQ(s.state.at("joints").mask, (std::vector<bool>{true, false}));
  EXPECT_THAT(data_error([&] { compute_statistics(dataset, {}); }),
              HasSubstr("expected at least one kept step"));
}

// 256 bins have no exact zero: 0.004 of a turn in each step would tilt a hand, and a parked joint at 1.57
// would be sent to 1. A dimension that moves now and then, and a gripper, are left as they are.
TEST(Statistics, WhatNeverChangesComesBackAsItsNumberWhateverIsDecided) {
  TempDir dir;
  TrajectoryWriter writer(dir / "a.hdf5", test_info());
  writer.begin_episode("lift");
  for (int64_t i = 0; i < 300; ++i) {
    Step step = numbered_step(i);
    step.action = {0, i % 2 == 0 ? 1.57f : 1.5700001f, i == 7 ? 1.0f : 0.0f, 1};
    writer.append(step);
  }
  writer.end_episode(true, "");
  DataOptions options;
  options.expert.push_back({.path = (dir / "a.hdf5").string()});
  options.filter.min_motion = 0;
  options.filter.max_abs_action = 2;
  const Dataset dataset(options);
  const DatasetStatistics s = compute_statistics(dataset, dataset.kept_steps(true));
  EXPECT_EQ(s.action.mask, (std::vector<bool>{true, true, false, false}));
  const tokenizers::Normalizer normalizer(s.action, tokenizers::ActionNormalization::quantiles, 0);
  const at::Tensor decided = at::full({4}, 1.0f / 255), actions = normalizer.unnormalize(decided);
  EXPECT_EQ(actions[0].item<float>(), 0);
  EXPECT_NEAR(actions[1].item<float>(), 1.57, 1e-6);
  EXPECT_EQ(actions[2].item<float>(), 1.0f / 255);
  EXPECT_EQ(actions[3].item<float>(), 1.0f / 255);
  int64_t clipped = 0;
  const at::Tensor there = normalizer.normalize(at::tensor({0.0, 1.57, 0.0, 1.0}, at::kDouble), &clipped);
  EXPECT_EQ(clipped, 0);
  EXPECT_EQ(there[0].item<double>(), 0);
  EXPECT_EQ(there[1].item<double>(), 0);
  // what a person did and the policy cannot
  normalizer.normalize(at::tensor({0.25, 1.57, 0.0, 1.0}, at::kDouble), &clipped);
  EXPECT_EQ(clipped, 1);
}

// Where the gripper is said to be elsewhere, its dimension is the one that stays as it is.
TEST(Statistics, OfAGripperThatIsNotTheLast) {
  TempDir dir;
  TrajectoryWriter writer(dir / "a.hdf5", test_info());
  writer.begin_episode("lift");
  for (int64_t i = 0; i < 40; ++i) {
    Step step = numbered_step(i);
    step.action = {static_cast<float>(i % 10) / 10, i < 20 ? -1.0f : 1.0f, static_cast<float>(i % 7) / 10,
                   -1};
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
  EXPECT_EQ(s.action.mask, (std::vector<bool>{true, false, true, true}));  // the last one never changes
  EXPECT_EQ(unmasked_dimensions(s.action), (std::vector<int64_t>{1}));
  EXPECT_EQ(s.gripper, options.expert[0].gripper);
  // and what is known of it stays with the statistics
  const auto json = nlohmann::json::parse(to_json(s, "x"));
  EXPECT_EQ(json["x"]["gripper"], nlohmann::json::parse(R"({"dimension": [1], "open": -1, "closed": 1})"));
  EXPECT_EQ(statistics_from_json(json.dump(), "x", "here").gripper, s.gripper);
}

}  // namespace
}  // namespace apo::data
