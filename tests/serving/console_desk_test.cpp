// The console's rules: who holds the arm, when it moves, and what pages are told.
#include "serving/console_desk.h"

#include <gmock/gmock.h>
#include <torch/types.h>

#include "serving/console_pages.h"
#include "support/message_of.h"

namespace apo::serving {
namespace {

using namespace std::chrono_literals;
using apo::testing::message_of;
using Json = ConsoleDesk::Json;
using ::testing::HasSubstr;

class Desk : public ::testing::Test {
 protected:
  Desk() { open({}); }

  void open(DeskOptions more) {
    more.action_size = 3;
    more.control_hz = 2;  // an input is good for a second: longer than a busy machine forgets a process
    more.grippers = {2};
    more.rules.labels.steps_before_intervention = 2;
    more.rules.filter.min_motion = 0;
    desk_ = std::make_unique<ConsoleDesk>(
        more,
        [this](int64_t viewer, const Json& message) {
          said_.push_back({viewer, message});
        },
        [this](const std::string& episode, std::optional<bool> success, const std::string& outcome) {
          ends_.push_back({episode, success, outcome});
        });
    a_ = desk_->join(Clock());
    b_ = desk_->join(Clock());
  }
  static std::chrono::steady_clock::time_point Clock() { return std::chrono::steady_clock::now(); }

  /// A step of the robot; what it executes.
  Action step(const std::string& episode = "robot") {
    const Observation seen{.images = {}, .state = {}, .instruction = "lift"};
    const Action wanted{0.5f, 0.5f, 1};
    const auto override =
        desk_->decide({.episode = episode, .step = 0, .observation = seen, .policy_action = &wanted});
    Step what;
    what.action = override ? override->action : wanted;
    what.source = override ? ActionSource::intervention : ActionSource::policy;
    if (override) what.policy_action = wanted;
    if (!override || override->recorded) desk_->happened(episode, what);
    return what.action;
  }
  void hear(int64_t viewer, Json message) { desk_->hear(viewer, message, Clock()); }
  void input(int64_t viewer, std::vector<float> action) {
    hear(viewer, {{"type", "input"}, {"action", action}});
  }
  std::string last_notice(int64_t viewer) const {
    for (auto it = said_.rbegin(); it != said_.rend(); ++it)
      if (it->second["type"] == "notice" && (it->first == viewer || it->first == 0))
        return it->second["text"];
    return "";
  }

