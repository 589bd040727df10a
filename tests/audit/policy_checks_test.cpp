// Recordings beside what a checkpoint learned from, and actors beside each other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "audit/names.h"
#include "audit/validations.h"

namespace apo::audit {
namespace {

using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Strings = std::vector<std::string>;

// What recordings of uniform actions within ±0.9 and a gripper that is -1 and 1 half of the time each would
// give.
PolicyInputs like_the_recordings() {
  VectorStatistics s;
  for (int j = 0; j < 7; ++j) {
    const bool gripper = j == 6;
    s.mean.push_back(0);
    s.std.push_back(gripper ? 1 : 0.52);
    s.min.push_back(gripper ? -1 : -0.9);
    s.max.push_back(gripper ? 1 : 0.9);
    s.q01.push_back(gripper ? -1 : -0.88);
    s.q99.push_back(gripper ? 1 : 0.88);
    s.mask.push_back(!gripper);
  }
  PolicyInputs inputs;
  inputs.action = s;
  return inputs;
}

const Strings kTwelve(12, "ppppphhhpp"), kByHand(12, "hhhhhhhhhh");

std::string compared(const Recording& recording, const PolicyInputs& inputs,
                     const std::function<void(DataOptions&)>& change = nullptr) {
  TempDir dir;
  return found(validated({record(dir, recording)}, change, true, inputs), "policy");
}

TEST(PolicyComparison, FindsNothingInWhatItLearnedFrom) {
  EXPECT_EQ(compared({.episodes = kTwelve}, like_the_recordings()), "");
  TempDir dir;
  EXPECT_EQ(found(validated({record(dir, {})}), "policy"), "no such check");  // without a checkpoint
}

TEST(PolicyComparison, MostlyOutsideIsAnError) {
  PolicyInputs inputs = like_the_recordings();
  inputs.action->q01[2] = -0.2;  // |a| < 0.9 uniform: 2 / 9 lie within
  inputs.action->q99[2] = 0.2;
  const std::string text = compared({.episodes = kTwelve}, inputs);
  EXPECT_THAT(
      text,
      AllOf(
          HasSubstr("error: dimension 2: "), HasSubstr("policy steps ("),
          HasSubstr(
              "lie outside the checkpoint's q01..q99 (-0.2..0.2) and are clipped to it; theirs go from -0.8"),
          HasSubstr("human steps ("), Not(HasSubstr("dimension 1"))));
  EXPECT_THAT(compared({.episodes = kTwelve}, inputs, [](DataOptions& o) { o.checks = DataChecks::warn; }),
              AllOf(HasSubstr("warning: dimension 2: "), Not(HasSubstr("error"))));
  inputs.action->q01[2] = -0.6;  // 2 / 3 within
  inputs.action->q99[2] = 0.6;
  EXPECT_THAT(compared({.episodes = kTwelve}, inputs),
              AllOf(HasSubstr("warning: dimension 2: "), Not(HasSubstr("error"))));
}

// A few take-overs that all went to one side: most of their numbers lie just outside of what few
// demonstrations did.
TEST(PolicyComparison, OftenButNotFarOutsideIsAWarning) {
  PolicyInputs inputs = like_the_recordings();
  const Recording to_one_side{.episodes = kByHand, .change = [](int64_t, Step& s) { s.action[2] = -0.9f; }};
  inputs.action->q01[2] = -0.7;
  inputs.action->q99[2] = 0.6;
  EXPECT_THAT(compared(to_one_side, inputs),
              AllOf(HasSubstr("warning: dimension 2: "), HasSubstr("lie outside"), Not(HasSubstr("error"))));
  inputs.action->q01[2] = -0.5;  // moved by 0.4 of 1.1
  EXPECT_THAT(compared(to_one_side, inputs), HasSubstr("error: dimension 2: "));
}

// Deltas in metres, 0.006 times what the checkpoint knows: nothing is clipped, and everything is in the
// middle bins.
TEST(PolicyComparison, OtherUnitsShowInTheSpread) {
  const Recording metres{.episodes = kTwelve, .change = [](int64_t, Step& s) {
                           for (size_t j = 0; j < 6; ++j) s.action[j] *= 0.006f;
                         }};
  const std::string text =
      compared(metres, like_the_recordings(), [](DataOptions& o) { o.filter.min_motion = 0; });
  EXPECT_THAT(text, AllOf(HasSubstr("warning: dimension 0: the policy steps spread over 0.01"),
                          HasSubstr("times the checkpoint's q01..q99 (-0.88..0.88): other units?"),
                          Not(HasSubstr("error"))));
  PolicyInputs constant = like_the_recordings();
  constant.action->q01[3] = constant.action->q99[3] = 0;
  constant.action->mask[3] = false;
  EXPECT_THAT(compared({.episodes = kTwelve}, constant),
              HasSubstr("warning: dimension 3: never changed in what the checkpoint learned from (0), and "
                        "spreads over 1.7"));
}

PolicyInputs libero() {
  PolicyInputs inputs = like_the_recordings();
  VectorStatistics& s = *inputs.action;
  s.min[6] = s.q01[6] = 0;
  s.mean[6] = s.std[6] = 0.5;
  inputs.gripper = {.dimension = {}, .open = 1.0, .closed = 0.0};
  return inputs;
}

TEST(PolicyComparison, AGripperOfAnotherRangeIsAnError) {
  EXPECT_THAT(compared({.episodes = kTwelve}, libero()),
              HasSubstr("error: dimension 6 (gripper): the policy steps command -1..1, the checkpoint 0..1: "
                        "say how each is coded, `gripper: {open: .., closed: ..}` of the source and "
                        "policy.gripper (the policy's: the last dimension, 1 open, 0 closed)"));
  // 0..1 lies within -1..1, but half of the commands are in its middle
  Recording zero_one{.episodes = kByHand, .change = [](int64_t, Step& s) { s.action[6] = s.action[6] > 0; }};
  EXPECT_THAT(compared(zero_one, like_the_recordings()),
              HasSubstr("error: dimension 6 (gripper): the human steps command 0..1, the checkpoint -1..1"));
  zero_one.episodes = Strings(12, "pppppppppp");  // a policy may command what lies between
  EXPECT_EQ(compared(zero_one, like_the_recordings()), "");
  PolicyInputs continuous = like_the_recordings();  // of any opening
  continuous.action->std[6] = 0.5;
  EXPECT_EQ(compared(zero_one, continuous), "");
}

// How far beyond the commands of a checkpoint that opens its gripper by any width.
TEST(PolicyComparison, AGripperBeyondAnyOpeningIsAnErrorIfItIsFarOrTheCodingIsKnown) {
  PolicyInputs continuous = like_the_recordings();  // -1..1
  continuous.action->std[6] = 0.5;
  const auto of_size = [&](float size) {
    const auto change = [size](int64_t, Step& s) { s.action[6] *= size; };
    return compared({.episodes = kTwelve, .change = change}, continuous,
                    [](DataOptions& o) { o.filter.max_abs_action = 10; });
  };
  const std::string dimension = ": dimension 6 (gripper): the policy steps command ";
  EXPECT_EQ(of_size(1.25f), "");
  EXPECT_THAT(of_size(1.75f), AllOf(HasSubstr("warning" + dimension + "-1.75..1.75, the checkpoint -1..1"),
                                    Not(HasSubstr("error: "))));
  EXPECT_THAT(of_size(2.5f), HasSubstr("error" + dimension + "-2.5..2.5"));
  continuous.gripper = {.dimension = {}, .open = -1.0, .closed = 1.0};
  EXPECT_EQ(of_size(1.25f), "");
  EXPECT_THAT(of_size(1.75f), HasSubstr("error" + dimension + "-1.75..1.75"));
}

TEST(PolicyComparison, AGripperThatIsSaidIsMapped) {
  // -1 opens in the recordings, which begin with it
  const auto said = [](DataOptions& o) {
    o.interactions[0].gripper = {.dimension = {-1}, .open = -1.0, .closed = 1.0};
  };
  EXPECT_EQ(compared({.episodes = kTwelve}, libero(), said), "");
  const auto turned_round = [](DataOptions& o) {
    o.interactions[0].gripper = {.dimension = {-1}, .open = 1.0, .closed = -1.0};
  };
  EXPECT_THAT(
      compared({.episodes = kTwelve}, libero(), turned_round),
      HasSubstr("warning: gripper: 12 of 12 episodes (100.0 %) begin with it closed, as the policy codes it "
                "(the last dimension, 1 open, 0 closed)"));
}

// A checkpoint that takes any camera is shown the one that the config names.
TEST(PolicyComparison, SaysWhoNeedsACameraOrAState) {
  TempDir dir;
  const std::string recording = record(dir, {.episodes = kTwelve});
  PolicyInputs inputs = like_the_recordings();
  inputs.cameras = {"top"};
  inputs.state_keys = {"elbow"};
  const auto shapes = [&] { return found(validated({recording}, nullptr, true, inputs), "shapes"); };
  EXPECT_THAT(shapes(), AllOf(HasSubstr("the policy needs top (the checkpoint's cameras)"),
                              HasSubstr("no episode has the state elbow (the checkpoint's states)")));
  inputs.of_checkpoint = true;
  EXPECT_THAT(shapes(), AllOf(HasSubstr("the policy needs top (policy.cameras)"),
                              HasSubstr("no episode has the state elbow (policy.state_keys)")));
}

TEST(PolicyComparison, PicturesAndWords) {
  PolicyInputs inputs = like_the_recordings();
  inputs.image_size = 224;
  inputs.unknown_words = [](const std::string&) { return Strings{"cube"}; };
  const std::string text = compared({.episodes = kTwelve}, inputs);
  EXPECT_THAT(text, AllOf(HasSubstr("warning: camera front: 6x5 pictures (first: a.hdf5 demo_0) are enlarged "
                                    "to the policy's 224x224"),
                          HasSubstr("warning: instructions with 1 words that the checkpoint never learned: "
                                    "cube (first: a.hdf5 demo_0)")));
  inputs.image_size = 5;
  inputs.unknown_words = [](const std::string&) { return Strings{}; };
  EXPECT_EQ(compared({.episodes = kTwelve}, inputs), "");
}

TEST(PolicyComparison, ACheckpointThatIsNotThereIsTold) {
  PolicyInputs inputs;
  inputs.unreadable = "x: no such checkpoint";
  EXPECT_EQ(compared({}, inputs),
            "warning: not compared, the checkpoint cannot be read: x: no such checkpoint\n");
}

TEST(PolicyComparison, IsTheSameBeforeTraining) {
  TempDir dir;
  DataOptions options = options_for_paths({record(dir, {.episodes = kTwelve})});
  options.labels.steps_before_intervention = 3;
  std::string text;
  for (const Finding& finding : compare_with_policy(Dataset(options), libero()))
    text += std::string(to_string(finding.severity)) + ": " + finding.message + "\n";
  EXPECT_EQ(text, compared({.episodes = kTwelve}, libero()));
  EXPECT_TRUE(compare_with_policy(Dataset(options), {}).empty());
}

// ---- actors of one file ----

const Strings kEarly(12, "ppphhhpppp");  // the gripper closes while the human acts

std::function<void(int64_t, Step&)> for_humans(const std::function<void(Step&)>& change) {
  return [=](int64_t, Step& s) {
    if (s.source == ActionSource::intervention) change(s);
  };
}

TEST(Actors, AreComparedForUnits) {
  const auto text =
      found(of({.episodes = kTwelve, .change = for_humans([](Step& s) { s.action[1] *= 0.1f; })}), "units");
  EXPECT_THAT(text, AllOf(HasSubstr("warning: dimension 1: spreads over 1.7"),
                          HasSubstr("a.hdf5 (policy) and over 0.1"),
                          HasSubstr("a.hdf5 (human): other units?"), Not(HasSubstr("dimension 0"))));
}

TEST(Actors, AreComparedForSigns) {
  // the human's axis is turned: the hand goes the other way than the recorded number
  const auto text =
      found(of({.episodes = kTwelve, .change = for_humans([](Step& s) { s.action[1] *= -1; })}), "signs");
  EXPECT_THAT(text, AllOf(HasSubstr("warning: dimension 1: eef_pos moves against it in "),
                          HasSubstr("a.hdf5 (human) (correlation -"), Not(HasSubstr("dimension 0")),
                          Not(HasSubstr("(policy)"))));
}

TEST(Actors, AreComparedForTheGrippersRange) {
  const auto text =
      found(of({.episodes = kEarly, .change = for_humans([](Step& s) { s.action[6] = s.action[6] > 0; })}),
            "signs");
  EXPECT_THAT(text, AllOf(HasSubstr("warning: gripper: 0..1 in "), HasSubstr("a.hdf5 (human), -1..1 in "),
                          HasSubstr("a.hdf5 (policy)")));
}

TEST(Actors, AGripperTheOtherWayRoundShowsAtChangesOfControl) {
  // open until step 5 and closed from then on, for the human the other way round: 12 take-overs and 12 ways
  // back
  const auto text =
      found(of({.episodes = kEarly, .change = for_humans([](Step& s) { s.action[6] *= -1; })}), "signs");
  EXPECT_THAT(
      text, HasSubstr("warning: gripper: its command changes at 24 of 24 changes of control (100.0 %) in "));
  // a human who takes over in order to grasp, and hands back
  const auto grasps = found(of({.episodes = Strings(12, "ppphhhpp")}), "signs");
  EXPECT_EQ(grasps, "");
  EXPECT_EQ(found(of({.episodes = Strings(12, "pppphhhhpp"),
                      .change = [](int64_t i, Step& s) { s.action[6] = i % 10 < 4 ? -1.0f : 1.0f; }}),
                  "signs"),
            "");
}

// ---- where the gripper is ----

// Twelve numbers: arm 0..5, gripper 6, base 7..10, mode 11, the last constant.
Step mobile(Step step) {
  step.action.resize(12, 0.0f);
  step.action[11] = -1;
  return step;
}

TEST(WhereTheGripperIs, IsAskedWhereTheLastNumberDoesNotLookLikeIt) {
  const Recording recording{.episodes = kTwelve, .change = [](int64_t, Step& s) { s = mobile(s); }};
  EXPECT_THAT(found(of(recording), "spread"),
              HasSubstr("warning: dimension 11 (gripper): q01 = q99 = -1 (always the same): it is left "
                        "unnormalised, and the policy learns nothing there; the last number of an action "
                        "counts as its gripper, and this one does not look like it: `gripper: {dimension: "
                        "N}` of its source says where it is, and dimension 6 takes two (-1 and 1)"));
  const auto said =
      found(of(recording, [](DataOptions& o) { o.interactions[0].gripper.dimension = {6}; }), "spread");
  EXPECT_THAT(said,
              AllOf(HasSubstr("dimension 11: q01 = q99 = -1 (always the same)"), Not(HasSubstr("gripper"))));
}

TEST(WhereTheGripperIs, IsAskedWhereAnotherNumberTakesTwoValues) {
  // the gripper first, an axis last
  const Recording recording{.episodes = kTwelve,
                            .change = [](int64_t, Step& s) { std::swap(s.action[0], s.action[6]); }};
  EXPECT_EQ(found(of(recording), "spread"),
            "warning: dimension 6 (gripper): takes many values, and dimension 0 takes two (-1 and 1); "
            "`gripper: {dimension: N}` of "
            "its source says where it is\n");
  EXPECT_EQ(found(of(recording, [](DataOptions& o) { o.interactions[0].gripper.dimension = {0}; }), "spread"),
            "");
}

// ---- frames ----

TEST(StaleFrames, AreCountedWhereTheRobotMoves) {
  const Strings episodes(6, std::string(40, 'p'));
  const Recording twice{.episodes = episodes, .change = [](int64_t i, Step& s) {
                          s.observation.images = numbered_step(i / 2 * 2).observation.images;
                        }};
  EXPECT_EQ(found(of(twice), "pictures"),
            "warning: camera front repeats the frame before in 60 of 120 frames looked at (50.0 %) although "
            "the robot moves (first: "
            "a.hdf5 demo_0 timestep 1): is it slower than the actions?\n");
  EXPECT_EQ(found(of({.episodes = episodes}), "pictures"), "");
  // nothing moves where frames repeat
  const Recording waits{.episodes = episodes, .change = [](int64_t i, Step& s) {
                          s.observation.images = numbered_step(i / 2 * 2).observation.images;
                          if (i % 2 == 0) std::fill_n(s.action.begin(), 6, 0.0f);
                        }};
  EXPECT_EQ(found(of(waits), "pictures"), "");
}

}  // namespace
}  // namespace apo::audit
