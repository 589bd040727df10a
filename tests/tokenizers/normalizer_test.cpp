// Actions there and back: numbers by hand.
#include "apo/tokenizers/normalizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "apo/base/error.h"
#include "apo/base/random.h"
#include "support/message_of.h"
#include "tokenizers/example_statistics.h"

namespace apo::tokenizers {
namespace {

using testing::example;
using ::testing::HasSubstr;

std::vector<double> apply(const Normalizer& normalizer, const std::vector<float>& action,
                          int64_t* clipped = nullptr) {
  const at::Tensor x = normalizer.normalize(at::tensor(action, at::kFloat).to(at::kDouble), clipped);
  return {x.data_ptr<double>(), x.data_ptr<double>() + x.numel()};
}

std::vector<double> there(const VectorStatistics& statistics, const std::vector<float>& action,
                          int64_t* clipped = nullptr, double epsilon = 0,
                          ActionNormalization as = ActionNormalization::quantiles) {
  return apply(Normalizer(statistics, as, epsilon), action, clipped);
}

std::vector<float> invert(const Normalizer& normalizer, const std::vector<float>& action) {
  const at::Tensor x = normalizer.unnormalize(at::tensor(action, at::kFloat));
  return {x.data_ptr<float>(), x.data_ptr<float>() + x.numel()};
}

std::vector<float> back(const VectorStatistics& statistics, const std::vector<float>& action) {
  return invert(Normalizer(statistics, ActionNormalization::quantiles, 0), action);
}

TEST(Normalizer, NormalizesByQuantiles) {
  int64_t clipped = 0;
  // 2 (5 - 0) / 10 - 1 = 0; the gripper stays
  EXPECT_EQ(there(example(), {0.5f, 5, -1}, &clipped), (std::vector<double>{0.5, 0, -1}));
  EXPECT_EQ(clipped, 0);
  EXPECT_EQ(there(example(), {-3, 12, 1.5f}, &clipped), (std::vector<double>{-1, 1, 1}));
  EXPECT_EQ(clipped, 3);
  EXPECT_EQ(back(example(), {0.5f, 0, -1}), (std::vector<float>{0.5f, 5, -1}));
  EXPECT_THAT(apo::testing::message_of<DataError>([] {
                there(example(), {1, 2});
              }),
              HasSubstr("expected 3 numbers as in the statistics, found 2"));
  EXPECT_THAT(apo::testing::message_of<DataError>([] { back(example(), {1}); }), HasSubstr("found 1"));
}

TEST(Normalizer, NormalizesByMinimumAndMaximum) {
  int64_t clipped = 0;
  const auto as = ActionNormalization::bounds;
  // 2 (1 + 2) / 4 - 1 = 0.5, 2 (2.5 - 0) / 10 - 1 = -0.5; the gripper stays
  EXPECT_EQ(there(example(), {1, 2.5f, -1}, &clipped, 0, as), (std::vector<double>{0.5, -0.5, -1}));
  EXPECT_EQ(clipped, 0);
  EXPECT_EQ(there(example(), {-3, 12, 0}, &clipped, 0, as), (std::vector<double>{-1, 1, 0}));
  EXPECT_EQ(clipped, 2);
  EXPECT_EQ(invert(Normalizer(example(), as, 0), {0.5f, -0.5f, -1}), (std::vector<float>{1, 2.5f, -1}));
}

TEST(Normalizer, WhatNeverChangesMayBecomeZero) {
  VectorStatistics s = example();
  s.min[1] = s.max[1] = s.q01[1] = s.q99[1] = 4;
  const Normalizer normalizer(s, {.epsilon = 1e-8, .inverse_epsilon = 1e-8, .constant_to_zero = true});
  EXPECT_EQ(apply(normalizer, {0, 4, 1})[1], 0);
  EXPECT_NEAR(apply(normalizer, {0, 4, 1})[0], 0, 1e-8);
  EXPECT_NEAR(invert(normalizer, {0, 0, 1})[1], 4, 1e-6);
}

TEST(Normalizer, AGripperFarOutsideItsRangeIsRefused) {
  const Normalizer strict(example(), {.unmasked_margin = 1e-3});
  EXPECT_EQ(apply(strict, {0, 5, 1.0005f})[2], 1);
  EXPECT_THAT(apo::testing::message_of<DataError>([&] {
                apply(strict, {0, 5, -1.01f});
              }),
              HasSubstr("dimension 2: found -1.01, outside the statistics' -1..1"));
}

// 2 (a - q01) / (q99 - q01 + 1e-8) - 1 in float64, in every dimension whatever the mask says.
TEST(Normalizer, NormalizesAsTheReleasedProgram) {
  VectorStatistics s = example();
  s.q01[2] = -1;
  s.q99[2] = 1;
  int64_t clipped = 0;
  const auto x = there(s, {1, 2.5f, 1}, &clipped, 0, ActionNormalization::released_apo);
  EXPECT_EQ(x[0], 4 / (2 + 1e-8) - 1);
  EXPECT_LT(x[0], 1);  // about 1 - 1e-8, which float32 cannot tell from 1
  EXPECT_EQ(x[1], 2 * 2.5 / (10 + 1e-8) - 1);
  EXPECT_EQ(x[2], x[0]);
  EXPECT_EQ(clipped, 0);
  // a gripper of 0 between -1 and 1 is the middle, one of -1 the lower end; quantiles leave both as they are
  EXPECT_NEAR(there(s, {0, 0, 0}, nullptr, 0, ActionNormalization::released_apo)[2], 0, 1e-8);
  EXPECT_EQ(there(s, {0, 0, -1}, nullptr, 0, ActionNormalization::released_apo)[2], -1);
  // and between 0 and 1 it is not: 0.5 -> 0, where quantiles keep 0.5
  EXPECT_NEAR(there(example(), {0, 0, 0.5f}, nullptr, 0, ActionNormalization::released_apo)[2], 0, 2e-8);
  EXPECT_EQ(there(example(), {0, 0, 0.5f})[2], 0.5);
  EXPECT_EQ(there(s, {5, -3, 9}, &clipped, 0, ActionNormalization::released_apo),
            (std::vector<double>{1, -1, 1}));
  EXPECT_EQ(clipped, 3);
}

TEST(Normalizer, ThereAndBack) {
  Random random(4);
  for (int i = 0; i < 100; ++i) {
    std::vector<float> action;
    for (const double scale : {1.0, 10.0, 1.0})
      action.push_back(static_cast<float>(random.uniform(scale == 10 ? 0 : -1, scale)));
    const std::vector<double> normal = there(example(), action);
    const auto again = back(example(), std::vector<float>(normal.begin(), normal.end()));
    for (size_t j = 0; j < 3; ++j) EXPECT_NEAR(again[j], action[j], 1e-5);
  }
}

// Nothing to divide by: 0 in the policy's units, and back to the one number that was seen.
TEST(Normalizer, ADimensionThatNeverChangesIsNeverNan) {
  const DatasetStatistics s = statistics_from_json(
      R"({"a": {"action": {"q01": [3, 0], "q99": [3, 1], "mean": [3, 0], "std": [0, 1], "min": [3, 0], "max": [3, 1]}}})",
      "", "x");
  EXPECT_TRUE(s.action.mask[0]);
  EXPECT_EQ(there(s.action, {3, 0.5f}), (std::vector<double>{0, 0}));
  EXPECT_EQ(there(s.action, {7, 0.5f}), (std::vector<double>{0, 0}));
  EXPECT_EQ(there(s.action, {3, 0.5f}, nullptr, 1e-8)[0], -1);  // as OpenVLA
  for (const float a : {-1.0f, 0.0f, 0.7f}) EXPECT_EQ(back(s.action, {a, 0})[0], 3);
}

// (a - mean) / (std + epsilon), unclipped, and back with the same epsilon, as openpi's.
TEST(Normalizer, ZScores) {
  VectorStatistics s = example();
  s.mean = {1, 5, 0};
  s.std = {0.5, 2, 0};
  const Normalizer normalizer(
      s, {.how = Normalization::z_score, .epsilon = 0.5, .inverse_epsilon = 0.5, .clip = false});
  EXPECT_EQ(apply(normalizer, {3, 0, 7}), (std::vector<double>{2, -2, 7}));  // 2 / 1, -5 / 2.5, masked
  EXPECT_EQ(invert(normalizer, {2, -2, 7}), (std::vector<float>{3, 0, 7}));
  s.mask = {true, true, true};
  const Normalizer bare(s, {.how = Normalization::z_score, .clip = false});
  EXPECT_EQ(apply(bare, {3, 0, 7})[2], 0);  // nothing to divide by
  EXPECT_EQ(invert(bare, {0, 0, 7})[2], 0);
}

// pi0-FAST's: quantiles with an epsilon both ways, beyond [-1, 1] where the action is.
TEST(Normalizer, QuantilesUnclippedWithAnEpsilonBothWays) {
  const Normalizer normalizer(example(),
                              {.epsilon = 6, .inverse_epsilon = 6, .clip = false, .to_float32 = false});
  int64_t clipped = 0;
  // 2 * 8 / 8 - 1, 2 * 8 / 16 - 1
  EXPECT_EQ(apply(normalizer, {7, 8, 2}, &clipped), (std::vector<double>{1, 0, 2}));
  EXPECT_EQ(apply(normalizer, {15, 0, 0})[0], 3);
  EXPECT_EQ(clipped, 0);
  EXPECT_EQ(invert(normalizer, {1, 0, 2}), (std::vector<float>{7, 8, 2}));
}

// LeRobot's: in float32, where a range of exactly 0 counts as 1e-8.
TEST(Normalizer, InFloat32WithARangeOfNothing) {
  VectorStatistics s = example();
  s.mask = {true, true, true};
  s.q01 = {0.1, -1, 0.3}, s.q99 = {0.7, 1, 0.3};
  const Normalizer normalizer(s, {.clip = false, .in_float32 = true, .zero_spread = 1e-8});
  const float x = 0.3f;
  const float expected = 2.0f * (x - 0.1f) / (0.7f - 0.1f) - 1.0f;
  EXPECT_EQ(apply(normalizer, {x, 0, 0.3f})[0], static_cast<double>(expected));
  EXPECT_EQ(apply(normalizer, {x, 0, 0.3f})[2], -1);
  EXPECT_EQ(invert(normalizer, {expected, 0, 5})[0], (expected + 1.0f) / 2.0f * (0.7f - 0.1f) + 0.1f);
  EXPECT_EQ(invert(normalizer, {expected, 0, 5})[2], 6.0f / 2.0f * 1e-8f + 0.3f);
  // the same in float64 is another number
  const Normalizer wide(s, {.clip = false, .to_float32 = false});
  EXPECT_NE(apply(wide, {x, 0, 0.3f})[0], static_cast<double>(expected));
}

TEST(Normalizer, OfNothingKnownClipsAlone) {
  int64_t clipped = 0;
  EXPECT_EQ(apply(Normalizer(2), {0.25f, -3}, &clipped), (std::vector<double>{0.25, -1}));
  EXPECT_EQ(clipped, 1);
  EXPECT_EQ(invert(Normalizer(2), {0.25f, -1}), (std::vector<float>{0.25f, -1}));
}

// [2, 3, 3] as six rows.
TEST(Normalizer, ChunksAreRows) {
  const at::Tensor chunks = at::arange(18, at::kDouble).view({2, 3, 3}) / 9 - 1;
  const Normalizer normalizer(example(), ActionNormalization::quantiles, 0);
  const at::Tensor all = normalizer.normalize(chunks);
  for (int64_t i = 0; i < 2; ++i)
    for (int64_t h = 0; h < 3; ++h) EXPECT_TRUE(all[i][h].equal(normalizer.normalize(chunks[i][h])));
  EXPECT_TRUE(normalizer.unnormalize(all)[1][2].equal(normalizer.unnormalize(all[1][2])));
}

}  // namespace
}  // namespace apo::tokenizers
