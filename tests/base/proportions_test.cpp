#include "apo/base/proportions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apo/base/error.h"

namespace apo {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(Wilson, ByHand) {
  // 8 of 10, z = 1.96: center (0.8 + 3.8416/20) / (1 + 3.8416/10) = 0.99208 / 1.38416 = 0.716738;
  // half width 1.96 sqrt(0.8 0.2 / 10 + 3.8416 / 400) / 1.38416 = 1.96 * 0.160013 / 1.38416 = 0.226581
  const Rate rate = wilson(8, 10, 1.96);
  EXPECT_DOUBLE_EQ(rate.rate, 0.8);
  EXPECT_NEAR(rate.low, 0.490157, 2e-6);
  EXPECT_NEAR(rate.high, 0.943319, 2e-6);
  EXPECT_EQ(rate.count, 8);
  EXPECT_EQ(rate.total, 10);
}

TEST(Wilson, AtTheEnds) {
  // none of 10: [0, z²/(n + z²)] = [0, 3.8416/13.8416]
  const Rate none = wilson(0, 10, 1.96), all = wilson(10, 10, 1.96), nothing = wilson(0, 0);
  EXPECT_EQ(none.low, 0);
  EXPECT_NEAR(none.high, 3.8416 / 13.8416, 1e-12);
  EXPECT_EQ(all.high, 1);
  EXPECT_NEAR(all.low, 10 / 13.8416, 1e-12);
  EXPECT_EQ(nothing.rate, 0);
  EXPECT_EQ(nothing.low, 0);
  EXPECT_EQ(nothing.high, 1);
  EXPECT_THAT([] { wilson(11, 10); }, ThrowsMessage<ConfigError>(HasSubstr("count 11")));
}

TEST(Wilson, MirrorsSuccessAndFailure) {
  for (int64_t k = 0; k <= 20; ++k) {
    const Rate a = wilson(k, 20), b = wilson(20 - k, 20);
    EXPECT_NEAR(a.low, 1 - b.high, 1e-12);
    EXPECT_LE(a.low, a.rate);
    EXPECT_GE(a.high, a.rate);
  }
}

TEST(McNemar, ByHand) {
  EXPECT_EQ(mcnemar_exact(0, 0), 1);
  EXPECT_NEAR(mcnemar_exact(1, 0), 1, 1e-12);  // 2 / 2
  EXPECT_NEAR(mcnemar_exact(5, 0), 2.0 / 32, 1e-12);
  EXPECT_NEAR(mcnemar_exact(2, 10), 2.0 * (1 + 12 + 66) / 4096, 1e-12);
  EXPECT_NEAR(mcnemar_exact(10, 2), mcnemar_exact(2, 10), 1e-15);
  EXPECT_EQ(mcnemar_exact(3, 3), 1);  // 2 (1 + 6 + 15 + 20) / 64 > 1
  EXPECT_NEAR(mcnemar_exact(59, 6) / 4.9647e-12, 1, 0.01) << mcnemar_exact(59, 6);
  const double far = mcnemar_exact(5000, 100);
  EXPECT_GE(far, 0);
  EXPECT_LT(far, 1e-300);
}

}  // namespace
}  // namespace apo
