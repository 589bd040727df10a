#include "report/intervals.h"

#include <gtest/gtest.h>

namespace apo::report {
namespace {

// Bentur et al. 2009 (airway hyper-responsiveness, 21 children): -0.286 [-0.507, -0.026] in Fagerland,
// Lydersen and Laake 2014. Altman et al. 2000, table 6.2: 14, 5, 0, 22 of 41: 0.122 [0.011, 0.226].
TEST(PairedInterval, AgreesWithPublishedExamples) {
  const Interval children = paired_interval({.both = 1, .only_before = 7, .only_after = 1, .neither = 12});
  EXPECT_NEAR(children.value, -0.286, 5e-4);
  EXPECT_NEAR(children.low, -0.507, 5e-4);
  EXPECT_NEAR(children.high, -0.026, 5e-4);
  const Interval altman = paired_interval({.both = 14, .only_before = 0, .only_after = 5, .neither = 22});
  EXPECT_NEAR(altman.value, 0.122, 5e-4);
  EXPECT_NEAR(altman.low, 0.011, 1e-3);
  EXPECT_NEAR(altman.high, 0.226, 1e-3);
}

TEST(PairedInterval, MirrorsWhenThePoliciesChangePlaces) {
  const Interval there = paired_interval({.both = 40, .only_before = 3, .only_after = 9, .neither = 8});
  const Interval back = paired_interval({.both = 40, .only_before = 9, .only_after = 3, .neither = 8});
  EXPECT_NEAR(there.low, -back.high, 1e-12);
  EXPECT_NEAR(there.high, -back.low, 1e-12);
}

// Where a margin is empty there is no correlation to speak of: as if independent.
TEST(PairedInterval, WithoutMarginsIsThatOfIndependentShares) {
  const Interval paired = paired_interval({.both = 0, .only_before = 0, .only_after = 6, .neither = 4});
  const Interval independent = difference_interval(wilson_interval(0, 10), wilson_interval(6, 10));
  EXPECT_DOUBLE_EQ(paired.low, independent.low);
  EXPECT_DOUBLE_EQ(paired.high, independent.high);
  const Interval all = paired_interval({.both = 10, .only_before = 0, .only_after = 0, .neither = 0});
  EXPECT_LT(all.low, 0);
  EXPECT_GT(all.high, 0);
}

TEST(PText, RoundsTowardsNoFalsePrecision) {
  EXPECT_EQ(p_text(18.0 / 256), "p = 0.070");
  EXPECT_EQ(p_text(0.3), "p = 0.30");
  EXPECT_EQ(p_text(1e-9), "p < 0.001");
}

}  // namespace
}  // namespace apo::report
