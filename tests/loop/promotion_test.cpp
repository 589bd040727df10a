#include "loop/promotion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace apo::loop {
namespace {

EvalResult tried(const std::vector<bool>& success) {
  EvalResult result;
  result.trials.resize(success.size());
  for (size_t i = 0; i < success.size(); ++i) result.trials[i].success = success[i];
  return result;
}

TEST(Promotion, ComparesTrialByTrial) {
  // two won, one lost of five: +20 points; p = 2 (1 + 3) / 8 = 1
  const Promotion better =
      judge_promotion(tried({true, true, true, false, false}), tried({true, false, false, true, false}), 0);
  EXPECT_TRUE(better.promoted);
  EXPECT_EQ(better.test.only_first, 2);
  EXPECT_EQ(better.test.only_second, 1);
  EXPECT_EQ(promotion_text(better),
            "+20.0 points against the policy in use (2 trials won, 1 lost of 5, p = 1.00)");
}

TEST(Promotion, AsGoodIsGoodEnoughAndWorseWithinTheToleranceToo) {
  EXPECT_TRUE(judge_promotion(tried({true, false}), tried({false, true}), 0).promoted);
  const std::vector<bool> one = {true, false, false, false}, two = {true, true, false, false};
  const Promotion worse = judge_promotion(tried(one), tried(two), 0.1);
  EXPECT_FALSE(worse.promoted);
  EXPECT_EQ(promotion_text(worse),
            "−25.0 points against the policy in use (0 trials won, 1 lost of 4, p = 1.00)");
  const Promotion tolerated = judge_promotion(tried(one), tried(two), 0.25);
  EXPECT_TRUE(tolerated.promoted);
  EXPECT_EQ(tolerated.tolerance, 0.25);
}

}  // namespace
}  // namespace apo::loop