  std::unique_ptr<ConsoleDesk> desk_;
  std::vector<std::pair<int64_t, Json>> said_;
  struct Ended {
    std::string episode;
    std::optional<bool> success;
    std::string outcome;
  };
  std::vector<Ended> ends_;
  int64_t a_ = 0, b_ = 0;
  const Action policy_{0.5f, 0.5f, 1};
};

TEST_F(Desk, ThePolicyActsUntilAPersonTakesOverAndTheArmWaitsForTheirFirstInput) {
  EXPECT_EQ(step(), policy_);
  hear(a_, {{"type", "take_over"}});
  EXPECT_EQ(desk_->state_for(a_)["holder"], "me");
  EXPECT_EQ(desk_->state_for(b_)["holder"], "other");
  EXPECT_EQ(step(), (Action{0, 0, 1}));  // the gripper as it was
  EXPECT_EQ(desk_->state_for(a_)["reason_no_motion"], "Still until your first input.");
  input(a_, {-1, 0.25f, -1});
  EXPECT_EQ(step(), (Action{-1, 0.25f, -1}));
  EXPECT_EQ(desk_->state_for(a_)["reason_no_motion"], "");
  EXPECT_EQ(desk_->state_for(a_)["human_action"], Json({-1, 0.25f, -1}));
  hear(a_, {{"type", "hand_back"}});
  EXPECT_EQ(step(), policy_);
  EXPECT_EQ(desk_->state_for(a_)["mode"], "policy");
}

TEST_F(Desk, AnOldInputAHiddenWindowAndAnotherPageDoNotMoveTheArm) {
  step();
  hear(a_, {{"type", "take_over"}});
  input(b_, {1, 1, 1});
  EXPECT_EQ(step(), (Action{0, 0, 1}));
  input(a_, {1, 1, -1});
  EXPECT_EQ(step(), (Action{1, 1, -1}));
  std::this_thread::sleep_for(1100ms);
  EXPECT_EQ(step(), (Action{0, 0, -1}));
  input(a_, {1, 1, -1});
  hear(a_, {{"type", "visible"}, {"visible", false}});
  EXPECT_EQ(step(), (Action{0, 0, -1}));
  input(a_, {1, 1, -1});
  EXPECT_EQ(step(), (Action{0, 0, -1}));
  hear(a_, {{"type", "visible"}, {"visible", true}});
  EXPECT_EQ(step(), (Action{0, 0, -1}));
  hear(a_, {{"type", "input"}, {"action", {0.5, 0, nullptr}}});
  EXPECT_EQ(step(), (Action{0.5f, 0, -1}));  // null: the gripper as it was
}

TEST_F(Desk, ASecondPersonAsksBeforeTheyGetTheArm) {
  step();
  hear(a_, {{"type", "take_over"}});
  hear(b_, {{"type", "take_over"}});
  EXPECT_EQ(last_notice(b_), "someone else holds the arm");
  EXPECT_EQ(desk_->state_for(a_)["holder"], "me");
  hear(b_, {{"type", "hand_back"}});
  hear(b_, {{"type", "success"}});
  EXPECT_TRUE(ends_.empty());
  EXPECT_EQ(desk_->state_for(a_)["holder"], "me");
  hear(b_, {{"type", "take_over"}, {"force", true}});
  EXPECT_EQ(last_notice(a_), "someone else took the arm");
  EXPECT_EQ(desk_->state_for(b_)["holder"], "me");
}

TEST_F(Desk, ALostPageHandsBackOrPauses) {
  step();
  hear(a_, {{"type", "take_over"}});
  desk_->look_around(Clock() + 2s);
  EXPECT_EQ(desk_->state_for(a_)["mode"], "human");
  desk_->look_around(Clock() + 4s);
  EXPECT_EQ(step(), policy_);
  open({.lost_pauses = true});
  step();
  hear(a_, {{"type", "take_over"}});
  desk_->leave(a_);
  EXPECT_EQ(desk_->state_for(b_)["mode"], "paused");
  EXPECT_EQ(step(), (Action{0, 0, 1}));
  hear(b_, {{"type", "pause"}, {"paused", false}});
  EXPECT_EQ(step(), policy_);
}

TEST_F(Desk, PausedStepsAreNoSteps) {
  step();
  hear(a_, {{"type", "pause"}, {"paused", true}});
  step();
  step();
  EXPECT_EQ(desk_->state_for(a_)["step"], 1);
  hear(a_, {{"type", "pause"}, {"paused", false}});
  step();
  EXPECT_EQ(desk_->state_for(a_)["step"], 2);
}

TEST_F(Desk, CountsThePoolsAndShowsWhatTheTakeOverMadeUndesirable) {
  for (int i = 0; i < 4; ++i) step();
  hear(a_, {{"type", "take_over"}});
  input(a_, {1, 0, 1});
  step();
  const Json state = desk_->state_for(a_);
  EXPECT_EQ(state["pools"], Json({{"desirable", 2}, {"intervention", 1}, {"undesirable", 2}}));
  EXPECT_EQ(state["preview"], Json({2, 4}));
  EXPECT_EQ(state["k"], 2);
  EXPECT_EQ(desk_->label("demo_0", 3), "u");
}

TEST_F(Desk, AnEndedEpisodeIsListedAndItsHolderIsFree) {
  step();
  hear(a_, {{"type", "take_over"}});
  step();
  hear(a_, {{"type", "success"}});
  ASSERT_EQ(ends_.size(), 1u);
  EXPECT_EQ(ends_[0].episode, "robot");
  EXPECT_EQ(ends_[0].success, true);
  EXPECT_EQ(ends_[0].outcome, "success");
  desk_->ended("robot", true, "success", {});
  const Json state = desk_->state_for(a_);
  EXPECT_EQ(state["episode_state"], "finished");
  EXPECT_EQ(state["holder"], "nobody");
  Json list;
  for (const auto& [viewer, message] : said_)
    if (message["type"] == "episodes") list = message["episodes"];
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0]["name"], "demo_0");
  EXPECT_EQ(list[0]["sources"], "ph");
  EXPECT_EQ(list[0]["labels"], "ui");
  hear(a_, {{"type", "take_over"}});
  EXPECT_EQ(last_notice(a_), "no episode runs");
  // whoever held it has to say that the next one may begin
  EXPECT_EQ(desk_->state_for(b_)["mode"], "paused");
  EXPECT_EQ(step(), (Action{0, 0, 1}));
  hear(a_, {{"type", "pause"}, {"paused", false}});
  EXPECT_EQ(step(), policy_);
  EXPECT_EQ(desk_->episode(), "demo_1");
}

