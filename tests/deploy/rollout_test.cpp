// One episode as whoever owns the clock drives it: who acted, chunks of actions, limits.
#include "apo/deploy/rollout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "apo/base/error.h"
#include "deploy/fakes.h"

namespace apo::deploy {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

environments::EnvironmentSpec spec() {
  return {.name = "bench", .action_size = 1, .max_steps = 4, .idle = {0}};
}

// Makes one step, for which the policy is asked if it has to be; returns what is recorded.
Step step(Rollout& rollout, std::optional<Intervention> human = {},
          const environments::Situation& after = {}) {
  if (rollout.needs_decision()) rollout.decided({{0.5f}});
  Step made = rollout.act({}, std::move(human));
  rollout.happened(after, made);
  return made;
}

TEST(Rollout, PlaysAChunkBeforeItAsksAgain) {
  Rollout rollout(spec(), 0);
  rollout.begin({});
  ASSERT_TRUE(rollout.needs_decision());
  rollout.decided({{0.1f}, {0.2f}, {0.3f}});
  int64_t asked_before = 0;
  for (const float expected : {0.1f, 0.2f, 0.3f}) {
    EXPECT_FALSE(rollout.needs_decision());
    const Step made = step(rollout);
    EXPECT_EQ(made.action, Action{expected});
    EXPECT_EQ(made.decision_offset, asked_before++);
  }
  EXPECT_TRUE(rollout.needs_decision());
  EXPECT_EQ(step(rollout).decision_offset, 0);
}

TEST(Rollout, WhatIsLeftOfAChunkGoesWhenAHumanActs) {
  Rollout rollout(spec(), 0);
  rollout.begin({});
  rollout.decided({{0.1f}, {0.2f}, {0.3f}});
  step(rollout);
  const Step taken = step(rollout, Intervention{{-1}, "wrong object", 2});
  EXPECT_EQ(taken.source, ActionSource::intervention);
  EXPECT_EQ(taken.action, Action{-1});
  EXPECT_EQ(taken.policy_action, Action{0.2f}) << "what the policy would have done";
  EXPECT_EQ(taken.decision_offset, 1) << "and when it was asked for that";
  ASSERT_TRUE(taken.take_over.has_value());
  EXPECT_EQ(taken.take_over->reason, "wrong object");
  EXPECT_EQ(taken.take_over->steps_held, 2);
  EXPECT_TRUE(rollout.needs_decision());
  EXPECT_FALSE(step(rollout, Intervention{{-1}, "wrong object"}).take_over.has_value())
      << "the same take-over";
  EXPECT_EQ(step(rollout).source, ActionSource::policy);
  const EpisodeResult result = rollout.result();
  EXPECT_EQ(result.take_over_reasons, std::vector<std::string>{"wrong object"});
  EXPECT_EQ(result.hand_backs, 1);
  EXPECT_EQ(result.steps, 4);
}

TEST(Rollout, EndsWithTheTaskOrTheTime) {
  Rollout late(spec(), 0, {.max_steps = 2, .max_steps_with_human = 3});
  late.begin({});
  EXPECT_FALSE(step(late).done);
  EXPECT_FALSE(step(late, Intervention{{1}, "slow"}).done) << "a human has more time";
  EXPECT_TRUE(step(late).done);
  EXPECT_TRUE(late.over());
  EXPECT_EQ(late.result().outcome, "timeout");

  Rollout first(spec(), 0);
  first.begin({});
  const Step achieved = step(first, {}, {.done = true, .success = true});
  EXPECT_TRUE(achieved.done);
  EXPECT_EQ(achieved.reward, 1);
  EXPECT_EQ(first.result().outcome, "success") << "unless the environment says otherwise";
  EXPECT_TRUE(first.result().flawless);

  Rollout begun_done(spec(), 0);
  begun_done.begin({.done = true});
  EXPECT_TRUE(begun_done.over());
  EXPECT_EQ(begun_done.result().outcome, "failure");
  EXPECT_EQ(begun_done.result().steps, 0);
}

TEST(Rollout, ThePolicyHasItsOwnTimeAfterTheHumansLastStep) {
  Rollout rollout(spec(), 0, {.max_steps = 4, .max_steps_with_human = 100, .max_steps_after_hand_back = 2});
  rollout.begin({});
  for (int64_t i = 0; i < 3; ++i) EXPECT_FALSE(step(rollout).done) << i << ": nobody has taken over yet";
  step(rollout, Intervention{{1}, "slow"});
  EXPECT_FALSE(step(rollout).done);
  for (int64_t i = 0; i < 9; ++i) EXPECT_FALSE(step(rollout, Intervention{{1}, "slow"}).done) << i;
  EXPECT_FALSE(step(rollout).done);
  EXPECT_TRUE(step(rollout).done);
  EXPECT_EQ(rollout.result().outcome, "timeout");
}

TEST(Rollout, FlawlessIsASuccessThatNobodyHadToWatch) {
  Rollout troubled(spec(), 0);
  troubled.begin({});
  step(troubled, {}, {.done = true, .success = true, .troubled = true});
  EXPECT_TRUE(troubled.result().success);
  EXPECT_FALSE(troubled.result().flawless);
}

TEST(Rollout, SeedsOfDecisionsBelongToTheEpisodeAndTheStep) {
  Rollout one(spec(), 7), same(spec(), 7), other(spec(), 8);
  for (Rollout* rollout : {&one, &same, &other}) rollout->begin({});
  EXPECT_EQ(one.decision_seed(), same.decision_seed());
  EXPECT_NE(one.decision_seed(), other.decision_seed());
  const uint64_t before = one.decision_seed();
  step(one);
  EXPECT_NE(one.decision_seed(), before);
}

TEST(Rollout, NamesEpisodeStepAndWhoOfABadAction) {
  Rollout rollout(spec(), 0, {.where = "episode 3"});
  rollout.begin({});
  step(rollout);
  EXPECT_THAT(message_of<RunError>([&] { rollout.decided({}); }),
              HasSubstr("at least one action from the policy"));
  EXPECT_THAT(message_of<RunError>([&] {
                rollout.decided({{1}, {1, 2}});
              }),
              HasSubstr("episode 3, step 1: expected an action of 1 numbers from the policy, found 2"));
  rollout.decided({{1}});
  EXPECT_THAT(message_of<RunError>([&] {
                rollout.act({}, Intervention{{}, "slow"});
              }),
              HasSubstr("from the human"));
  EXPECT_THAT(
      message_of<RunError>([&] { rollout.demonstrate({}, {std::numeric_limits<float>::quiet_NaN()}); }),
      HasSubstr("a finite action from the expert, found dimension 0 = nan"));
}

}  // namespace
}  // namespace apo::deploy
