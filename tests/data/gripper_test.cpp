// Which numbers of an action are grippers, and recoding them, by hand.
#include "apo/config/gripper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "apo/base/error.h"
#include "apo/config/options.h"
#include "apo/data/dataset.h"
#include "data/recordings.h"
#include "support/message_of.h"
#include "support/temp_dir.h"

namespace apo::data {
namespace {

using apo::testing::message_of;
using config::gripper_dimensions;
using config::or_else;
using config::recode_gripper;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string config_error(const GripperOptions& gripper, int64_t action_size) {
  return message_of<ConfigError>([&] { gripper_dimensions(gripper, action_size, "x.hdf5"); });
}

TEST(Gripper, IsTheLastNumberUnlessItIsSaid) {
  EXPECT_THAT(gripper_dimensions({}, 7), ElementsAre(6));
  EXPECT_THAT(gripper_dimensions({}, 1), IsEmpty());
  EXPECT_THAT(gripper_dimensions({.dimension = {6}}, 12), ElementsAre(6));
  EXPECT_THAT(gripper_dimensions({.dimension = {-1, 6}}, 14), ElementsAre(6, 13));
}

TEST(Gripper, SaysWhatIsWrong) {
  EXPECT_EQ(config_error({.dimension = {7}}, 7),
            "x.hdf5: gripper.dimension: expected from -7 to 6 (actions have 7 numbers), found 7");
  EXPECT_EQ(config_error({.dimension = {6, -1}}, 7), "x.hdf5: gripper.dimension: names dimension 6 twice");
  EXPECT_EQ(config_error({.dimension = {}, .open = 1.0, .closed = {}}, 7),
            "x.hdf5: gripper: expected both open and closed or neither, found open alone");
  EXPECT_EQ(config_error({.dimension = {}, .open = 1.0, .closed = 1.0}, 7),
            "x.hdf5: gripper: expected open and closed to differ, found 1 for both");
}

TEST(Gripper, WhatOneLeavesOpenIsAsTheOtherSays) {
  const GripperOptions coded{.dimension = {}, .open = 1.0, .closed = 0.0}, placed{.dimension = {6}};
  const GripperOptions both{.dimension = {6}, .open = 1.0, .closed = 0.0};
  EXPECT_EQ(or_else(coded, placed), both);
  EXPECT_EQ(or_else(placed, coded), both);
  EXPECT_EQ(or_else(both, {.dimension = {0}, .open = -1.0, .closed = 1.0}), both);
  EXPECT_EQ(or_else({}, {}), GripperOptions{});
  const GripperOptions half{.dimension = {}, .open = 1.0, .closed = {}};  // is not filled up, but refused
  EXPECT_EQ(or_else(half, both), (GripperOptions{.dimension = {6}, .open = 1.0, .closed = {}}));
}

TEST(Gripper, IsReadFromAConfig) {
  const auto read = [](const std::string& text) {
    return config::load<DataOptions>(config::Document::from_text(text)).expert.at(0).gripper;
  };
  EXPECT_EQ(read("expert: [{path: x, gripper: {dimension: -1, open: 1, closed: 0}}]"),
            (GripperOptions{.dimension = {-1}, .open = 1.0, .closed = 0.0}));
  EXPECT_THAT(read("expert: [{path: x, gripper: {dimension: [6, 13]}}]").dimension, ElementsAre(6, 13));
  EXPECT_FALSE(read("expert: [{path: x}]").is_given());
  EXPECT_THAT(message_of<ConfigError>([&] { read("expert: [{path: x, gripper: {dimension: last}}]"); }),
              HasSubstr("expert.0.gripper.dimension: expected a list of integers, found 'last'"));
}

TEST(Gripper, IsRecodedLinearly) {
  // -1 opens and 1 closes -> 1 opens and 0 closes: g' = (1 - g) / 2
  const GripperOptions robosuite{.dimension = {}, .open = -1.0, .closed = 1.0};
  const GripperOptions libero{.dimension = {}, .open = 1.0, .closed = 0.0};
  const std::vector<int64_t> dimensions{1};
  for (const auto& [from, to] : {std::pair(-1.0f, 1.0f), {1.0f, 0.0f}, {0.0f, 0.5f}, {0.5f, 0.25f}}) {
    Action action{0.7f, from, -0.2f};
    recode_gripper(action, dimensions, robosuite, libero);
    EXPECT_THAT(action, ElementsAre(0.7f, to, -0.2f));
    recode_gripper(action, dimensions, libero, robosuite);
    EXPECT_THAT(action, ElementsAre(0.7f, from, -0.2f));
    recode_gripper(action, dimensions, robosuite, {});  // nobody knows what to
    recode_gripper(action, dimensions, {}, libero);
    EXPECT_THAT(action, ElementsAre(0.7f, from, -0.2f));
  }
}

// Two sources coded each in its own way become the policy's, or else the first one's; so does what the policy
// wanted.
TEST(Gripper, OfRecordingsIsReadInOneCoding) {
  apo::testing::TempDir dir;
  const auto record = [&](const char* name, float command) {
    TrajectoryWriter writer(dir / name, test_info());
    writer.begin_episode("lift");
    for (int64_t i = 0; i < 3; ++i) {
      Step step = numbered_step(i, ActionSource::intervention);
      step.action[2] = command;
      step.policy_action = step.action;
      writer.append(step);
    }
    writer.end_episode(true, "");
    return (dir / name).string();
  };
  DataOptions options;
  options.expert.push_back(
      {.path = record("a.hdf5", 1), .gripper = {.dimension = {}, .open = 1.0, .closed = 0.0}});
  options.interactions.push_back(
      {.path = record("b.hdf5", -1), .gripper = {.dimension = {}, .open = -1.0, .closed = 1.0}});
  const auto commands = [&] {
    const Dataset dataset(options);
    const Sample a = dataset.sample_without_observation({0, 0, 1}),
                 b = dataset.sample_without_observation({1, 0, 1});
    EXPECT_EQ(b.policy_actions[0][2], b.actions[0][2]);
    EXPECT_EQ(a.actions[0][1], 0.5f);  // no gripper
    return std::pair(a.actions[0][2], b.actions[0][2]);
  };
  EXPECT_EQ(commands(), std::pair(1.0f, 1.0f));
  options.policy_gripper = {.dimension = {2}, .open = 0.0, .closed = 5.0};
  options.filter.max_abs_action = 10;
  EXPECT_EQ(commands(), std::pair(0.0f, 0.0f));
  options.interactions[0].gripper = {};  // as recorded
  EXPECT_EQ(commands(), std::pair(0.0f, -1.0f));
  options.interactions[0].gripper.dimension = {0};
  EXPECT_THAT(
      message_of<ConfigError>([&] { Dataset{options}; }),
      HasSubstr(
          "b.hdf5: gripper: dimension 0; expected dimension 2, 0 open, 5 closed as in the policy's actions"));
}

}  // namespace
}  // namespace apo::data