TEST_F(Desk, AMarkOfWhoDoesNotHoldTheArmPausesNothing) {
  step();
  hear(a_, {{"type", "failure"}});
  ASSERT_EQ(ends_.size(), 1u);
  EXPECT_EQ(ends_[0].success, false);
  desk_->ended("robot", false, "failure", {});
  hear(a_, {{"type", "failure"}});
  EXPECT_THAT(last_notice(a_), HasSubstr("no episode runs"));
  EXPECT_EQ(step(), policy_);
}

TEST_F(Desk, APauseHoldsEveryRobotAndOnlyAClearWordEndsIt) {
  step("first");
  hear(b_, {{"type", "pause"}});
  EXPECT_EQ(step("second"), (Action{0, 0, 1}));
  hear(b_, {{"type", "pause"}, {"paused", "no"}});
  EXPECT_EQ(step("first"), (Action{0, 0, 1}));
  hear(b_, {{"type", "pause"}, {"paused", false}});
  EXPECT_EQ(step("second"), policy_);
}

TEST_F(Desk, TwoPeopleWhoPauseAtOnceDoNotSetTheRobotInMotion) {
  step();
  const auto now = Clock();
  desk_->hear(a_, {{"type", "pause"}}, now);
  desk_->hear(b_, {{"type", "pause"}, {"paused", false}}, now + 300ms);
  EXPECT_EQ(desk_->state_for(a_)["mode"], "paused");
  EXPECT_THAT(last_notice(b_), HasSubstr("someone paused just now"));
  desk_->hear(b_, {{"type", "pause"}, {"paused", false}}, now + 2s);
  EXPECT_EQ(desk_->state_for(a_)["mode"], "policy");
  EXPECT_THAT(last_notice(a_), HasSubstr("another page"));
  desk_->hear(a_, {{"type", "pause"}}, now + 3s);
  desk_->hear(a_, {{"type", "pause"}, {"paused", false}}, now + 3s + 10ms);  // their own mind
  EXPECT_EQ(desk_->state_for(a_)["mode"], "policy");
}

TEST_F(Desk, AnEpisodeWithoutAStepHasNoNumber) {
  step();
  desk_->ended("robot", true, "success", {});
  hear(a_, {{"type", "pause"}});
  step();  // it waits
  desk_->ended("robot", {}, "disconnected", {});
  hear(a_, {{"type", "pause"}, {"paused", false}});
  step();
  EXPECT_EQ(desk_->episode(), "demo_1");
  desk_->ended("robot", true, "success", {});
  Json list;
  for (const auto& [viewer, message] : said_)
    if (message["type"] == "episodes") list = message["episodes"];
  EXPECT_EQ(list.size(), 2u);
}

// The counters grow step by step, and are right again with all labels at the end.
TEST_F(Desk, PoolsOfLongEpisodesAreThoseOfTheirLabels) {
  for (int t = 0; t < 70; ++t) step();
  EXPECT_EQ(desk_->state_for(a_)["pools"]["desirable"], 70);
  hear(a_, {{"type", "take_over"}});
  input(a_, {1, 0, 1});
  for (int t = 0; t < 5; ++t) step();
  EXPECT_EQ(desk_->state_for(a_)["pools"],
            Json({{"desirable", 68}, {"intervention", 5}, {"undesirable", 2}}));
  desk_->ended("robot", true, "success", {});
  EXPECT_EQ(desk_->state_for(a_)["pools"],
            Json({{"desirable", 68}, {"intervention", 5}, {"undesirable", 2}}));
}

