// The scripted human's imperfections: late, hesitant, trembling, needless, wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>

#include "apo/config/options.h"
#include "apo/data/trajectory.h"
#include "apo/deploy/collector.h"
#include "apo/deploy/intervention.h"
#include "apo/deploy/scripted_human.h"
#include "deploy/fakes.h"
#include "support/temp_dir.h"

namespace apo::deploy {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::Walk;

// Actions are x, y, z, gripper. One letter a step: o(ff course), w(rong object), s(tuck), or nothing.
class Watched : public Walk {
 public:
  explicit Watched(std::string concerns) : Walk(4), concerns_(std::move(concerns)) {}
  environments::Situation situation() const override {
    environments::Situation now = Walk::situation();
    now.concern.reset();
    const auto step = static_cast<size_t>(step_count());
    switch (step < concerns_.size() ? concerns_[step] : '.') {
      case 'o':
        now.concern = "off course";
        break;
      case 'w':
        now.concern = "wrong object";
        break;
      case 's':
        now.concern = "stuck";
        now.concern_steps = step_count() - 2;
    }
    return now;
  }
  std::optional<Action> expert() override { return best; }

  Action best = {1.0f, 0.5f, -0.5f, 0.25f};

 private:
  std::string concerns_;
};

struct Played {
  std::string who;                    // a letter a step: H(uman) or nothing
  std::vector<Action> human;          // what he did
  std::optional<Intervention> first;  // of his steps
  bool operator==(const Played& other) const { return who == other.who && human == other.human; }
};

// The policy stands still; its gripper's command is -1 and, from step `closes` on, 1.
Played play(InterventionSource& human, const std::string& concerns, uint64_t seed = 0,
            std::optional<Action> expert = {}, int64_t closes = 100) {
  Watched environment(concerns);
  if (expert) environment.best = *expert;
  environment.reset(seed);
  human.reset(seed);
  Played played;
  for (size_t step = 0; step < concerns.size(); ++step) {
    Action action = {0, 0, 0, static_cast<int64_t>(step) < closes ? -1.0f : 1.0f};
    auto intervention = testing::ask(human, environment, action);
    played.who += intervention ? 'H' : '.';
    if (intervention) {
      if (!played.first) played.first = intervention;
      played.human.push_back(action = intervention->action);
    }
    environment.step(action);
  }
  return played;
}

Played play(const ScriptedHumanOptions& options, const std::string& concerns, uint64_t seed = 0) {
  return play(*make_scripted_human(options), concerns, seed);
}

ScriptedHumanOptions imperfect(const ImperfectionOptions& options) { return {.imperfect = options}; }

const Action kExpert = {1.0f, 0.5f, -0.5f, 0.25f};
const Action kReversed = {-1.0f, -0.5f, -0.5f, 0.25f};

TEST(ImperfectHuman, IsPerfectByDefaultWhateverTheSeed) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const Played played = play(ScriptedHumanOptions{}, "..w.oooo....", seed);
    EXPECT_EQ(played.who, ".......HHHHH");
    EXPECT_EQ(played.human, std::vector<Action>(5, kExpert));
    EXPECT_EQ(played.first->steps_held, 3);
  }
}

TEST(ImperfectHuman, ComesLateEvenIfTheConcernHasPassed) {
  const Played at_once = play(ScriptedHumanOptions{}, ".....w......");
  EXPECT_EQ(at_once.who, ".....HHHHHHH");
  const Played late = play(imperfect({.delay_steps = 2}), ".....w......");
  EXPECT_EQ(late.who, ".......HHHHH");
  EXPECT_EQ(late.first->reason, "wrong object");
  EXPECT_EQ(late.first->steps_held, 0);  // in the step before there was none
  EXPECT_EQ(late.human, std::vector<Action>(5, kExpert));
}

TEST(ImperfectHuman, TellsForHowLongTheReasonHadHeldWhenHeComesLate) {
  EXPECT_EQ(play(imperfect({.delay_steps = 2}), ".....www....").first->steps_held, 2);
  EXPECT_EQ(play(imperfect({.delay_steps = 2}), ".....w.w....").first->steps_held, 0);
  // off course in steps 3 to 9: he decides in step 6 and comes in step 8
  const Played slow = play(imperfect({.delay_steps = 2}), "...ooooooo..");
  EXPECT_EQ(slow.who, "........HHHH");
  EXPECT_EQ(slow.first->steps_held, 5);
  // what he saw is the reason, whatever else has come up since
  const Played other = play(imperfect({.delay_steps = 2}), "...oooowww..");
  EXPECT_EQ(other.who, "........HHHH");
  EXPECT_EQ(other.first->reason, "off course");
  EXPECT_EQ(other.first->steps_held, 0);
  const Played stuck = play(imperfect({.delay_steps = 3}), "....ssssssss");  // since step 2
  EXPECT_EQ(stuck.who, ".......HHHHH");
  EXPECT_EQ(stuck.first->steps_held, 5);
}

TEST(ImperfectHuman, IsNotLateForHisOwnClock) {
  ScriptedHumanOptions options = imperfect({.delay_steps = 3});
  options.patience_steps = 4;
  EXPECT_EQ(play(options, "........").who, "....HHHH");
}

