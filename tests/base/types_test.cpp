// The nouns: their names and their numbers in files.
#include "apo/base/types.h"

#include <gtest/gtest.h>

namespace apo {
namespace {

TEST(Types, ActionSourcesHaveTheNumbersOfTrajectoryFiles) {
  EXPECT_EQ(static_cast<int>(ActionSource::expert), 0);
  EXPECT_EQ(static_cast<int>(ActionSource::policy), 1);
  EXPECT_EQ(static_cast<int>(ActionSource::intervention), 2);
}

TEST(Types, ActionSourcesHaveNames) {
  EXPECT_EQ(to_string(ActionSource::expert), "expert");
  EXPECT_EQ(to_string(ActionSource::policy), "policy");
  EXPECT_EQ(to_string(ActionSource::intervention), "intervention");
}

TEST(Types, AStepKnowsNothingUntilItIsTold) {
  const Step step;
  EXPECT_EQ(step.source, ActionSource::policy);
  EXPECT_FALSE(step.policy_action.has_value());
  EXPECT_FALSE(step.desirable.has_value());
  EXPECT_FALSE(Episode().success.has_value());
}

}  // namespace
}  // namespace apo
