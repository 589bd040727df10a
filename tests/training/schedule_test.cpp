#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "apo/base/files.h"
#include "apo/training/trainer.h"
#include "support/places.h"

namespace apo::training {
namespace {

const OptimizerOptions kPeakOne = {.learning_rate = 1.0};

TEST(LearningRate, WarmsUpLinearlyFromAShareOfThePeak) {
  // 0.1 + 0.9 · step / 10
  for (const char* type : {"cosine", "constant", "linear"}) {
    const ScheduleOptions schedule = {.type = type, .warmup_steps = 10, .warmup_start = 0.1};
    EXPECT_DOUBLE_EQ(learning_rate(kPeakOne, schedule, 0, 100), 0.1);
    EXPECT_DOUBLE_EQ(learning_rate(kPeakOne, schedule, 5, 100), 0.55);
    EXPECT_DOUBLE_EQ(learning_rate(kPeakOne, schedule, 10, 100), 1.0);
  }
}

TEST(LearningRate, FollowsItsType) {
  const auto at_step = [](const char* type, int64_t step) {
    return learning_rate(kPeakOne, {.type = type, .warmup_steps = 0, .final_ratio = 0.2}, step, 100);
  };
  EXPECT_DOUBLE_EQ(at_step("constant", 99), 1.0);
  // linear: 0.2 + 0.8 · (1 − 25/100)
  EXPECT_DOUBLE_EQ(at_step("linear", 25), 0.8);
  EXPECT_DOUBLE_EQ(at_step("linear", 100), 0.2);
  // cosine: 0.2 + 0.8 · ½ (1 + cos(π/4)), half-way the middle
  EXPECT_DOUBLE_EQ(at_step("cosine", 25), 0.2 + 0.4 * (1 + std::sqrt(0.5)));
  EXPECT_NEAR(at_step("cosine", 50), 0.6, 1e-15);
  EXPECT_NEAR(at_step("cosine", 100), 0.2, 1e-15);
}

TEST(LearningRate, IsDefinedForRunsShorterThanTheWarmup) {
  const ScheduleOptions schedule = {.warmup_steps = 10, .warmup_start = 0.1};
  for (int64_t step = 0; step < 4; ++step) {
    const double rate = learning_rate(kPeakOne, schedule, step, 4);
    EXPECT_DOUBLE_EQ(rate, 0.1 + 0.09 * static_cast<double>(step));
  }
}

TEST(LearningRate, EqualsTheReleasedCodesWarmupAndCosine) {
  const auto golden =
      nlohmann::json::parse(read_file(apo::testing::in_source("tests/training/goldens/training.json")));
  const std::vector<double> rates = golden["adamw"]["learning_rates"];
  ASSERT_EQ(rates.size(), 100u);
  for (size_t step = 0; step < rates.size(); ++step)
    EXPECT_NEAR(learning_rate({.learning_rate = 5e-3}, {}, static_cast<int64_t>(step), 100), rates[step],
                1e-12)
        << step;
}

}  // namespace
}  // namespace apo::training