TEST(ImperfectHuman, ForgetsAtResetWhatHeWasAboutToDo) {
  const auto human = make_scripted_human(imperfect({.delay_steps = 4}));
  EXPECT_EQ(play(*human, "...w").who, "....");
  EXPECT_EQ(play(*human, "............").who, "............");
}

TEST(ImperfectHuman, HesitatesWithTheArmStoppedAndTheGripperAsItWas) {
  const auto human = make_scripted_human(imperfect({.hesitation_steps = 2}));
  const Played played =
      play(*human, "....w...", 0, {}, 4);  // the policy would close in the step of the take-over
  EXPECT_EQ(played.who, "....HHHH");
  EXPECT_EQ(played.human, (std::vector<Action>{{0, 0, 0, -1}, {0, 0, 0, -1}, kExpert, kExpert}));
  // it had closed in the step before
  EXPECT_EQ(play(*human, "....w...", 0, {}, 3).human[1], (Action{0, 0, 0, 1}));
  // nothing was executed yet: what the policy wants
  ScriptedHumanOptions at_once = imperfect({.hesitation_steps = 2});
  at_once.calm_steps = 0;
  EXPECT_EQ(play(*make_scripted_human(at_once), "w...", 0, {}, 0).human[1], (Action{0, 0, 0, 1}));
}

TEST(ImperfectHuman, TremblesInXYZWithinTheRange) {
  const auto human = make_scripted_human(imperfect({.tremor = 0.2}));
  const Action still = {0, 0, 0, 1};
  double sum = 0, squares = 0;
  int64_t n = 0;
  for (uint64_t seed = 0; seed < 200; ++seed)
    for (const Action& action : play(*human, "...w......", seed, still).human) {
      for (size_t d = 0; d < 3; ++d, ++n) {
        sum += action[d];
        squares += action[d] * action[d];
      }
      EXPECT_EQ(action[3], 1.0f);
    }
  ASSERT_EQ(n, 200 * 7 * 3);
  EXPECT_NEAR(sum / static_cast<double>(n), 0, 0.01);
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(n)), 0.2, 0.01);
  std::set<float> x;
  const auto shaky = make_scripted_human(imperfect({.tremor = 2}));
  for (const Action& action : play(*shaky, "...w....................").human) x.insert(action[0]);
  EXPECT_EQ(*x.rbegin(), 1.0f);
  EXPECT_GE(*x.begin(), -1.0f);
  EXPECT_GE(x.size(), 3u);
}

TEST(ImperfectHuman, TakesOverNeedlesslyInOneOfTheFirstStepsAfterTheCalmOnes) {
  const ScriptedHumanOptions always = imperfect({.needless_probability = 1, .needless_steps = 3});
  std::array<int, 3> times{};
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const Played played = play(always, "............", seed);
    const size_t at = played.who.find('H');
    ASSERT_TRUE(at >= 3 && at < 6) << at;
    ++times[at - 3];
    EXPECT_EQ(played.first->reason, "needless");
    EXPECT_EQ(played.first->steps_held, 0);
    EXPECT_EQ(played.human[0], kExpert);
  }
  for (const int n : times) EXPECT_NEAR(n, 100, 30);
  const ScriptedHumanOptions at_times = imperfect({.needless_probability = 0.3});
  int episodes = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed)
    episodes += play(at_times, "...............", seed).first.has_value();
  EXPECT_NEAR(episodes, 300, 50);
}

TEST(ImperfectHuman, IsNotNeedlessWhereThereIsOrWasAConcern) {
  const ScriptedHumanOptions always = imperfect({.needless_probability = 1, .needless_steps = 4});
  for (uint64_t seed = 0; seed < 20; ++seed) {
    EXPECT_EQ(play(always, "...oooo.....", seed).first->reason, "off course");
    // handed back, and not taken over again
    ScriptedHumanOptions brief = imperfect({.needless_probability = 1, .needless_steps = 6});
    brief.hand_back = HandBack::when_safe;
    brief.min_steps = 1;
    EXPECT_EQ(play(brief, "...w........", seed).who, "...H........");
  }
}

TEST(ImperfectHuman, BeginsWithAWrongCorrection) {
  const Played played = play(imperfect({.wrong_probability = 1, .wrong_steps = 2}), "....w...");
  EXPECT_EQ(played.human, (std::vector<Action>{kReversed, kReversed, kExpert, kExpert}));
  const Played both =
      play(imperfect({.hesitation_steps = 1, .wrong_probability = 1, .wrong_steps = 2}), "....w...");
  EXPECT_EQ(both.human, (std::vector<Action>{{0, 0, 0, -1}, kReversed, kReversed, kExpert}));
  const ScriptedHumanOptions at_times = imperfect({.wrong_probability = 0.3});
  int wrong = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed) wrong += play(at_times, "...w", seed).human[0] == kReversed;
  EXPECT_NEAR(wrong, 300, 50);
}

