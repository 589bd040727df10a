// The second task: the named block is pushed into the zone in the middle.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "apo/simulation/tabletop.h"
#include "simulation/rules.h"

namespace apo::simulation {
namespace {

/// Red is named and lies at (0, 8 cm), blue at (0, -8 cm); the closed hand is 14 cm above the origin.
TabletopState scene() {
  TabletopState state;
  state.task = TabletopTask::push;
  state.hand = {0, 0, 0.14};
  state.blocks = {{{0, 0.08, 0.022}, {0, -0.08, 0.022}}};
  return state;
}

TabletopState hand_at(double x, double y, double z) {
  TabletopState state = scene();
  state.hand = {x, y, z};
  return state;
}

TEST(PushRules, TheZoneIsTheBandInTheMiddle) {
  TabletopState state = scene();
  EXPECT_FALSE(achieved(state));
  state.blocks[0] = {0.1, 0.024, 0.022};  // anywhere along the band
  EXPECT_TRUE(achieved(state));
  EXPECT_FALSE(achieved_with_other(state));
  state.blocks[0][1] = 0.026;  // half the block still sticks out
  EXPECT_FALSE(achieved(state));
  state.blocks[0] = {0, 0, 0.05};  // carried above it
  EXPECT_FALSE(achieved(state));
  state.blocks[1] = {0, -0.01, 0.022};
  EXPECT_TRUE(achieved_with_other(state));
  state.target = 1;
  EXPECT_TRUE(achieved(state));
}

TEST(PushRules, ConcernIsAboutTheBlocksOuterSide) {
  // The hand has to come down at y = 8 + 5.5 = 13.5 cm.
  EXPECT_EQ(tabletop_concern(hand_at(0, -0.04, 0.10)), "wrong object");  // 4 cm from blue, 7.8 cm above it
  EXPECT_EQ(tabletop_concern(hand_at(0, 0.08, 0.075)), "off course");  // 5.3 cm above red, 5.5 cm from there
  EXPECT_EQ(tabletop_concern(hand_at(0, 0.09, 0.075)), std::nullopt);  // 4.5 cm from there
  EXPECT_EQ(tabletop_concern(hand_at(0, 0.08, 0.085)), std::nullopt);  // 6.3 cm above: still high
  EXPECT_EQ(tabletop_concern(hand_at(0, 0.08, 0.065)), std::nullopt);  // 4.3 cm above: too late
}

TEST(PushExpert, ClimbsOverTheBlockAndComesDownBehindIt) {
  Action action = scripted_expert(scene());
  EXPECT_FLOAT_EQ(action[0], 0);
  EXPECT_FLOAT_EQ(action[1], 1);   // 13.5 cm to go
  EXPECT_FLOAT_EQ(action[2], -1);  // to 9.7 cm
  EXPECT_FLOAT_EQ(action[6], 1);   // fingers closed
  action = scripted_expert(hand_at(0, 0.135, 0.06));
  EXPECT_FLOAT_EQ(action[1], 0);
  EXPECT_FLOAT_EQ(action[2], -1);                     // 3.8 cm down
  action = scripted_expert(hand_at(0, 0.05, 0.022));  // low on the wrong side: up first
  EXPECT_FLOAT_EQ(action[2], 1);
  EXPECT_NEAR(action[1], 0.3, 1e-6);
}

TEST(PushExpert, PushesInLineWithTheBlock) {
  Action action = scripted_expert(hand_at(0.012, 0.135, 0.022));
  EXPECT_FLOAT_EQ(action[1], -1);
  EXPECT_NEAR(action[0], -0.5, 1e-6);  // 1.2 cm of 2.4
  EXPECT_FLOAT_EQ(action[2], 0);
  TabletopState mirrored = hand_at(0, -0.135, 0.022);
  mirrored.target = 1;
  EXPECT_FLOAT_EQ(scripted_expert(mirrored)[1], 1);
}

class PushTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Tabletop::available()) GTEST_SKIP() << "built without MuJoCo";
  }
};

TEST_F(PushTest, ExpertSucceeds) {
  for (const double noise : {0.0, 0.2}) {
    Tabletop table({.task = TabletopTask::push, .action_noise = noise});
    int successes = 0;
    double steps = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
      table.reset(seed);
      while (!table.done()) table.step(scripted_expert(table.state()));
      successes += table.success();
      steps += static_cast<double>(table.state().num_steps);
      EXPECT_FALSE(table.ever_near_wrong()) << "seed " << seed;
      EXPECT_EQ(table.success(), std::abs(table.state().target_block()[1]) < 0.025);
    }
    EXPECT_GE(successes, 99) << "noise " << noise;
    EXPECT_LE(steps / 100, 22) << "noise " << noise;
    EXPECT_EQ(table.solver_warnings(), 0);
    EXPECT_EQ(table.clamped_actions(), 0);
  }
}

TEST_F(PushTest, WrongBlockFails) {
  Tabletop table({.task = TabletopTask::push});
  for (uint64_t seed = 0; seed < 5; seed++) {
    table.reset(seed);
    while (!table.done()) {
      TabletopState state = table.state();
      state.target = 1 - state.target;
      table.step(scripted_expert(state));
    }
    EXPECT_EQ(table.outcome(), "wrong object");
    EXPECT_TRUE(table.ever_near_wrong()) << "seen while the hand was high";
  }
}

TEST_F(PushTest, SaysWhatToDoAndShowsTheZone) {
  Tabletop pick, push({.task = TabletopTask::push});
  for (uint64_t seed = 0; seed < 8; seed++) {
    push.reset(seed);
    const std::string color = push.state().target == 0 ? "red" : "blue";
    EXPECT_EQ(push.observe().instruction, "push the " + color + " block into the zone");
    for (const auto& block : push.state().blocks) {
      EXPECT_GE(std::abs(block[1]), 0.055);
      EXPECT_LE(std::abs(block[1]), 0.095);
    }
  }
  const auto green = [](const Tabletop& table) {
    const at::Tensor p = table.observe().images.at("front").to(torch::kInt32);
    return (p.select(2, 1) - p.select(2, 0) > 40).sum().item<int64_t>();
  };
  pick.reset(1);
  push.reset(1);
  EXPECT_EQ(green(pick), 0);
  EXPECT_GT(green(push), 200);
}

TEST_F(PushTest, AMovedBlockDoesNotSlipIntoTheZone) {
  Tabletop table({.task = TabletopTask::push}, {.object_moved = {.probability = 1, .distance_m = 0.1}});
  int moved = 0;
  for (uint64_t seed = 0; seed < 30; seed++) {
    table.reset(seed);
    while (!table.done()) {
      const bool before = table.state().object_moved;
      table.step(scripted_expert(table.state()));
      if (!before && table.state().object_moved) {
        moved++;
        EXPECT_FALSE(table.done()) << "seed " << seed;
        EXPECT_GE(std::abs(table.state().target_block()[1]), 0.054);
      }
    }
  }
  EXPECT_GT(moved, 20);
}

}  // namespace
}  // namespace apo::simulation
