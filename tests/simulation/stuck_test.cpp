// When a hand counts as stuck, and that the demonstrator's never does.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <functional>
#include <vector>

#include "apo/simulation/tabletop.h"

namespace apo::simulation {
namespace {

// The hand 3 cm above the block.
TabletopState hovering() {
  TabletopState state;
  state.blocks = {{{0.0, 0.08, 0.02}, {0.0, -0.08, 0.02}}};
  state.hand = {0, 0.08, 0.05};
  state.opening = 0.11;
  return state;
}

std::vector<TabletopState> states(size_t n,
                                  const std::function<void(size_t, TabletopState&)>& change = nullptr) {
  std::vector<TabletopState> all(n, hovering());
  for (size_t i = 0; change && i < n; ++i) change(i, all[i]);
  return all;
}

TEST(Stuck, AfterEightStepsAtRest) {
  EXPECT_EQ(steps_stuck({}), 0);
  EXPECT_EQ(steps_stuck(states(8)), 0);  // 7 steps
  EXPECT_EQ(steps_stuck(states(9)), 8);
  EXPECT_EQ(steps_stuck(states(12)), 11);
  // it came from 10 cm away and has been there since state 4
  EXPECT_EQ(steps_stuck(states(13, [](size_t i, TabletopState& s) { s.hand[0] = i < 4 ? 0.10 : 0; })), 8);
}

TEST(Stuck, TremblingIsNoMotionAndLeavingIs) {
  EXPECT_EQ(
      steps_stuck(states(9, [](size_t i, TabletopState& s) { s.hand[2] += i % 2 == 0 ? 0.009 : -0.009; })),
      8);
  EXPECT_EQ(
      steps_stuck(states(9, [](size_t i, TabletopState& s) { s.hand[1] += 0.003 * static_cast<double>(i); })),
      0);
}

TEST(Stuck, WhoClosesTheFingersOrMovesTheBlockIsNot) {
  const auto closing = [](size_t i, TabletopState& s) { s.opening = i < 4 ? 0.11 : 0.05; };
  EXPECT_EQ(steps_stuck(states(12, closing)), 0);
  EXPECT_EQ(steps_stuck(states(13, closing)), 8);  // closed, and nothing came of it
  EXPECT_EQ(steps_stuck(states(9, [](size_t i, TabletopState& s) { s.blocks[0][1] += i < 5 ? 0.006 : 0; })),
            0);
  EXPECT_EQ(steps_stuck(states(9, [](size_t i, TabletopState& s) { s.blocks[1][1] += i < 5 ? 0.006 : 0; })),
            8);
}

TEST(Stuck, WhoTriesAgainAndAgainIsAfterSixteenSteps) {
  const auto fluttering = [](size_t i, TabletopState& s) {
    s.opening = i % 2 == 0 ? 0.11 : 0.04;
    s.hand[2] += i % 4 < 2 ? 0.015 : -0.015;
  };
  EXPECT_EQ(steps_stuck(states(16, fluttering)), 0);
  EXPECT_EQ(steps_stuck(states(17, fluttering)), 16);
}

class StuckOnTabletop : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Tabletop::available()) GTEST_SKIP() << Tabletop::problem();
  }
};

// 900 episodes, in the habit's layouts and others, and with the demonstrations' noise.
TEST_F(StuckOnTabletop, TheExpertNeverIs) {
  for (const TabletopTask task : {TabletopTask::pick, TabletopTask::push})
    for (const double habit : {1.0, 0.5})
      for (const double noise : {0.0, 0.2, 0.3}) {
        Tabletop table({.task = task, .max_steps = 60, .habit = habit, .action_noise = noise});
        for (uint64_t seed = 0; seed < 75; ++seed) {
          table.reset(seed);
          std::vector<TabletopState> seen{table.state()};
          while (!table.done()) {
            ASSERT_EQ(steps_stuck(seen), 0)
                << "task " << static_cast<int>(task) << ", habit " << habit << ", noise " << noise
                << ", seed " << seed << ", step " << seen.size() - 1;
            table.step(scripted_expert(table.state()));
            seen.push_back(table.state());
          }
          ASSERT_TRUE(table.success());
        }
      }
}

TEST_F(StuckOnTabletop, AHandThatHoversIs) {
  Tabletop table;
  table.reset(3);
  std::vector<TabletopState> seen{table.state()};
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(steps_stuck(seen), 0);
    table.step({0, 0, 0, 0, 0, 0, -1});
    seen.push_back(table.state());
  }
  EXPECT_EQ(steps_stuck(seen), 8);
}

}  // namespace
}  // namespace apo::simulation