TEST_F(Desk, ReasonsOfTakeOversCountAsInTraining) {
  open({.rules = {.labels = {.undesirable_reasons = {"wrong object"}}}});
  step();
  step();
  Step what;
  what.action = {1, 1, 1};
  what.source = ActionSource::intervention;
  what.take_over = TakeOver{"console"};
  desk_->happened("robot", what);
  EXPECT_EQ(desk_->state_for(a_)["pools"]["undesirable"], 0);
}

TEST_F(Desk, AnIdleActionKeepsTheGripperToo) {
  open({.idle = {0.25f, 0, -1}});
  step();
  hear(a_, {{"type", "take_over"}});
  EXPECT_EQ(step(), (Action{0.25f, 0, 1}));
}

TEST_F(Desk, AnEpisodeThatNeverGotAStepIsOverForTheConsoleToo) {
  const Observation seen{.images = {}, .state = {}, .instruction = "lift"};
  desk_->decide({.episode = "broken", .step = 0, .observation = seen, .policy_action = nullptr});
  desk_->ended("broken", std::nullopt, "disconnected", {});
  step("next");
  EXPECT_TRUE(desk_->watches("next"));
  hear(a_, {{"type", "take_over"}});
  EXPECT_EQ(step("next"), (Action{0, 0, 1}));
}

TEST_F(Desk, WhoLookedElsewhereWhenTheirPageWentPausesTheRobot) {
  step();
  hear(a_, {{"type", "take_over"}});
  hear(a_, {{"type", "visible"}, {"visible", false}});
  EXPECT_THAT(desk_->look_around(Clock() + 4s), ::testing::ElementsAre(a_, b_));
  EXPECT_EQ(step(), (Action{0, 0, 1}));
  EXPECT_EQ(desk_->state_for(b_)["mode"], "paused");
}

TEST_F(Desk, ASimulationWaitsForWhoLooksElsewhereWhileTheyHoldTheArm) {
  open({.simulated = true});
  step();
  hear(a_, {{"type", "visible"}, {"visible", false}});  // holds nothing
  EXPECT_EQ(desk_->state_for(a_)["mode"], "policy");
  hear(a_, {{"type", "visible"}, {"visible", true}});
  hear(a_, {{"type", "take_over"}});
  hear(a_, {{"type", "visible"}, {"visible", false}});
  step();
  EXPECT_EQ(desk_->state_for(a_)["mode"], "paused");
  EXPECT_EQ(desk_->state_for(a_)["step"], 1);
  hear(a_, {{"type", "visible"}, {"visible", true}});
  EXPECT_EQ(desk_->state_for(a_)["mode"], "paused");  // until a clear word
  hear(a_, {{"type", "pause"}, {"paused", false}});
  EXPECT_EQ(desk_->state_for(a_)["mode"], "human");
}

TEST_F(Desk, KnowsWhetherThereIsATakeOverToLearnFrom) {
  step();
  EXPECT_FALSE(desk_->has_corrections());
  hear(a_, {{"type", "take_over"}});
  input(a_, {1, 0, 1});
  step();
  EXPECT_TRUE(desk_->has_corrections());
  open({});
  desk_->begin_at(3);  // of a recording that goes on
  EXPECT_TRUE(desk_->has_corrections());
}

TEST(ConsoleContract, ReversedNumbersExchangeTheirKeys) {
  ConsoleContract contract{.action_size = 3, .grippers = {2}};
  const auto keys = [&] { return Json::parse(contract.json())["keys"]; };
  EXPECT_EQ(keys()["+0"], "KeyW");
  EXPECT_EQ(keys()["-1"], "KeyD");
  EXPECT_EQ(Json::parse(contract.json())["directions"], Json::object());  // who knows what a0 is
  contract.reversed = {0};
  EXPECT_EQ(keys()["+0"], "KeyS");
  EXPECT_EQ(keys()["-0"], "KeyW");
  EXPECT_EQ(keys()["-1"], "KeyD");
}