const ImperfectionOptions kEverything{.delay_steps = 1,
                                      .hesitation_steps = 1,
                                      .tremor = 0.3,
                                      .needless_probability = 0.5,
                                      .needless_steps = 3,
                                      .wrong_probability = 0.5,
                                      .wrong_steps = 2};

TEST(ImperfectHuman, IsTheSameForTheSameSeed) {
  const auto human = make_scripted_human(imperfect(kEverything));
  const std::string concerns = "..........w...........";
  std::vector<Played> played;
  for (uint64_t seed = 0; seed < 20; ++seed) played.push_back(play(*human, concerns, seed));
  for (uint64_t seed = 20; seed-- > 0;)  // whatever came before
    EXPECT_EQ(play(*human, concerns, seed), played[seed]);
  EXPECT_NE(played[0].human, played[1].human);
}

TEST(ImperfectHuman, HasAStreamOfItsOwnForEachImperfection) {
  ImperfectionOptions steady = kEverything, needed = kEverything;
  steady.tremor = 0;
  needed.needless_probability = 0;
  const std::string concerns = "...w........";
  for (uint64_t seed = 0; seed < 20; ++seed) {
    EXPECT_EQ(play(imperfect(steady), concerns, seed).who, play(imperfect(kEverything), concerns, seed).who);
    const Played with = play(imperfect(kEverything), concerns, seed);
    if (with.first->reason == "wrong object") {
      EXPECT_EQ(play(imperfect(needed), concerns, seed), with);
    }
  }
}

TEST(ImperfectHuman, IsRecordedTheSameAfterAStop) {
  const apo::testing::TempDir dir;
  Walk walk;
  testing::FunctionPolicy policy(testing::hesitant);
  ScriptedHumanOptions options = imperfect(kEverything);
  options.calm_steps = 0;
  const auto human = make_scripted_human(options);
  collect(walk, policy, *human, {.take_overs = 0, .episodes = 8}, dir / "once.hdf5");
  collect(walk, policy, *human, {.take_overs = 0, .episodes = 3}, dir / "twice.hdf5");
  collect(walk, policy, *make_scripted_human(options),
          {.take_overs = 0, .episodes = 8, .existing = ExistingFile::append}, dir / "twice.hdf5");
  const auto once = data::TrajectoryFile::open(dir / "once.hdf5");
  const auto twice = data::TrajectoryFile::open(dir / "twice.hdf5");
  ASSERT_EQ(once->num_episodes(), 8);
  ASSERT_EQ(twice->num_episodes(), 8);
  bool needless = false;
  for (int64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(once->episode(i).actions, twice->episode(i).actions);
    EXPECT_EQ(once->episode(i).take_overs, twice->episode(i).take_overs);
    for (const data::RecordedTakeOver& take_over : once->episode(i).take_overs)
      needless |= take_over.reason == "needless";
  }
  EXPECT_TRUE(needless);
}

TEST(ImperfectHuman, SaysWhichOptionIsOutOfRange) {
  const auto refused = [](const ImperfectionOptions& options) {
    return message_of<ConfigError>([&] { make_scripted_human(imperfect(options)); });
  };
  EXPECT_THAT(refused({.delay_steps = -1}),
              AllOf(HasSubstr("deploy.intervention.scripted.imperfect.delay_steps: expected 0 steps or more"),
                    HasSubstr("found -1")));
  EXPECT_THAT(refused({.hesitation_steps = -2}), AllOf(HasSubstr("hesitation_steps"), HasSubstr("found -2")));
  EXPECT_THAT(refused({.tremor = 3}), AllOf(HasSubstr("tremor: expected 0 to 2"), HasSubstr("found 3")));
  EXPECT_THAT(refused({.tremor = NAN}), HasSubstr("tremor"));
  EXPECT_THAT(refused({.needless_probability = 1.5}),
              HasSubstr("needless_probability: expected a probability"));
  EXPECT_THAT(refused({.needless_steps = 0}), HasSubstr("needless_steps: expected 1 step or more, found 0"));
  EXPECT_THAT(refused({.wrong_probability = -1}), HasSubstr("wrong_probability"));
  EXPECT_THAT(refused({.wrong_steps = 0}), HasSubstr("wrong_steps"));
}

TEST(ImperfectHuman, IsReadFromYaml) {
  const auto read = [](const std::string& text) {
    return config::load<InterventionOptions>(config::Document::from_text(text))
        .of<ScriptedHumanOptions>()
        .imperfect;
  };
  const ImperfectionOptions options =
      read("scripted: {imperfect: {delay_steps: 4, tremor: 0.3, needless_probability: 0.1}}\n");
  EXPECT_EQ(options.delay_steps, 4);
  EXPECT_EQ(options.tremor, 0.3);
  EXPECT_EQ(options.needless_probability, 0.1);
  EXPECT_EQ(options.hesitation_steps, 0);
  EXPECT_EQ(options.wrong_probability, 0);
  EXPECT_THAT(message_of<ConfigError>([&] { read("scripted: {imperfect: {wrong_probability: 2}}\n"); }),
              AllOf(HasSubstr("wrong_probability"), HasSubstr("2")));
}

}  // namespace
}  // namespace apo::deploy
