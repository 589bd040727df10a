// What is different from some round on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apo/base/error.h"
#include "apo/config/options.h"
#include "apo/deploy/scripted_human.h"
#include "apo/loop/refine.h"

namespace apo::loop {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

RefineSetup setup_with(std::vector<LaterOptions> later) {
  RefineSetup setup;
  setup.refine.later = std::move(later);
  return setup;
}

std::string error_of(const RefineSetup& setup, int64_t round) {
  try {
    setup_of_round(setup, round);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(Rounds, WithoutLaterOptionsAllAreAlike) {
  const RefineSetup setup;
  EXPECT_TRUE(config::differences(setup_of_round(setup, 3), setup).empty());
}

TEST(Rounds, AnEntryHoldsFromItsRoundOnAndTheLastOneWins) {
  const RefineSetup setup = setup_with(
      {{.from_round = 2, .set = {"deploy.intervention.scripted.patience_steps=28", "objective.beta=0.4"}},
       {.from_round = 3, .set = {"objective.beta=0.2", "data.pools={desirable: 1, intervention: 1}"}}});
  const RefineSetup first = setup_of_round(setup, 1), second = setup_of_round(setup, 2),
                    third = setup_of_round(setup, 3);
  EXPECT_TRUE(config::differences(first, setup).empty());
  EXPECT_EQ(second.deploy.intervention.of<deploy::ScriptedHumanOptions>().patience_steps, 28);
  EXPECT_EQ(second.training.objective.beta, 0.4);
  EXPECT_EQ(second.training.data.pools.desirable, setup.training.data.pools.desirable);
  EXPECT_EQ(third.deploy.intervention.of<deploy::ScriptedHumanOptions>().patience_steps, 28);
  EXPECT_EQ(third.training.objective.beta, 0.2);
  EXPECT_EQ(third.training.data.pools.desirable, 1);
  EXPECT_EQ(third.training.data.pools.undesirable, setup.training.data.pools.undesirable);
  EXPECT_EQ(config::differences(second, setup).size(), 2u);
}

TEST(Rounds, WhatIsWrongIsNamed) {
  const auto with = [](const std::string& text) { return setup_with({{.from_round = 2, .set = {text}}}); };
  EXPECT_THAT(error_of(with("objective.beta"), 2),
              AllOf(StartsWith("refine.later[0].set[0]: expected key=value"), HasSubstr("objective.beta")));
  EXPECT_THAT(error_of(with("objective.bta=1"), 2),
              AllOf(StartsWith("refine.later[0].set[0]: "), HasSubstr("beta")));
  EXPECT_THAT(error_of(with("objective.beta=-1"), 2),
              AllOf(StartsWith("refine.later[0].set[0]: "), HasSubstr("-1")));
  EXPECT_THAT(error_of(with("eval.seed=1"), 2),
              HasSubstr("found eval.seed, which is the same in all rounds"));
  EXPECT_THAT(error_of(with("trainer.x=1"), 2), HasSubstr("found trainer.x"));
  // before its round, too
  EXPECT_THAT(error_of(with("run.seed=1"), 1), HasSubstr("found run.seed"));
}

}  // namespace
}  // namespace apo::loop
