// When a hand counts as stuck, as having grasped air or passed the block by, and that the demonstrator's
// never does.
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

TEST(GraspedAir, FingersCloserThanAroundABlock) {
  TabletopState state = hovering();
  for (const auto& [opening, expected] :
       {std::pair{0.11, false}, {0.044, false}, {0.03, false}, {0.019, true}}) {
    state.opening = opening;
    EXPECT_EQ(grasped_air(state), expected) << opening;
  }
  state.task = TabletopTask::push;  // with closed fingers
  EXPECT_FALSE(grasped_air(state));
}

// Past the block at y = 8 cm, 2 cm a step.
TEST(PassedBy, FourCentimetresFartherThanTheClosestOfLessThanFive) {
  const auto passing = [](double beside) {
    return [beside](size_t i, TabletopState& s) { s.hand = {beside, 0.02 * static_cast<double>(i), 0.1}; };
  };
  EXPECT_FALSE(passed_by({}));
  EXPECT_FALSE(passed_by(states(7, passing(0))));  // 4 cm beyond
  EXPECT_TRUE(passed_by(states(8, passing(0))));
  EXPECT_FALSE(passed_by(states(12, passing(0.051))));  // never near it
  EXPECT_TRUE(passed_by(states(12, passing(0.049))));
}

// The block that slips away is passed by of nobody: near is who was near where it lies now.
TEST(PassedBy, TheBlockThatSlipsAwayIsNot) {
  EXPECT_FALSE(passed_by(states(9, [](size_t i, TabletopState& s) { s.blocks[0][1] += i < 8 ? 0 : 0.06; })));
}

TEST(Concern, TheFirstThatHolds) {
  const auto concern = [](size_t n, const std::function<void(size_t, TabletopState&)>& change) {
    return tabletop_concern(states(n, change));
  };
  EXPECT_EQ(concern(9, nullptr), "stuck");
  EXPECT_EQ(concern(9, [](size_t, TabletopState& s) { s.opening = 0.01; }), "grasped air");
  EXPECT_EQ(concern(9,
                    [](size_t i, TabletopState& s) {
                      s.hand = {0, i < 8 ? 0.08 : 0.02, 0.08};
                    }),
            "passed by");  // off course, too
  EXPECT_EQ(concern(9,
                    [](size_t i, TabletopState& s) {
                      s.hand = {0, i < 8 ? 0.08 : -0.08, 0.08};
                    }),
            "wrong object");
}

class ConcernOnTabletop : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Tabletop::available()) GTEST_SKIP() << Tabletop::problem();
  }
};

// 900 episodes, in the habit's layouts and others, and with the demonstrations' noise.
TEST_F(ConcernOnTabletop, TheExpertGivesNone) {
  for (const TabletopTask task : {TabletopTask::pick, TabletopTask::push})
    for (const double habit : {1.0, 0.5})
      for (const double noise : {0.0, 0.2, 0.3}) {
        Tabletop table({.task = task, .max_steps = 60, .habit = habit, .action_noise = noise});
        for (uint64_t seed = 0; seed < 75; ++seed) {
          table.reset(seed);
          std::vector<TabletopState> seen{table.state()};
          while (!table.done()) {
            // which a single step may be: it is answered after four
            ASSERT_EQ(tabletop_concern(seen).value_or("off course"), "off course")
                << "task " << static_cast<int>(task) << ", habit " << habit << ", noise " << noise
                << ", seed " << seed << ", step " << seen.size() - 1;
            table.step(scripted_expert(table.state()));
            seen.push_back(table.state());
          }
          ASSERT_TRUE(table.success());
        }
      }
}

TEST_F(ConcernOnTabletop, AHandThatHoversIs) {
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
