// The rules and the expert on states written by hand.
#include "simulation/rules.h"

#include <gtest/gtest.h>

#include <cmath>

namespace apo::simulation {
namespace {

/// Red is named and lies at (0, 8 cm), blue at (0, -8 cm); the hand is open, 14 cm above the origin.
TabletopState scene() {
  TabletopState state;
  state.hand = {0, 0, 0.14};
  state.opening = 0.11;
  state.blocks = {{{0, 0.08, 0.022}, {0, -0.08, 0.022}}};
  return state;
}

TabletopState hand_at(double x, double y, double z) {
  TabletopState state = scene();
  state.hand = {x, y, z};
  return state;
}

TEST(Rules, TargetMustBeHighAndInTheHand) {
  TabletopState state = scene();
  state.blocks[0] = {0, 0, 0.071};
  state.hand = {0, 0, 0.071};
  EXPECT_TRUE(achieved(state));
  state.blocks[0][2] = 0.069;  // not above 7 cm
  EXPECT_FALSE(achieved(state));
  state.blocks[0] = {0.036, 0, 0.071};  // 3.6 cm beside the hand
  EXPECT_FALSE(achieved(state));
  state.blocks[0] = {0.034, -0.034, 0.100};  // within 3.5 cm on each axis
  EXPECT_TRUE(achieved(state));
  state.target = 1;  // the other block was named
  EXPECT_FALSE(achieved(state));
}

TEST(Rules, OtherBlockAndTableEdge) {
  TabletopState state = scene();
  EXPECT_FALSE(achieved_with_other(state));
  EXPECT_FALSE(off_table(state));
  state.blocks[1][2] = 0.046;
  EXPECT_TRUE(achieved_with_other(state));
  state.target = 1;
  EXPECT_FALSE(achieved_with_other(state));
  state.blocks[1][2] = -0.021;
  EXPECT_TRUE(off_table(state));
}

TEST(Rules, NearWrongNeedsAllThree) {
  EXPECT_TRUE(near_wrong(hand_at(0, -0.04, 0.10)));    // 4 cm from blue, 12 from red, 7.8 cm above it
  EXPECT_FALSE(near_wrong(hand_at(0, -0.04, 0.113)));  // 9.1 cm above it
  EXPECT_FALSE(near_wrong(hand_at(0, -0.029, 0.10)));  // 5.1 cm from it
  TabletopState close = hand_at(0, 0, 0.05);
  close.blocks = {{{0, 0.03, 0.022}, {0, -0.04, 0.022}}};  // nearer to red
  EXPECT_FALSE(near_wrong(close));
  close.target = 1;
  EXPECT_TRUE(near_wrong(close));
}

TEST(Expert, GoesSidewaysAtHeight) {
  // 8 cm to go at full speed 1; funnel height 0.022 + 0.075 = 0.097, so 4.3 cm down: full speed, -1.
  const Action action = scripted_expert(scene());
  ASSERT_EQ(action.size(), 7u);
  EXPECT_FLOAT_EQ(action[0], 0);
  EXPECT_FLOAT_EQ(action[1], 1);
  EXPECT_FLOAT_EQ(action[2], -1);
  EXPECT_FLOAT_EQ(action[6], -1);
}

TEST(Expert, SlowsDownOverTheBlock) {
  // 1.2 cm beside: half speed (1.2 / 2.4). Funnel height is the block's own, 0.022: 0.6 cm down is 0.6 / 2.4
  // = 0.25; but this is low enough to close (0.6 < 1.6 cm), so look from 3 cm above: 3 / 2.4 clamps to -1.
  const Action action = scripted_expert(hand_at(0.012, 0.08, 0.052));
  EXPECT_NEAR(action[0], -0.5, 1e-6);
  EXPECT_FLOAT_EQ(action[2], -1);
  EXPECT_FLOAT_EQ(action[6], -1);
}

TEST(Expert, RisesWhenLowBesideTheBlock) {
  // 6 cm beside and at its height: funnel 7.5 cm higher; rises at full speed, sideways at the floor of 0.3.
  const Action action = scripted_expert(hand_at(0.06, 0.08, 0.022));
  EXPECT_FLOAT_EQ(action[2], 1);
  EXPECT_NEAR(action[0], -0.3, 1e-6);
}

TEST(Expert, ClosesThenLifts) {
  TabletopState state = hand_at(0.012, 0.08, 0.022);
  Action action = scripted_expert(state);
  EXPECT_FLOAT_EQ(action[6], 1);
  EXPECT_FLOAT_EQ(action[2], 0);        // still open: stay down
  EXPECT_NEAR(action[0], -0.25, 1e-6);  // half of the half speed, fingers wide
  state.opening = 0.060;                // (0.066 - 0.060) / 0.012 = half closed
  action = scripted_expert(state);
  EXPECT_NEAR(action[2], 0.8 * 0.5, 1e-6);
  EXPECT_NEAR(action[0], -0.25 * 0.5, 1e-6);  // (0.060 - 0.05) / 0.02
  state.opening = 0.044;
  action = scripted_expert(state);
  EXPECT_NEAR(action[2], 0.8, 1e-6);
  EXPECT_FLOAT_EQ(action[0], 0);
}

TEST(Expert, FollowsTheNamedBlockAndStaysInRange) {
  TabletopState state = scene();
  state.target = 1;
  EXPECT_LT(scripted_expert(state)[1], 0);
  for (double x = -0.2; x <= 0.2; x += 0.05)
    for (double y = -0.2; y <= 0.2; y += 0.05)
      for (double z = 0.02; z <= 0.26; z += 0.04)
        for (const float value : scripted_expert(hand_at(x, y, z))) EXPECT_LE(std::abs(value), 1.0f);
}

}  // namespace
}  // namespace apo::simulation
