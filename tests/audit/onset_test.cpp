// data.labels.window onset by hand. One letter a step: the policy goes right (r), left (l), not at all (o) or
// up (u); the human goes right (R), not at all (O).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "apo/audit/inspect.h"
#include "apo/data/labels.h"
#include "audit/names.h"
#include "data/recordings.h"
#include "support/temp_dir.h"

namespace apo::audit {
namespace {

using apo::testing::TempDir;
using ::testing::HasSubstr;

Action action_of(char letter) {
  switch (letter) {
    case 'r':
      return {0.5f, 0.1f, 1.0f};
    case 'l':
      return {-0.5f, 0.1f, 1.0f};
    case 'u':
      return {0.1f, 0.8f, 1.0f};
    case 'R':
      return {0.6f, 0.0f, -1.0f};
    default:
      return {0.0f, 0.0f, 1.0f};
  }
}

bool is_human(char letter) { return letter == 'R' || letter == 'O'; }

EpisodeRecord moves(const std::string& letters) {
  EpisodeRecord record = episode_record(letters);
  for (size_t i = 0; i < letters.size(); ++i) {
    record.actions[i] = action_of(letters[i]);
    record.sources[i] = is_human(letters[i]) ? ActionSource::intervention : ActionSource::policy;
    record.recorded[i] = letters[i] != 's';
  }
  return record;
}

LabelRules rules(int64_t max_window = 20, int64_t k = 3) {
  return {.labels = {.steps_before_intervention = k, .window = LabelWindow::onset, .max_window = max_window}};
}

// d desirable, u undesirable, i intervention, . skipped
std::string labels_of(const EpisodeRecord& record, const LabelRules& rules) {
  std::string text;
  for (const LabelledStep& step : label_episode(record, rules))
    text += "dui."[static_cast<size_t>(step.label)];
  return text;
}

std::string labels_of(const std::string& letters, const LabelRules& by = rules()) {
  return labels_of(moves(letters), by);
}

TEST(Onset, TheWindowBeginsWhereThePolicyTurnsAgainstTheCorrection) {
  EXPECT_EQ(labels_of("rrrrllRRrr"), "dddduuiidd");
  EXPECT_EQ(labels_of("rrllllllRr"), "dduuuuuuid");
  const auto steps = label_episode(moves("rrrrllRRrr"), rules());
  EXPECT_EQ(steps[6].window_steps, 2);
  EXPECT_FALSE(steps[6].window_cut_short);
  EXPECT_FALSE(steps[6].onset_not_found);
  EXPECT_EQ(steps[4].reason, "before take-over");
  EXPECT_EQ(steps[4].take_over_number, 0);
  EXPECT_EQ(steps[4].dimension_credit.size(), 3u);
}

TEST(Onset, TheDefaultIsTheLastKSteps) {
  EXPECT_EQ(labels_of("rrrrllRRrr", {.labels = {.steps_before_intervention = 3}}), "ddduuuiidd");
  EXPECT_EQ(LabelOptions{}.window, LabelWindow::steps);
}

TEST(Onset, OneStepThatAgreesEndsNothingTwoDo) {
  EXPECT_EQ(labels_of("rrlrllRR"), "dduuuuii");
  EXPECT_EQ(labels_of("rllrrlRR"), "ddddduii");
  EXPECT_EQ(labels_of("rrllrRR"), "dduuuii");    // the pause may be the last step
  EXPECT_EQ(labels_of("rrrlrrRR"), "ddddduii");  // and there is one step at least
}

TEST(Onset, NeverBeyondThePreviousTakeOverOrTheStart) {
  EXPECT_EQ(labels_of("llllR"), "uuuui");
  EXPECT_EQ(labels_of("lllRllRR"), "uuuiuuii");
  EXPECT_EQ(labels_of("rllRrllR"), "duuiduui");
}

TEST(Onset, NeverLongerThanMaxWindow) {
  EXPECT_EQ(labels_of("llllllR", rules(2)), "dddduui");
  EXPECT_EQ(labels_of("llllllR", rules(1)), "dddddui");
  EpisodeRecord record = moves("rrrrrrR");
  record.take_overs = {{6, "off course", 0}};
  EXPECT_EQ(labels_of(record, rules(4)), "..uuuui");
}

TEST(Onset, ACorrectionWithoutADirectionFallsBackToKAndIsCounted) {
  const auto steps = label_episode(
      moves("rllllORRrllR"),
      {.labels = {.steps_before_intervention = 3, .window = LabelWindow::onset, .credit_actions = 1}});
  EXPECT_TRUE(steps[5].onset_not_found);
  EXPECT_EQ(steps[5].window_steps, 3);
  EXPECT_FALSE(steps[11].onset_not_found);
  EXPECT_EQ(steps[11].window_steps, 2);
  LabelCounts counts;
  count_labels(steps, counts);
  EXPECT_EQ(counts["take-over: onset not found"], 1);
  EXPECT_EQ(counts["take-over: whole window"], 2);
  EXPECT_EQ(counts["undesirable: before take-over"], 5);
  // fewer than K before it
  EXPECT_TRUE(label_episode(moves("llO"), rules())[2].window_cut_short);
  EpisodeRecord nan = moves("rllllRR");
  nan.actions[6][0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(label_episode(nan, rules())[5].onset_not_found);
}

TEST(Onset, TheGripperIsNoDirection) {
  EpisodeRecord record = moves("rrrllR");
  for (size_t i = 0; i < 5; ++i) record.actions[i][2] = 1;
  record.actions[5] = {0.01f, 0.0f, -1.0f};  // the hand opens and hardly moves
  EXPECT_TRUE(label_episode(record, rules())[5].onset_not_found);
}

TEST(Onset, WhatThePolicyWantedAtTheCorrectionTellsAStandstillFromAgreement) {
  EpisodeRecord record = moves("rrrooRR");
  EXPECT_EQ(labels_of(record, rules()), "ddd.uii");  // a step without motion goes against nothing
  record.policy_actions[5] = record.policy_actions[6] = action_of('o');
  const auto steps = label_episode(record, rules());
  EXPECT_EQ(steps[5].window_steps, 2);
  record = moves("rrruuRR");  // the policy goes up, the human right: no scalar product is negative
  record.policy_actions[5] = action_of('u');
  EXPECT_EQ(labels_of(record, rules()), "ddduuii");
}

TEST(Onset, ARecordedReasonHeldIsPartOfTheMistake) {
  EpisodeRecord record = moves("rrrrrrrlR");
  record.take_overs = {{8, "off course", 3}};
  EXPECT_EQ(labels_of(record, rules()), "ddduuuuui");
  record.take_overs[0].since = 8;
  EXPECT_EQ(labels_of(record, rules()), "dddddddui");
  record.take_overs[0].reason = "stuck";  // makes no negatives
  EXPECT_EQ(labels_of(record, rules()), "ddddddd.i");
  EXPECT_EQ(label_episode(record, rules())[8].window_steps, 1);
}

TEST(Onset, StepsThatAreMarkedSkippedAreAsIfNotRecorded) { EXPECT_EQ(labels_of("rrllsslRR"), "dduu..uii"); }

TEST(Onset, NothingBeforeTheHuman) {
  const auto steps = label_episode(moves("RRll"), rules());
  EXPECT_EQ(steps[0].window_steps, 0);
  EXPECT_TRUE(steps[0].window_cut_short);
}

std::string record_moves(const TempDir& dir, const std::string& letters) {
  const auto path = dir / "moves.hdf5";
  TrajectoryWriter writer(path, test_info());
  writer.begin_episode("lift the cube");
  for (size_t i = 0; i < letters.size(); ++i) {
    Step step = numbered_step(static_cast<int64_t>(i));
    step.action = action_of(letters[i]);
    step.source = is_human(letters[i]) ? ActionSource::intervention : ActionSource::policy;
    writer.append(step);
  }
  writer.end_episode(true, "success");
  return path.string();
}

TEST(Onset, InspectTellsHowLongWindowsAre) {
  TempDir dir;
  DataOptions options = options_for_paths({record_moves(dir, "rrlllRRrllRRrrOO")});
  options.labels.window = LabelWindow::onset;
  options.labels.steps_before_intervention = 1;
  const auto json = nlohmann::json::parse(inspect_json(options))["sources"][0];
  EXPECT_EQ(json["windows_by_steps"], (nlohmann::json{{"1", 1}, {"2", 1}, {"3", 1}}));
  EXPECT_EQ(json["window_steps"]["median"], 2.0);
  EXPECT_EQ(json["take_overs_without_onset"], 1);
  EXPECT_EQ(json["take_overs"], 3);
  const std::string text = inspect_text(options);
  EXPECT_THAT(text, HasSubstr("windows           by onset (not found: 1), steps: min 1"));
  EXPECT_THAT(text, HasSubstr("by steps: 1: 1, 2: 1, 3: 1\n"));
  options.labels.window = LabelWindow::steps;
  EXPECT_THAT(inspect_text(options), ::testing::Not(HasSubstr("by onset")));
}

}  // namespace
}  // namespace apo::audit