TEST(ConsoleContract, DirectionsAreOfThePictureWhateverTheNumbersMean) {
  ConsoleContract contract{.action_size = 7, .grippers = {6}};
  const auto directions = [&] { return Json::parse(contract.json())["directions"]; };
  EXPECT_EQ(directions(), Json::parse(R"({"+0": "away", "-0": "toward", "+1": "left", "-1": "right",
                                          "+2": "up", "-2": "down"})"));
  contract.reversed = {0, 1};  // the camera looks at the robot from ahead
  EXPECT_EQ(directions(), Json::parse(R"({"-0": "away", "+0": "toward", "-1": "left", "+1": "right",
                                          "+2": "up", "-2": "down"})"));
}

TEST(ConsoleOptions, StepsASecondAreThePersonsOrTheEnvironments) {
  EXPECT_EQ(steps_a_second({.control_hz = 6}, 20), 6);
  EXPECT_EQ(steps_a_second({}, 20), 20);
  EXPECT_EQ(steps_a_second({}, 0.5), kUsualHz);  // slower than a step a second nobody steers
  EXPECT_EQ(steps_a_second({}), kUsualHz);
}

TEST(ConsoleOptions, WhatDoesNotFitTheRobotNamesItsKey) {
  EXPECT_EQ(message_of<ConfigError>([] { check_console({.scale = {1}}, 3); }),
            "serve.console.scale: expected 3 numbers, found 1");
  EXPECT_EQ(message_of<ConfigError>([] {
              check_console({.reversed = {0, 3}}, 3);
            }),
            "serve.console.reversed: expected numbers of an action, 0 to 2, found 3");
}

TEST_F(Desk, APagesDeflectionIsScaledButForTheGripper) {
  open({.scale = {0.03, 0.5, 7}});
  step();
  hear(a_, {{"type", "take_over"}});
  input(a_, {1, -1, -1});
  EXPECT_EQ(step(), (Action{0.03f, -0.5f, -1}));
}

TEST_F(Desk, WhereTheEnvironmentSaysHowItEndsAMarkIsAnswered) {
  open({.can_mark = false});
  step();
  hear(a_, {{"type", "success"}});
  EXPECT_TRUE(ends_.empty());
  EXPECT_THAT(last_notice(a_), HasSubstr("the environment says"));
}

TEST_F(Desk, AskedHowItEndedItWaitsForAMarkOrForWhoeverLetsItGoOn) {
  step();
  hear(a_, {{"type", "take_over"}});
  desk_->ask_how_it_ended();
  EXPECT_EQ(desk_->state_for(a_)["asks"], true);
  EXPECT_EQ(desk_->state_for(a_)["holder"], "nobody");
  hear(a_, {{"type", "take_over"}});
  EXPECT_EQ(last_notice(a_), "no episode runs");
  hear(a_, {{"type", "pause"}, {"paused", false}});
  EXPECT_TRUE(desk_->is_paused());  // who presses that at this moment meant to pause
  hear(b_, {{"type", "failure"}});
  ASSERT_EQ(ends_.size(), 1u);
  EXPECT_EQ(ends_[0].success, false);
  desk_->ended("robot", false, "failure", {});
  EXPECT_EQ(desk_->state_for(a_)["asks"], false);
  EXPECT_TRUE(desk_->is_paused());
  hear(b_, {{"type", "pause"}, {"paused", false}});
  EXPECT_FALSE(desk_->is_paused());
}

TEST_F(Desk, AResetEndsTheEpisodeWithoutAMarkAndPausesWhoeverAskedForIt) {
  step();
  hear(a_, {{"type", "reset"}});
  EXPECT_TRUE(ends_.empty());
  EXPECT_THAT(last_notice(a_), HasSubstr("cannot be reset"));
  open({.can_reset = true});
  step();
  hear(a_, {{"type", "reset"}});
  ASSERT_EQ(ends_.size(), 1u);
  EXPECT_EQ(ends_[0].success, false);
  EXPECT_EQ(ends_[0].outcome, "reset");
  hear(a_, {{"type", "reset"}});  // a second press is not of the next episode
  EXPECT_EQ(ends_.size(), 1u);
  desk_->ended("robot", false, "reset", {});
  EXPECT_EQ(step(), (Action{0, 0, 1}));  // the scene is being set up
}

