#include "report/ticks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace apo::report {
namespace {

using ::testing::DoubleEq;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using Labels = std::vector<std::string>;

// 10 / 5 = 2 is nice; 11 / 5 = 2.2 -> 5; 7 / 5 = 1.4 -> 2; 0.9 / 5 = 0.18 -> 0.2; 26 / 5 = 5.2 -> 10
TEST(NiceStep, IsOneTwoOrFiveTimesAPowerOfTen) {
  EXPECT_DOUBLE_EQ(nice_step(10, 5), 2);
  EXPECT_DOUBLE_EQ(nice_step(11, 5), 5);
  EXPECT_DOUBLE_EQ(nice_step(7, 5), 2);
  EXPECT_DOUBLE_EQ(nice_step(0.9, 5), 0.2);
  EXPECT_DOUBLE_EQ(nice_step(26, 5), 10);
  EXPECT_DOUBLE_EQ(nice_step(5e-5, 5), 1e-5);
}

// span 0.44 in 5 parts: step 0.1; the ends widen from [0.21, 0.65] to [0.2, 0.7]
TEST(LinearScale, WidensItsEndsToWholeTicks) {
  const Scale scale = linear_scale(0.21, 0.65, 5, true);
  EXPECT_DOUBLE_EQ(scale.low, 0.2);
  EXPECT_DOUBLE_EQ(scale.high, 0.7);
  EXPECT_THAT(scale.ticks,
              ElementsAre(DoubleNear(0.2, 1e-12), DoubleNear(0.3, 1e-12), DoubleNear(0.4, 1e-12),
                          DoubleNear(0.5, 1e-12), DoubleNear(0.6, 1e-12), DoubleNear(0.7, 1e-12)));
  EXPECT_EQ(scale.labels, (Labels{"0.2", "0.3", "0.4", "0.5", "0.6", "0.7"}));
}

// span 499 in 6 parts: 83 -> 100; the ends stay, the ticks lie within
TEST(LinearScale, KeepsItsEndsWhenAsked) {
  const Scale scale = linear_scale(1, 500, 6, false);
  EXPECT_EQ(scale.low, 1);
  EXPECT_EQ(scale.high, 500);
  EXPECT_EQ(scale.labels, (Labels{"100", "200", "300", "400", "500"}));
}

TEST(LinearScale, CrossesZeroWithoutAMinus) {
  const Scale scale = linear_scale(-9.2, 1.4, 5, true);  // span 10.6 / 5 = 2.12 -> 5
  EXPECT_EQ(scale.labels, (Labels{"-10", "-5", "0", "5"}));
}

TEST(LinearScale, DrawsConstants) {
  const Scale constant = linear_scale(4, 4, 5, true);  // [2, 6], span 4 / 5 -> 1
  EXPECT_EQ(constant.labels, (Labels{"2", "3", "4", "5", "6"}));
  const Scale zero = linear_scale(0, 0, 5, true);
  EXPECT_EQ(zero.low, 0);
  EXPECT_EQ(zero.high, 1);
  const Scale rate = linear_scale(0, 5e-5, 5, true);
  EXPECT_EQ(rate.labels, (Labels{"0", "1e-5", "2e-5", "3e-5", "4e-5", "5e-5"}));
}

TEST(LinearScale, SurvivesAnyNumbers) {
  const double infinity = std::numeric_limits<double>::infinity(),
               largest = std::numeric_limits<double>::max();
  for (const auto& [low, high] : {std::pair{-infinity, infinity},
                                  {std::nan(""), 1.0},
                                  {-largest, largest},
                                  {1e300, 1e308},
                                  {5e-324, 1e-320},
                                  {1e15, 1e15 + 1}}) {
    const Scale scale = linear_scale(low, high, 5, true);
    EXPECT_TRUE(std::isfinite(scale.low) && std::isfinite(scale.high)) << low << " " << high;
    EXPECT_LT(scale.low, scale.high) << low << " " << high;
    EXPECT_LE(scale.ticks.size(), 13u);
    EXPECT_EQ(scale.ticks.size(), scale.labels.size());
  }
}

// low 2 at 0, high 6 at 1: 3 at a quarter
TEST(Scale, PlacesValuesLinearlyOrByTheirLogarithm) {
  EXPECT_DOUBLE_EQ((Scale{.low = 2, .high = 6, .ticks = {}, .labels = {}}).share(3), 0.25);
  Scale log = log_scale(1, 10000);
  EXPECT_NEAR(log.share(100), 0.5, 1e-12);
  EXPECT_LT(log.share(0.5), 0);
}

TEST(LogScale, TicksPowersOfTenOrOneTwoFive) {
  const Scale wide = log_scale(0.03, 700);  // widened to [0.02, 1000]
  EXPECT_DOUBLE_EQ(wide.low, 0.02);
  EXPECT_DOUBLE_EQ(wide.high, 1000);
  EXPECT_EQ(wide.labels, (Labels{"0.1", "1", "10", "100", "1,000"}));
  const Scale narrow = log_scale(3, 70);  // [2, 100]: 1.7 decades
  EXPECT_EQ(narrow.labels, (Labels{"2", "5", "10", "20", "50", "100"}));
  EXPECT_LT(log_scale(5, 5).low, log_scale(5, 5).high);
}

TEST(TickLabel, IsShort) {
  EXPECT_EQ(tick_label(20000, 20000, 100000), "20k");
  EXPECT_EQ(tick_label(1500, 500, 20000), "1.5k");
  EXPECT_EQ(tick_label(1500000, 500000, 2000000), "1.5M");
  EXPECT_EQ(tick_label(0.25, 0.05, 0.5), "0.25");
  EXPECT_EQ(tick_label(-1e-17, 0.1, 1), "0");
  EXPECT_EQ(tick_label(2000, 1000, 5000), "2,000");
}

}  // namespace
}  // namespace apo::report
