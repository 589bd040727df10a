// The K-step rule by hand: each letter of an episode is one step (see recordings.h), each letter of the
// answer its label: d desirable, u undesirable, i intervention, . skipped.
#include "apo/data/labels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "apo/base/error.h"
#include "apo/base/random.h"
#include "data/recordings.h"

namespace apo::data {
namespace {

std::string letters(const std::vector<LabelledStep>& steps) {
  std::string text;
  for (const LabelledStep& step : steps)
    text += step.label == StepLabel::desirable      ? 'd'
            : step.label == StepLabel::undesirable  ? 'u'
            : step.label == StepLabel::intervention ? 'i'
                                                    : '.';
  return text;
}

std::string labels_of(const EpisodeRecord& record, int64_t k, FailedEpisodes failed = FailedEpisodes::drop,
                      bool is_expert = false) {
  const LabelOptions options{.steps_before_intervention = k, .failed_episodes = failed, .credit_actions = 3};
  return letters(label_episode(record, {is_expert, options, {}}));
}

std::string labels_of(const std::string& steps, int64_t k) { return labels_of(episode_record(steps), k); }

LabelRules released(int64_t k) {
  return {.labels = {.steps_before_intervention = k}, .compatibility = DataCompatibility::released_code};
}

std::string released_labels_of(const std::string& steps, int64_t k) {
  return letters(label_episode(episode_record(steps), released(k)));
}

// A demonstration that the file calls failed teaches nothing unless asked for; a person's word on a step
// counts.
TEST(Labels, FailedDemonstrations) {
  EpisodeRecord record = episode_record("eee");
  const auto labels = [&record](FailedDemonstrations failed) {
    return letters(label_episode(record, {.is_expert = true, .labels = {.failed_demonstrations = failed}}));
  };
  EXPECT_EQ(labels(FailedDemonstrations::drop), "ddd");  // nobody said
  record.success = false;
  EXPECT_EQ(labels(FailedDemonstrations::drop), "...");
  EXPECT_EQ(labels(FailedDemonstrations::keep), "ddd");
  EXPECT_EQ(label_episode(record, {.is_expert = true})[1].reason, "failed demonstration");
  record.desirable[1] = true;
  EXPECT_EQ(labels(FailedDemonstrations::drop), ".d.");
  record.success = true;
  EXPECT_EQ(labels(FailedDemonstrations::drop), "ddd");
}

TEST(Labels, LastStepsBeforeATakeOverAreUndesirable) {
  EXPECT_EQ(labels_of("pppppphhpp", 3), "ddduuuiidd");
  EXPECT_EQ(labels_of("pppppphhpp", 0), "ddddddiidd");
  EXPECT_EQ(labels_of("pppp", 3), "dddd");  // nobody took over
}

TEST(Labels, NeverBeyondTheEpisodesStart) { EXPECT_EQ(labels_of("pphhp", 10), "uuiid"); }

TEST(Labels, NeverBeyondThePreviousIntervention) {
  EXPECT_EQ(labels_of("ppphpphpp", 3), "uuuiuuidd");
  EXPECT_EQ(labels_of("ppphhhphp", 5), "uuuiiiuid");
}

// The robot froze and jerked: just that is what the human corrected.
TEST(Labels, TheWindowCountsRecordedStepsAndIsNotFiltered) {
  EXPECT_EQ(labels_of("pppp-!sph", 3), "dddduu.ui");
  EXPECT_EQ(labels_of("pp----h", 3), "dd.uuui");
  EXPECT_EQ(labels_of("ppp-!", 3), "ddd..");
}

TEST(Labels, AHumanWhoDoesNotMoveTakesOverAllTheSame) {
  EXPECT_EQ(labels_of("pppHpp", 2), "duu.dd");
  EXPECT_EQ(labels_of("pppHhpp", 2), "duu.idd");
  EXPECT_EQ(labels_of("pphHhpphp", 2), "uui.iuuid");  // one intervention with a pause
}

TEST(Labels, ATakeOverOfWhichNothingIsImitatedIsTold) {
  const auto steps = label_episode(episode_record("ppHHpphHp"), {.labels = {.steps_before_intervention = 2}});
  EXPECT_EQ(letters(steps), "uu..uui.d");
  EXPECT_TRUE(steps[2].take_over);
  EXPECT_TRUE(steps[2].nothing_to_imitate);
  EXPECT_TRUE(steps[2].filtered);
  EXPECT_EQ(steps[2].reason, "idle");
  EXPECT_TRUE(steps[6].take_over);
  EXPECT_FALSE(steps[6].nothing_to_imitate);
  LabelCounts counts;
  count_labels(steps, counts);
  EXPECT_EQ(counts["take-over: nothing to imitate"], 1);
  EXPECT_EQ(counts["take-over: whole window"], 2);
  EXPECT_EQ(counts["skipped: idle"], 3);
}

TEST(Labels, TheReleasedCodeFiltersFirst) {
  EXPECT_EQ(released_labels_of("pppp-!sph", 3), "dduu...ui");
  EXPECT_EQ(released_labels_of("ppp-", 3), "ddd.");
  EXPECT_EQ(released_labels_of("pppHpp", 2), "ddd.dd");    // a human who does not move takes nothing over
  EXPECT_EQ(released_labels_of("pppHhpp", 2), "duu.idd");  // the take-over is where the human first moves
  EXPECT_EQ(released_labels_of("pphHhpphp", 2), "uui.iuuid");
}

// One letter a step, with the gripper's command: the arm moves (m) or not (-).
EpisodeRecord gripper_record(ActionSource source, const std::string& arm, const std::vector<float>& gripper) {
  EpisodeRecord record = episode_record(std::string(arm.size(), 'e'));
  for (size_t i = 0; i < arm.size(); ++i) {
    record.sources[i] = source;
    record.actions[i] = {arm[i] == 'm' ? 0.3f : 0.0f, 0.0f, gripper[i]};
  }
  return record;
}

TEST(Labels, AStepAtWhichTheGripperMovesIsNotIdle) {
  const EpisodeRecord record = gripper_record(ActionSource::expert, "m---m---", {-1, -1, 1, 1, 1, 1, -1, -1});
  EXPECT_EQ(labels_of(record, 2, FailedEpisodes::drop, true), "d.d.d.d.");
  EXPECT_EQ(labels_of(gripper_record(ActionSource::expert, "--", {1, -1}), 2, FailedEpisodes::drop, true),
            ".d");
  LabelRules rules = released(2);
  rules.is_expert = true;
  EXPECT_EQ(letters(label_episode(record, rules)), "d...d...");
}

// The command before is that of the step before, whatever became of it.
TEST(Labels, TheGripperIsComparedWithTheRecordedStepBefore) {
  EpisodeRecord record = gripper_record(ActionSource::policy, "mm-m-", {-1, -1, 1, 1, -1});
  record.actions[3][0] = 1.5f;  // out of range
  EXPECT_EQ(labels_of(record, 2), "ddd.d");
  record.recorded[2] = false;  // the hand closed while nobody recorded: step 3 is the first to show it
  record.actions[3][0] = 0;
  EXPECT_EQ(labels_of(record, 2), "dd.dd");
}

TEST(Labels, TheGripperIsWhereTheRulesSay) {
  EpisodeRecord record = gripper_record(ActionSource::policy, "---", {0, 0, 0});
  record.actions = {{1, 0, 0, -1}, {0, 0, 0, -1}, {0, 0, 0.3f, 1}};  // hand, arm, arm, a mode
  LabelRules rules{.gripper = {.dimension = {0, 3}}};
  EXPECT_EQ(letters(label_episode(record, rules)), ".dd");  // the hand moved; the arm moved
  rules.gripper.dimension = {0, -1};
  EXPECT_EQ(letters(label_episode(record, rules)), ".dd");
  rules.gripper.dimension = {0};  // the mode is taken for a motion of one
  EXPECT_EQ(letters(label_episode(record, rules)), "ddd");
  rules.gripper.dimension = {4};
  EXPECT_EQ(config_error([&] { label_episode(record, rules); }),
            "gripper: gripper.dimension: expected from -4 to 3 (actions have 4 numbers), found 4");
  record.actions = {{0.01f}, {0.2f}, {0.02f}};  // one number moves the robot
  EXPECT_EQ(letters(label_episode(record, {})), ".d.");
}

// A slow hand that moves one axis after another, closes, waits until it holds and lifts.
TEST(Labels, WithLookAheadASlowHandIsImitatedAtFullSpeed) {
  EpisodeRecord record = episode_record("phhhhhhhhhp");
  record.actions = {{0.9f, 0, -1},   {0, 0, -1},     {-0.5f, 0, -1}, {-0.5f, 0, -1},
                    {-0.25f, 0, -1}, {0, 0.25f, -1}, {0, 0, 1},      {0, 0, 1},
                    {0, 0.5f, 1},    {0, 0.25f, 1},  {0.9f, 0, 1}};
  LabelRules rules;
  EXPECT_EQ(imitated_actions(record, rules), record.actions);
  rules.filter.look_ahead = 3;
  const std::vector<Action> meant = {{0.9f, 0, -1},        // the policy's stays
                                     {0, 0, -1},           // so does a rest
                                     {-1, 0, -1},          // -1.25 is cut to full speed
                                     {-0.75f, 0.25f, -1},  // slantwise
                                     {-0.25f, 0.25f, -1},  // not beyond the gripper's next command
                                     {0, 0.25f, -1},      {0, 0, 1},
                                     {0, 0, 1},                           // what waits for the gripper waits
                                     {0, 0.75f, 1},       {0, 0.25f, 1},  // not beyond the hand-back
                                     {0.9f, 0, 1}};
  EXPECT_EQ(imitated_actions(record, rules), meant);
  record.actions[2][0] = -1.5f;  // a robot of other units
  EXPECT_EQ(imitated_actions(record, rules)[2], (Action{-1.5f, 0, -1}));
  rules.is_expert = true;
  EXPECT_EQ(imitated_actions(record, rules), record.actions);
}

TEST(Labels, WithLookAheadAHandThatGoesToAndFroRests) {
  EpisodeRecord record = episode_record("phhh");
  record.actions = {{0.9f, 0, -1}, {0.5f, 0, -1}, {-0.5f, 0, -1}, {0, 0.5f, -1}};
  LabelRules rules;
  EXPECT_EQ(letters(label_episode(record, rules)), "uiii");
  rules.filter.look_ahead = 2;
  const auto steps = label_episode(record, rules);
  EXPECT_EQ(letters(steps), "u.ii");
  EXPECT_EQ(steps[1].reason, "idle");
  EXPECT_FLOAT_EQ(steps[0].dimension_credit[0], 1);  // 0.9 against the mean of 0, -0.5 and 0
}

// Ten policy steps reach, five hover, the human only closes the hand, the policy lifts.
TEST(Labels, ACorrectionThatIsOneGraspCounts) {
  EpisodeRecord record = episode_record(concat(std::string(25, 'p'), "hhhhh", std::string(10, 'p')));
  for (size_t i = 0; i < 40; ++i)
    record.actions[i] = {i < 20 || i >= 30 ? 0.4f : i < 25 ? 0.1f : 0.0f, 0, i < 25 ? -1.0f : 1.0f};
  record.success = true;
  const auto steps = label_episode(record, {});  // K = 10
  EXPECT_EQ(letters(steps),
            concat(std::string(15, 'd'), std::string(10, 'u'), "i....", std::string(10, 'd')));
  EXPECT_TRUE(steps[25].take_over);
  EXPECT_FALSE(steps[25].nothing_to_imitate);
  // |-1 - 1| = 2, at most 1
  for (size_t i = 15; i < 25; ++i) EXPECT_EQ(steps[i].dimension_credit[2], 1.0f) << i;
}

TEST(Labels, NeverIntoExpertData) {
  EXPECT_EQ(labels_of("eeeph", 4), "dddui");
  EXPECT_EQ(labels_of(episode_record("eee-eh"), 4, FailedEpisodes::drop, true), "ddd.dd");
}

TEST(Labels, AnEpisodeWithoutActionsHasNoLabels) {
  EXPECT_EQ(labels_of("", 3), "");
  EXPECT_EQ(labels_of("s", 3), ".");
}

TEST(Labels, FailedEpisodes) {
  EpisodeRecord record = episode_record("ppphpppp");
  EXPECT_EQ(labels_of(record, 2, FailedEpisodes::drop), "duuidddd");  // not known to have failed
  record.success = true;
  EXPECT_EQ(labels_of(record, 2, FailedEpisodes::drop), "duuidddd");
  record.success = false;
  EXPECT_EQ(labels_of(record, 2, FailedEpisodes::keep), "duuidddd");
  EXPECT_EQ(labels_of(record, 2, FailedEpisodes::drop), "duui....");
  EXPECT_EQ(labels_of(record, 2, FailedEpisodes::undesirable_tail), "duui..uu");
  record = episode_record("ppp");
  record.success = false;
  EXPECT_EQ(labels_of(record, 2, FailedEpisodes::drop), "...");
  record = episode_record("pph");  // the human finished, and it still failed
  record.success = false;
  EXPECT_EQ(labels_of(record, 1, FailedEpisodes::drop), "dui");
}

TEST(Labels, ExplicitLabelsWin) {
  EpisodeRecord record = episode_record("pppphh-p");
  record.desirable = {false, std::nullopt, std::nullopt, true, true, false, true, std::nullopt};
  // step 3 stays desirable though the human took over right after, and takes its place in the count; step 6
  // has no motion: filters come first
  EXPECT_EQ(labels_of(record, 2), "ududiu.d");
  record.success = false;
  record.desirable[7] = true;
  EXPECT_EQ(labels_of(record, 2), "ududiu.d");  // also over the failed end
  const auto steps = label_episode(record, {false, {.steps_before_intervention = 2}, {}});
  EXPECT_EQ(steps[0].reason, "explicit");
  EXPECT_EQ(steps[2].reason, "before take-over");
  EXPECT_EQ(labels_of(record, 2, FailedEpisodes::drop, true),
            "u..ddu.d");  // over a failed demonstration, too
  record.success = true;
  EXPECT_EQ(labels_of(record, 2, FailedEpisodes::drop, true), "uddddu.d");  // human steps of a demonstration
}

TEST(Labels, ExplicitlyNeitherIsInNoPoolAndStillCounts) {
  EpisodeRecord record = episode_record("pppphhp");
  record.neither = {true, false, false, true, true, false, false};
  const auto steps = label_episode(record, {.labels = {.steps_before_intervention = 2}});
  EXPECT_EQ(letters(steps), ".du..id");  // the window is steps 2 and 3
  EXPECT_EQ(steps[3].reason, "explicit");
  EXPECT_EQ(steps[3].take_over_number, -1);
  EXPECT_TRUE(steps[4].take_over);
  EXPECT_FALSE(steps[4].filtered);
}

TEST(Labels, ReasonsSayWhy) {
  EpisodeRecord record = episode_record("s-!pphp");
  record.success = false;
  const auto steps = label_episode(record, {false, {.steps_before_intervention = 1}, {}});
  std::vector<std::string> reasons;
  for (const LabelledStep& step : steps) reasons.emplace_back(step.reason);
  EXPECT_EQ(reasons, (std::vector<std::string>{"marked skipped", "idle", "action out of range", "policy",
                                               "before take-over", "human correction", "failed episode"}));
}

TEST(Labels, FiltersAreTheReleasedOnes) {
  EpisodeRecord record = episode_record("pppp");
  record.actions = {{1.0f, -1.0f, 1.0f},     // at the limit: kept
                    {0.1f, 0.1f, 1.001f},    // the gripper counts for the range
                    {0.02f, -0.02f, 1.0f},   // 0.04 without the gripper: idle
                    {0.02f, -0.04f, 0.0f}};  // 0.06
  EXPECT_EQ(letters(label_episode(record, released(1))), "d..d");
  EXPECT_EQ(labels_of(record, 1), "d.dd");  // at the third step the hand moved
  record.actions[2][2] = 1.001f;
  EXPECT_EQ(labels_of(record, 1), "d..d");  // out of range
  FilterOptions wide{.max_abs_action = 2, .min_motion = 0};
  EXPECT_EQ(letters(label_episode(record, {false, {}, wide})), "dddd");
}

TEST(Labels, DimensionCreditIsTheDistanceToTheHuman) {
  EpisodeRecord record = episode_record("pphhhhp");
  record.actions = {{0.5f, -1, 1},  {0.2f, 0.4f, 1},                              // the policy
                    {0.3f, 1, -1},  {0.5f, 1, -1},   {0.4f, 1, -1}, {-1, -1, 1},  // the human: three count
                    {0.1f, 0.1f, 1}};
  const auto steps =
      label_episode(record, {false, {.steps_before_intervention = 5, .credit_actions = 3}, {}});
  // h = ((0.3 + 0.5 + 0.4) / 3, 1, -1) = (0.4, 1, -1)
  ASSERT_EQ(steps[0].dimension_credit.size(), 3u);
  EXPECT_NEAR(steps[0].dimension_credit[0], 0.1, 1e-6);  // |0.5 - 0.4|
  EXPECT_EQ(steps[0].dimension_credit[1], 1.0f);         // |-1 - 1| = 2, at most 1
  EXPECT_EQ(steps[0].dimension_credit[2], 1.0f);
  EXPECT_NEAR(steps[1].dimension_credit[0], 0.2, 1e-6);
  EXPECT_NEAR(steps[1].dimension_credit[1], 0.6, 1e-6);
  EXPECT_TRUE(steps[2].dimension_credit.empty());
  EXPECT_TRUE(steps[6].dimension_credit.empty());
}

TEST(Labels, CreditOfAShortTakeOverUsesWhatThereIs) {
  EpisodeRecord record = episode_record("phph");
  record.actions = {{0.5f, 0, 1}, {0.3f, 0, 1}, {0.5f, 0, 1}, {0.9f, 0, 1}};
  const auto steps =
      label_episode(record, {false, {.steps_before_intervention = 5, .credit_actions = 3}, {}});
  // only the take-over's own action, not the next one's
  EXPECT_NEAR(steps[0].dimension_credit[0], 0.2, 1e-6);
  EXPECT_NEAR(steps[2].dimension_credit[0], 0.4, 1e-6);
}

TEST(Labels, CountsReasonsAndWindows) {
  LabelCounts counts;
  const LabelOptions options{.steps_before_intervention = 2};
  count_labels(label_episode(episode_record("ppphphs"), {false, options, {}}), counts);
  EXPECT_EQ(counts, (LabelCounts{{"desirable: policy", 1},
                                 {"undesirable: before take-over", 3},
                                 {"intervention: human correction", 2},
                                 {"skipped: marked skipped", 1},
                                 {"take-over: whole window", 1},
                                 {"take-over: window cut short", 1}}));
}

TEST(Labels, WhatFiltersLeaveOutOfASourceHasALimit) {
  const FilterOptions filter;  // 0.9
  EXPECT_EQ(mostly_filtered("a.hdf5", 0, {}, filter), "");
  EXPECT_EQ(mostly_filtered("a.hdf5", 100, {{"idle", 90}}, filter), "");
  const std::string message =
      mostly_filtered("a.hdf5", 100, {{"action out of range", 3}, {"idle", 88}}, filter);
  EXPECT_THAT(message, ::testing::HasSubstr("a.hdf5: filters leave out 91 of 100 steps"));
  EXPECT_THAT(message, ::testing::HasSubstr("3 action out of range, 88 idle"));
  EXPECT_THAT(message, ::testing::HasSubstr("data.filter.min_motion 0.05"));
  EXPECT_EQ(mostly_filtered("a.hdf5", 100, {{"idle", 100}}, {.max_share = 1}), "");
}

// Undesirable steps are never filtered, and nothing else than filters tells the two orders apart.
TEST(Labels, WithoutFiltersBothOrdersAreOne) {
  Random random(4, "episodes");
  for (int round = 0; round < 200; ++round) {
    std::string steps;
    for (uint64_t n = random.below(30); n > 0; --n) steps += "eppphhs-H!"[random.below(10)];
    LabelRules rules{.labels = {.steps_before_intervention = static_cast<int64_t>(random.below(6))}};
    const auto thinned = label_episode(episode_record(steps), rules);
    rules.filter = {.max_abs_action = 10, .min_motion = 0};
    const auto all = label_episode(episode_record(steps), rules);
    rules.compatibility = DataCompatibility::released_code;
    EXPECT_EQ(letters(all), letters(label_episode(episode_record(steps), rules))) << steps;
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(all[i].take_over, thinned[i].take_over) << steps;
      EXPECT_EQ(all[i].label == StepLabel::undesirable, thinned[i].label == StepLabel::undesirable)
          << steps << i;
      EXPECT_EQ(all[i].dimension_credit, thinned[i].dimension_credit) << steps << i;
    }
  }
}

// What holds whatever the episode: labelling what was labelled changes nothing.
TEST(Labels, StoringTheLabelsChangesNothing) {
  Random random(3, "episodes");
  for (int round = 0; round < 200; ++round) {
    std::string steps;
    for (uint64_t n = random.below(30); n > 0; --n) steps += "eppphhs-H!"[random.below(10)];
    EpisodeRecord record = episode_record(steps);
    if (random.below(2)) record.success = random.below(2) == 1;
    const LabelOptions options{.steps_before_intervention = static_cast<int64_t>(random.below(6)),
                               .failed_episodes = static_cast<FailedEpisodes>(random.below(3))};
    const LabelRules rules{.labels = options,
                           .compatibility = static_cast<DataCompatibility>(random.below(2))};
    const auto first = label_episode(record, rules);
    EpisodeRecord stored = record;
    for (size_t i = 0; i < first.size(); ++i)
      if (first[i].label != StepLabel::skipped)
        stored.desirable[i] = first[i].label != StepLabel::undesirable;
    if (random.below(2))  // stored in full
      for (size_t i = 0; i < first.size(); ++i)
        stored.neither.push_back(first[i].label == StepLabel::skipped && record.recorded[i]);
    const auto second = label_episode(stored, rules);
    EXPECT_EQ(letters(first), letters(second)) << steps;
    for (size_t i = 0; i < first.size(); ++i)
      EXPECT_EQ(first[i].dimension_credit, second[i].dimension_credit);
  }
}

}  // namespace
}  // namespace apo::data
