#include "report/series.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "report/intervals.h"

namespace apo::report {
namespace {

using ::testing::ElementsAre;
const double kNan = std::nan("");

TEST(SmoothingWindow, IsOddAndAFortiethOfTheRun) {
  EXPECT_EQ(smoothing_window(0), 1u);
  EXPECT_EQ(smoothing_window(59), 1u);
  EXPECT_EQ(smoothing_window(500), 13u);   // 500 / 40 = 12.5
  EXPECT_EQ(smoothing_window(2400), 61u);  // 60
  EXPECT_EQ(smoothing_window(100000), 2501u);
}

// window 3: (0+3)/2, (0+3+6)/3, (3+6+3)/3, (6+3)/2
TEST(Smoothed, AveragesNeighbours) {
  const Series series{{1, 2, 3, 4}, {0, 3, 6, 3}};
  const Series out = smoothed(series, 3, 100);
  EXPECT_THAT(out.x, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(out.y, ElementsAre(1.5, 3, 4, 4.5));
  EXPECT_EQ(smoothed(series, 1, 100).y, series.y);
}

// of 5 places 3 are kept: 0, 2, 4
TEST(Smoothed, KeepsFirstAndLastOfLongSeries) {
  const Series series{{1, 2, 3, 4, 5}, {10, 20, 30, 40, 50}};
  const Series out = smoothed(series, 1, 3);
  EXPECT_THAT(out.x, ElementsAre(1, 3, 5));
  EXPECT_THAT(out.y, ElementsAre(10, 30, 50));
}

TEST(Smoothed, LeavesGapsWhereValuesAreNotFinite) {
  const Series out = smoothed({{1, 2, 3}, {2, kNan, 6}}, 3, 100);
  EXPECT_EQ(out.y[0], 2);
  EXPECT_TRUE(std::isnan(out.y[1]));
  EXPECT_EQ(out.y[2], 6);
  EXPECT_EQ(smoothed({}, 1, 100).size(), 0u);
}

// 6 values in 3 parts; the middle one has nothing finite
TEST(Envelope, SpansEachPart) {
  const Envelope band = envelope({{1, 2, 3, 4, 5, 6}, {5, 1, kNan, kNan, 7, 9}}, 3);
  EXPECT_THAT(band.x, ElementsAre(1.5, 5.5));
  EXPECT_THAT(band.low, ElementsAre(1, 7));
  EXPECT_THAT(band.high, ElementsAre(5, 9));
}

TEST(Means, OfTheEndsSkipWhatIsNotFinite) {
  const Series series{{1, 2, 3, 4}, {1, 5, kNan, 8}};
  EXPECT_EQ(mean_at_end(series, 2), 6.5);
  EXPECT_EQ(mean_at_start(series, 2), 3);
  EXPECT_TRUE(std::isnan(mean_at_end({}, 2)));
}

// sorted 1 2 4 8: place 0.5 * 3 = 1.5 -> (2 + 4) / 2; place 0.9 * 3 = 2.7 -> 4 + 0.7 * 4
TEST(Quantile, IsLinearBetweenNeighbours) {
  const std::vector<double> values = {8, 1, kNan, 4, 2};
  EXPECT_DOUBLE_EQ(quantile(values, 0.5), 3);
  EXPECT_DOUBLE_EQ(quantile(values, 0.9), 6.8);
  EXPECT_EQ(quantile(values, 0), 1);
  EXPECT_EQ(quantile(values, 1), 8);
  EXPECT_TRUE(std::isnan(quantile({}, 0.5)));
}

// 8 of 10, z = 1.96: center (0.8 + 0.19207) / 1.38415 = 0.71674, half 1.96 / 1.38415 * sqrt(0.016 +
// 0.0096036) = 0.22658
TEST(WilsonInterval, MatchesThePencil) {
  const Interval interval = wilson_interval(8, 10);
  EXPECT_EQ(interval.value, 0.8);
  EXPECT_NEAR(interval.low, 0.4902, 1e-4);
  EXPECT_NEAR(interval.high, 0.9433, 1e-4);
  EXPECT_EQ(wilson_interval(0, 10).low, 0);
  EXPECT_EQ(wilson_interval(10, 10).high, 1);
}

// Newcombe 1998, table II (a): 56/70 - 48/80 gives 0.2000 [0.0524, 0.3339] by method 10.
TEST(DifferenceInterval, MatchesNewcombesTable) {
  const Interval gain = difference_interval(wilson_interval(48, 80), wilson_interval(56, 70));
  EXPECT_NEAR(gain.value, 0.2, 1e-12);
  EXPECT_NEAR(gain.low, 0.0524, 5e-5);
  EXPECT_NEAR(gain.high, 0.3339, 5e-5);
}

}  // namespace
}  // namespace apo::report
