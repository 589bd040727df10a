#include "apo/deploy/intervention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apo/config/options.h"
#include "apo/deploy/scripted_human.h"
#include "apo/simulation/tabletop.h"
#include "deploy/fakes.h"

namespace apo::deploy {
namespace {

using testing::ask;
using ::testing::HasSubstr;
using testing::message_of;
using testing::Walk;

// The named (red) block at (0, 8) cm, the other at (0, -8) cm, both with their centre 2 cm above the table.
simulation::TabletopState table_with_hand(double x, double y, double z) {
  simulation::TabletopState state;
  state.blocks = {{{0.0, 0.08, 0.02}, {0.0, -0.08, 0.02}}};
  state.target = 0;
  state.hand = {x, y, z};
  state.opening = 0.11;
  return state;
}

TEST(Concern, WrongObjectWithinFiveCentimetresNearerAndBelowNine) {
  EXPECT_EQ(tabletop_concern(table_with_hand(0, -0.04, 0.10)), "wrong object");  // 4 cm beside, 8 cm above
  EXPECT_EQ(tabletop_concern(table_with_hand(0, -0.04, 0.12)), std::nullopt);    // 10 cm above: still high
  EXPECT_EQ(tabletop_concern(table_with_hand(0, -0.02, 0.105)), std::nullopt);   // 6 cm beside
  EXPECT_EQ(tabletop_concern(table_with_hand(0.049, -0.08, 0.10)), "wrong object");
  EXPECT_EQ(tabletop_concern(table_with_hand(0.051, -0.08, 0.10)), std::nullopt);
}

TEST(Concern, TheNamedBlockNearerIsNoWrongObject) {
  simulation::TabletopState state = table_with_hand(0, 0.02, 0.05);
  state.blocks = {{{0.0, 0.05, 0.02}, {0.0, -0.02, 0.02}}};  // 3 cm to the named one, 4 cm to the other
  EXPECT_EQ(tabletop_concern(state), std::nullopt);
  state.target = 1;  // now the nearer one is the wrong one
  EXPECT_EQ(tabletop_concern(state), "wrong object");
}

TEST(Concern, OffCourseLowOverNothing) {
  EXPECT_EQ(tabletop_concern(table_with_hand(0, 0.02, 0.08)), "off course");   // 6 cm beside, 6 cm above
  EXPECT_EQ(tabletop_concern(table_with_hand(0, 0.04, 0.08)), std::nullopt);   // 4 cm beside
  EXPECT_EQ(tabletop_concern(table_with_hand(0, 0.02, 0.092)), std::nullopt);  // 7.2 cm above: still high
  EXPECT_EQ(tabletop_concern(table_with_hand(0, 0.02, 0.063)), std::nullopt);  // 4.3 cm above: too late
}

TEST(Concern, StuckComesAfterTheOthers) {
  const std::vector<simulation::TabletopState> hovers(9, table_with_hand(0, 0.08, 0.05));
  EXPECT_EQ(tabletop_concern(hovers), "stuck");
  EXPECT_EQ(tabletop_concern(std::span(hovers).subspan(1)), std::nullopt);  // 7 steps
  EXPECT_EQ(tabletop_concern(std::vector(9, table_with_hand(0, 0.02, 0.08))), "off course");
  EXPECT_EQ(tabletop_concern(std::vector(9, table_with_hand(0, -0.08, 0.05))), "wrong object");
}

// Steps the environment by `stride` and asks the human before each step; returns the steps in which it acted.
std::string plan(InterventionSource& human, Walk& walk, const std::vector<float>& strides) {
  std::string acted;
  for (const float stride : strides) {
    const auto intervention = ask(human, walk, {stride, 0});
    acted += intervention ? 'H' : '.';
    walk.step(intervention ? intervention->action : Action{stride, 0});
  }
  return acted;
}

TEST(ScriptedHuman, ReactsToASlowConcernAfterFourStepsInARow) {
  Walk walk;
  walk.reset(0);
  const auto human = make_scripted_human({});
  human->reset(0);
  // -0.6 after the first step: concerned from step 1 on; steps 0..2 are calm, so 3, 4, 5, 6 count: the 4th is
  // step 6.
  EXPECT_EQ(plan(*human, walk, {-0.6f, 0, 0, 0, 0, 0, 0, 0}), "......HH");
}

TEST(ScriptedHuman, AConcernThatPassesStartsTheCountAgain) {
  Walk walk;
  walk.reset(0);
  const auto human = make_scripted_human({.reaction_steps = 2, .calm_steps = 0});
  human->reset(0);
  // concerned in steps 1 | 3 4: only the second run is long enough
  EXPECT_EQ(plan(*human, walk, {-0.6f, 0.6f, -0.6f, 0, 0}), "....H");
}

TEST(ScriptedHuman, AnswersAWrongObjectAtOnceButNotInTheFirstThreeSteps) {
  Walk walk;
  walk.reset(0);
  const auto human = make_scripted_human({});
  human->reset(0);
  EXPECT_EQ(plan(*human, walk, {-2, 0, 0, 0, 0}), "...HH");
  walk.reset(0);
  human->reset(0);
  EXPECT_EQ(plan(*human, walk, {0, 0, 0, 0, -2, 0, 0}), ".....HH");
}

TEST(ScriptedHuman, GivesItsReasonAndActsByTheExpert) {
  Walk walk;
  walk.reset(0);
  const auto human = make_scripted_human({.calm_steps = 0});
  human->reset(0);
  walk.step({-2, 0});
  const auto intervention = ask(*human, walk, {0, 0});
  ASSERT_TRUE(intervention);
  EXPECT_EQ(intervention->reason, "wrong object");
  EXPECT_EQ(intervention->action, (Action{1.0f, 0.25f}));
}

TEST(ScriptedHuman, NeverHandsBackByDefault) {
  Walk walk;
  walk.reset(2);  // the flag is at 5
  const auto human = make_scripted_human({.calm_steps = 0});
  human->reset(0);
  EXPECT_EQ(plan(*human, walk, {-2, 0, 0, 0, 0, 0, 0}), ".HHHHHH");
}

TEST(ScriptedHuman, HandsBackWhenSafeAfterItsMinimum) {
  Walk walk;
  walk.reset(2);
  const auto human = make_scripted_human({.calm_steps = 0, .hand_back = HandBack::when_safe, .min_steps = 3});
  human->reset(0);
  // at -2: acts at -2, -1, 0 (three steps; safe from 0 on), hands back at 1, which the policy spoils at once
  EXPECT_EQ(plan(*human, walk, {-2, 0, 0, 0, -3, 0, 0}), ".HHH.HH");
}

TEST(ScriptedHuman, StaysLongerThanItsMinimumWhileThereIsAConcern) {
  Walk walk;
  walk.reset(2);
  const auto human = make_scripted_human({.calm_steps = 0, .hand_back = HandBack::when_safe, .min_steps = 1});
  human->reset(0);
  EXPECT_EQ(plan(*human, walk, {-3, 0, 0, 0, 0, 0}), ".HHH..");  // -3, -2, -1, then safe at 0
}

TEST(ScriptedHuman, ForgetsTheTakeOverAtReset) {
  Walk walk;
  walk.reset(0);
  const auto human = make_scripted_human({.calm_steps = 0});
  human->reset(0);
  EXPECT_EQ(plan(*human, walk, {-2, 0}), ".H");
  walk.reset(1);
  human->reset(1);
  EXPECT_EQ(plan(*human, walk, {0.5f, 0}), "..");
}

TEST(ScriptedHuman, LosesPatienceOnlyIfToldTo) {
  Walk walk;
  walk.reset(2);
  const auto human = make_scripted_human({.patience_steps = 4});
  human->reset(0);
  EXPECT_EQ(plan(*human, walk, {0, 0, 0, 0}), "....");
  const auto intervention = ask(*human, walk, {0, 0});
  ASSERT_TRUE(intervention);
  EXPECT_EQ(intervention->reason, "out of patience");
  walk.reset(2);
  const auto patient = make_scripted_human({});
  patient->reset(0);
  EXPECT_EQ(plan(*patient, walk, {0, 0, 0, 0, 0, 0, 0, 0}), "........");
}

// What the human tells beside the action at the first step of a take-over, after these strides.
std::optional<Intervention> first_take_over(Walk& walk, const ScriptedHumanOptions& options,
                                            const std::vector<float>& strides) {
  const auto human = make_scripted_human(options);
  human->reset(0);
  for (const float stride : strides) {
    if (auto intervention = ask(*human, walk, {stride, 0})) return intervention;
    walk.step({stride, 0});
  }
  return std::nullopt;
}

TEST(ScriptedHuman, TellsForHowLongTheReasonHadHeld) {
  Walk walk;
  walk.reset(0);
  EXPECT_EQ(first_take_over(walk, {.calm_steps = 0}, {-0.6f, 0, 0, 0, 0})->steps_held, 3);
  walk.reset(0);  // off course twice, then the wrong object
  const auto changed = first_take_over(walk, {.calm_steps = 0}, {-0.6f, 0, -1, 0});
  EXPECT_EQ(changed->reason, "wrong object");
  EXPECT_EQ(changed->steps_held, 0);
  walk.reset(2);
  EXPECT_EQ(first_take_over(walk, {.patience_steps = 4}, {0, 0, 0, 0, 0})->steps_held, 0);
}

// Stuck from its sixth step on, as is seen in the tenth.
class Mired : public Walk {
 public:
  environments::Situation situation() const override {
    environments::Situation now = Walk::situation();
    now.concern.reset();
    if (step_count() < 9) return now;
    now.concern = "stuck";
    now.concern_steps = step_count() - 5;
    return now;
  }
};

TEST(ScriptedHuman, AnswersAHandThatIsStuckAtOnce) {
  Mired walk;
  walk.reset(0);
  const std::vector<float> nothing(20, 0);
  const auto intervention = first_take_over(walk, {}, nothing);
  ASSERT_TRUE(intervention);
  EXPECT_EQ(walk.step_count(), 9);
  EXPECT_EQ(intervention->reason, "stuck");
  EXPECT_EQ(intervention->steps_held, 4);
  walk.reset(0);
  EXPECT_EQ(first_take_over(walk, {.at_once = {}}, nothing)->steps_held, 7);  // three steps later
}

TEST(ScriptedHuman, IgnoresWhatItIsToldTo) {
  Mired walk;
  walk.reset(0);
  const std::vector<float> nothing(12, 0);
  EXPECT_FALSE(first_take_over(walk, {.ignore = {"stuck"}}, nothing));
  walk.reset(0);
  EXPECT_EQ(first_take_over(walk, {.ignore = {"stuck"}, .patience_steps = 10}, nothing)->reason,
            "out of patience");
}

TEST(ScriptedHuman, NeedsAnExpert) {
  Walk walk;
  walk.has_expert = false;
  walk.reset(0);
  const auto human = make_scripted_human({.calm_steps = 0});
  human->reset(0);
  walk.step({-2, 0});
  const std::string message = message_of<RunError>([&] { ask(*human, walk, {0, 0}); });
  EXPECT_THAT(message, HasSubstr("walk"));
  EXPECT_THAT(message, HasSubstr("step 1"));
  EXPECT_THAT(message, HasSubstr("expert"));
}

TEST(InterventionSource, NoneNeverActs) {
  Walk walk;
  walk.reset(0);
  const auto nobody = make_intervention_source({.type = "none"});
  EXPECT_EQ(plan(*nobody, walk, {-2, 0, 0, 0, 0, 0}), "......");
}

TEST(InterventionSource, UnknownTypeIsNamed) {
  EXPECT_THAT(message_of<ConfigError>([] { make_intervention_source({.type = "psychic"}); }),
              HasSubstr("psychic"));
}

InterventionOptions read(const std::string& text) {
  return config::load<InterventionOptions>(config::Document::from_text(text));
}

TEST(InterventionOptions, ReadFromYaml) {
  const auto human = read(
                         "type: scripted\nscripted: {reaction_steps: 2, at_once: [off course], "
                         "hand_back: when-safe, min_steps: 7}\n")
                         .of<ScriptedHumanOptions>();
  EXPECT_EQ(human.reaction_steps, 2);
  EXPECT_EQ(human.at_once, std::vector<std::string>{"off course"});
  EXPECT_EQ(human.hand_back, HandBack::when_safe);
  EXPECT_EQ(human.min_steps, 7);
  EXPECT_THAT(message_of<ConfigError>([] { read("scripted: {hand_back: sometimes}\n"); }),
              HasSubstr("when-safe"));
  EXPECT_THAT(message_of<ConfigError>([] { read("none: {patience: 3}\n"); }),
              HasSubstr("a source of the kind none has no options of its own"));
}

struct GamepadOptions {
  double dead_zone = 0.1;
  void visit(config::Visitor& v) { v("dead_zone", dead_zone, "of the sticks", config::between(0, 1)); }
};

TEST(InterventionOptions, ASourceOfOnesOwnHasOptions) {
  double made_with = 0;
  register_intervention_source<GamepadOptions>("gamepad", [&made_with](const GamepadOptions& own) {
    made_with = own.dead_zone;
    return make_no_human();
  });
  // those of the others may stand beside them
  const InterventionOptions options =
      read("type: gamepad\ngamepad: {dead_zone: 0.25}\nscripted: {calm_steps: 1}\n");
  EXPECT_NE(make_intervention_source(options), nullptr);
  EXPECT_EQ(made_with, 0.25);
  EXPECT_EQ(options.of<ScriptedHumanOptions>().calm_steps, 1);
  EXPECT_THAT(message_of<ConfigError>([] { read("gamepad: {dead_zone: 2}\n"); }),
              HasSubstr("gamepad.dead_zone"));
  for (const char* name : {"", "type", "my.pad"})
    EXPECT_THAT(message_of<ConfigError>(
                    [&] { register_intervention_source(name, [](const auto&) { return make_no_human(); }); }),
                HasSubstr("expected a factory and a name that can be a key"));
  register_intervention_source("gamepad", [](const auto&) { return make_no_human(); });
}

TEST(Environments, UnknownTypeNamesTheRegisteredOnes) {
  testing::walk_options();
  environments::EnvironmentOptions options;
  options.type = "tabletpo";
  const std::string message = message_of<ConfigError>([&] { environments::make_environment(options); });
  EXPECT_THAT(message, HasSubstr("tabletpo"));
  EXPECT_THAT(message, HasSubstr("tabletop, "));
  EXPECT_THAT(message, HasSubstr("walk)"));
}

}  // namespace
}  // namespace apo::deploy
