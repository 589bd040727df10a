// The arithmetic of one logit, as both the CPU and the CUDA kernels run it.
#include "objective/kernels/row_math.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <bit>
#include <cmath>
#include <limits>

namespace apo::objective {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

double units_in_the_last_place(float got, double want) {
  const float rounded = static_cast<float>(want);
  return std::abs(got - want) / (std::nextafter(rounded, kInf) - static_cast<double>(rounded));
}

TEST(ExpFast, IsWithinTwoUnitsOfTheLibrarys) {
  // every 1,009th float of both signs within the range that has a normal result
  double worst = 0;
  for (const float limit : {-87.33f, 88.37f}) {
    const uint32_t end = std::bit_cast<uint32_t>(limit);
    for (uint32_t bits = end & 0x80000000u; bits <= end; bits += 1009) {
      const float x = std::bit_cast<float>(bits);
      worst = std::max(worst, units_in_the_last_place(exp_fast(x), std::exp(static_cast<double>(x))));
    }
  }
  EXPECT_LE(worst, 2.0);
}

TEST(ExpFast, KeepsTheEdges) {
  EXPECT_EQ(exp_fast(0.0f), 1.0f);
  EXPECT_EQ(exp_fast(-0.0f), 1.0f);
  EXPECT_EQ(exp_fast(-kInf), 0.0f);
  EXPECT_EQ(exp_fast(-1000.0f), 0.0f);
  EXPECT_EQ(exp_fast(kInf), kInf);
  EXPECT_EQ(exp_fast(100.0f), kInf);
  EXPECT_TRUE(std::isnan(exp_fast(kNaN)));
  EXPECT_TRUE(std::isfinite(exp_fast(88.37f)));
  EXPECT_GT(exp_fast(-87.3f), 0.0f);
  EXPECT_EQ(exp_fast(1.25), std::exp(1.25));
}

TEST(ExpSum, OneByOneEqualsMergedParts) {
  const float x[] = {1.5f, -3.0f, 80.0f, 79.0f, -200.0f};
  ExpSum<float> all, left, right, empty;
  for (float v : x) all.push(v);
  left.push(x[0]), left.push(x[1]);
  right.push(x[2]), right.push(x[3]), right.push(x[4]);
  left.merge(right.max, right.sum);
  left.merge(empty.max, empty.sum);
  empty.merge(left.max, left.sum);
  // 80 + log(1 + e^-1) = 80.31326...
  EXPECT_NEAR(all.log(), 80.31326, 1e-4);
  EXPECT_FLOAT_EQ(left.log(), all.log());
  EXPECT_FLOAT_EQ(empty.log(), all.log());
}

TEST(ExpSum, AnInfiniteOrMissingLogitIsNotHidden) {
  for (const float bad : {kInf, kNaN}) {
    ExpSum<float> sum;
    sum.push(1.0f), sum.push(bad), sum.push(2.0f);
    EXPECT_TRUE(std::isnan(sum.log())) << bad;
  }
  // -inf is a forbidden token: it adds nothing, first or last
  ExpSum<float> sum;
  sum.push(-kInf), sum.push(1.0f), sum.push(-kInf);
  EXPECT_FLOAT_EQ(sum.log(), 1.0f);
}

TEST(Bfloat16, RoundsToNearestEvenAsTorchDoes) {
  for (const float x : {0.0f, 1.0f, -1.00390625f, 1.01171875f, 3.14159274f, -2.7e-20f, 3.3e38f, kInf, kNaN}) {
    Bfloat16 ours;
    store(ours, x);
    const float expected = static_cast<float>(at::BFloat16(x));
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(load(ours)));
    } else {
      EXPECT_EQ(load(ours), expected) << x;
    }
  }
}

TEST(SmoothLabel, StaysWithinTheActionTokens) {
  const SmoothLabel label{.sigma = 1.0, .first = 2, .last = 8};
  EXPECT_TRUE(label.covers(2));
  EXPECT_TRUE(label.covers(8));
  EXPECT_FALSE(label.covers(1));
  EXPECT_FALSE(label.covers(9));
  EXPECT_EQ(label.low(5), 2);  // 5 - 6 < 2
  EXPECT_EQ(label.high(5), 8);
  EXPECT_EQ((SmoothLabel{.sigma = 0.3, .first = 2, .last = 8}.low(5)), 3);  // radius ceil(1.8) = 2
  EXPECT_FALSE((SmoothLabel{.sigma = 0, .first = 2, .last = 8}.covers(5)));
}

TEST(KlTerm, AnImpossibleTokenAddsNothing) {
  EXPECT_EQ(kl_term(-kInf, 0.0f, -kInf, 0.0f), 0.0f);
  // p = 1/2, p_ref = 1/4: 0.5 * ln 2
  EXPECT_NEAR(kl_term(std::log(0.5), 0.0, std::log(0.25), 0.0), 0.34657359, 1e-8);
}

}  // namespace
}  // namespace apo::objective