TEST_F(Desk, AResetOfASimulationGoesOnWithTheNextEpisode) {
  open({.simulated = true, .can_reset = true});
  step();
  hear(a_, {{"type", "reset"}});
  ASSERT_EQ(ends_.size(), 1u);
  desk_->ended("robot", false, "reset", {});
  EXPECT_EQ(step(), policy_);
}

TEST_F(Desk, AnInstructionCountsFromTheNextEpisodeOn) {
  open({.can_instruct = true, .instruction_bytes = 10});
  step();
  hear(a_, {{"type", "instruction"}, {"text", "fold"}});
  EXPECT_THAT(last_notice(a_), HasSubstr("between episodes"));
  EXPECT_EQ(desk_->instruction_for("robot"), "");
  desk_->ended("robot", true, "success", {});
  EXPECT_EQ(message_of<DataError>([&] {
              hear(a_, {{"type", "instruction"}, {"text", "fold the shirt"}});
            }),
            "instruction: expected at most 10 bytes (serve.limits.instruction_bytes), found 14");
  EXPECT_THAT(message_of<DataError>([&] {
                hear(a_, {{"type", "instruction"}});
              }),
              HasSubstr("expected a text"));
  hear(a_, {{"type", "instruction"}, {"text", "fold"}});
  EXPECT_EQ(desk_->state_for(b_)["instruction"], "fold");
  EXPECT_EQ(desk_->instruction_for("robot"), "fold");
  step();
  EXPECT_EQ(desk_->instruction_for("another"), "");  // of the robot that is watched
  desk_->ended("robot", true, "success", {});
  hear(a_, {{"type", "instruction"}, {"text", ""}});
  EXPECT_EQ(desk_->instruction_for("robot"), "");
}

TEST_F(Desk, AnEpisodeIsCalledAsInTheRecordingOnceItIsThere) {
  desk_->begin_at(4);
  step();
  EXPECT_EQ(desk_->episode(), "demo_4");
  desk_->ended("robot", true, "success", 7);
  desk_->joined(6, "demo_4");  // another robot's ended before it
  desk_->joined(7, "demo_5");
  EXPECT_EQ(desk_->label("demo_5", 0), "d");
  EXPECT_EQ(desk_->label("demo_4", 0), "");
  step();
  EXPECT_EQ(desk_->episode(), "demo_6");
}

TEST_F(Desk, WhatItsPolicyIsSureOfIsShown) {
  const Observation seen{.images = {}, .state = {}, .instruction = "lift"};
  const Action wanted{0.5f, 0.5f, 1};
  desk_->decide({.episode = "robot", .step = 0, .observation = seen, .policy_action = &wanted});
  EXPECT_TRUE(desk_->state_for(a_)["confidence"].is_null());
  desk_->decide({.episode = "robot",
                 .step = 0,
                 .observation = seen,
                 .policy_action = &wanted,
                 .captured_ms = 0,
                 .confidence = 0.75});
  EXPECT_EQ(desk_->state_for(a_)["confidence"], 0.75);
}

TEST_F(Desk, OneRobotIsWatchedAtATime) {
  step("first");
  hear(a_, {{"type", "take_over"}});
  input(a_, {1, 1, 1});
  EXPECT_EQ(step("second"), policy_);
  EXPECT_EQ(desk_->state_for(a_)["step"], 1);
}

TEST_F(Desk, WhatIsNoMessageIsRefused) {
  step();
  for (const char* text :
       {"[]", "{}", R"({"type": 3})", R"({"type": "input"})", R"({"type": "input", "action": [1]})",
        R"({"type": "input", "action": [1, 2, 0]})", R"({"type": "input", "action": ["a", 0, 0]})"})
    EXPECT_THAT(message_of<DataError>([&] { hear(a_, Json::parse(text)); }), HasSubstr("expected")) << text;
  hear(a_, {{"type", "of a later version"}});
}

}  // namespace
}  // namespace apo::serving
