// Why a human took over: recorded beside the steps, carried by every copy, and what labels make of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <nlohmann/json.hpp>

#include "apo/audit/convert.h"
#include "apo/audit/inspect.h"
#include "apo/data/dataset.h"
#include "audit/names.h"
#include "audit/validations.h"
#include "data/journal.h"
#include "data/seal.h"
#include "support/places.h"

namespace apo::audit {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using TakeOvers = std::vector<RecordedTakeOver>;

constexpr const char* kSteps = "ppphhpph";
const TakeOvers kTakeOvers{{3, "wrong object", 2}, {7, "", 7}};

Step recorded_step(size_t i) {
  Step step = numbered_step(static_cast<int64_t>(i), source_of(kSteps[i]));
  if (i == 3) step.take_over = TakeOver{"wrong object", 1};
  if (i == 7) step.take_over = TakeOver{};
  return step;
}

void append_all(TrajectoryWriter& writer) {
  writer.begin_episode("lift the cube");
  for (size_t i = 0; i < 8; ++i) writer.append(recorded_step(i));
}

fs::path record_reasons(const TempDir& dir) {
  TrajectoryWriter writer(dir / "a.hdf5", test_info());
  append_all(writer);
  writer.end_episode(true, "success");
  return dir / "a.hdf5";
}

void leave_journal(const fs::path& path, int64_t number) {
  Journal journal(journal_path(path));
  journal.begin_episode(number, "lift the cube", "hash");
  for (size_t i = 0; i < 8; ++i) journal.append(recorded_step(i));
  journal.end_episode(true, "success");
  journal.flush();
}

TEST(TakeOvers, AreReadAsTheyWereRecorded) {
  TempDir dir;
  const fs::path path = record_reasons(dir);
  EXPECT_EQ(TrajectoryFile::open(path)->episode(0).take_overs, kTakeOvers);
  const auto demo = hdf5::Group::open(path).group("data").group("demo_0");
  EXPECT_EQ(demo.array("take_over_timestep").describe(), "int64 [2]");
  EXPECT_EQ(demo.array("take_over_reason").describe(), "text [2]");
  EXPECT_THAT(demo.array("take_over_reason").texts(), ElementsAre("wrong object", ""));
  EXPECT_THAT(demo.array("take_over_since").integers(), ElementsAre(2, 7));
  EXPECT_TRUE(TrajectoryFile::open(path)->episode(0).unused.empty());
}

TEST(TakeOvers, OfAnOpenRecordingAndOfOneThatWasKilled) {
  TempDir dir;
  {
    TrajectoryWriter writer(dir / "a.hdf5", test_info(), 1);
    append_all(writer);
    EXPECT_EQ(TrajectoryFile::open(dir / "a.hdf5")->episode(0).take_overs, kTakeOvers);
    writer.discard_episode();
  }
  const fs::path path = record_reasons(dir);
  leave_journal(path, 1);
  EXPECT_EQ(TrajectoryFile::open(path)->episode(1).take_overs, kTakeOvers);
  {
    TrajectoryWriter writer(path, test_info());  // brings the journal in
    append_all(writer);
    writer.end_episode(true, "success");
  }
  EXPECT_FALSE(fs::exists(journal_path(path)));
  const auto file = TrajectoryFile::open(path);
  ASSERT_EQ(file->num_episodes(), 3);
  for (int64_t e = 0; e < 3; ++e) EXPECT_EQ(file->episode(e).take_overs, kTakeOvers) << e;
}

TEST(TakeOvers, AreNotWrittenWhereThereAreNone) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"pph"});
  EXPECT_FALSE(hdf5::Group::open(dir / "a.hdf5").group("data").group("demo_0").has("take_over_reason"));
  EXPECT_TRUE(TrajectoryFile::open(dir / "a.hdf5")->episode(0).take_overs.empty());
}

TEST(TakeOvers, AreSealed) {
  TempDir dir;
  const fs::path path = record_reasons(dir);
  {
    hdf5::Group demo = hdf5::Group::open_for_writing(path).group("data").group("demo_0");
    demo.remove("take_over_reason");
    demo.write_texts("take_over_reason", {"wrong object", "late"});
  }
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(path); }),
              HasSubstr("damaged or changed since it was recorded"));
}

TEST(TakeOvers, ComeAlongInCopies) {
  TempDir dir;
  const fs::path path = record_reasons(dir);
  const DataOptions options = options_for_paths({path.string()});
  const Conversion ours = convert(options, TrajectoryFormat::apo, dir / "ours.hdf5");
  EXPECT_TRUE(ours.left_out.empty());
  write_labels(options, dir / "labelled.hdf5");
  leave_journal(path, 1);
  write_labels(options, dir / "rewritten.hdf5");  // a file with a journal is written anew
  for (const char* copy : {"ours.hdf5", "labelled.hdf5", "rewritten.hdf5"})
    EXPECT_EQ(TrajectoryFile::open(dir / copy)->episode(0).take_overs, kTakeOvers) << copy;
  EXPECT_EQ(TrajectoryFile::open(dir / "rewritten.hdf5")->episode(1).take_overs, kTakeOvers);
}

TEST(TakeOvers, AreListedWhereALayoutHasNoPlaceForThem) {
  TempDir dir;
  const DataOptions options = options_for_paths({record_reasons(dir).string()});
  const auto lost =
      ::testing::Contains(std::pair<const std::string, int64_t>{"data/demo_*/take_over_reason", 1});
  EXPECT_THAT(convert(options, TrajectoryFormat::robomimic, dir / "r.hdf5").left_out, lost);
  EXPECT_THAT(convert(options, TrajectoryFormat::released_interaction, dir / "steps").left_out, lost);
  const auto demo = hdf5::Group::open(dir / "r.hdf5").group("data").group("demo_0");
  for (const char* name : {"take_over_timestep", "take_over_reason", "take_over_since"})
    EXPECT_FALSE(demo.has(name));
}

TEST(TakeOvers, TheWriterRefusesWhatCannotBe) {
  TempDir dir;
  TrajectoryWriter writer(dir / "a.hdf5", test_info());
  writer.begin_episode("lift");
  Step step = numbered_step(0, ActionSource::policy);
  step.take_over = TakeOver{"stuck", 0};
  EXPECT_THAT(
      data_error([&] { writer.append(step); }),
      HasSubstr("/data/demo_0 step 0: expected a take-over at a step of the human, found one of the policy"));
  step.source = ActionSource::intervention;
  for (const std::string& reason : {std::string("\xff"), std::string("a\0b", 3), std::string(1001, 'x')}) {
    step.take_over = TakeOver{reason, 0};
    EXPECT_THAT(data_error([&] { writer.append(step); }),
                HasSubstr("step 0: expected why the human took over as UTF-8"));
  }
  step.take_over = TakeOver{"stuck", -1};
  EXPECT_THAT(data_error([&] { writer.append(step); }), HasSubstr("found -1"));
  step.take_over = TakeOver{std::string(1000, 'x'), 100};  // held before the recording began
  writer.append(step);
  writer.end_episode(true, "");
  EXPECT_EQ(TrajectoryFile::open(dir / "a.hdf5")->episode(0).take_overs,
            (TakeOvers{{0, std::string(1000, 'x'), 0}}));
}

// A recorder of somebody else's: the policy acts in steps 0 to 2, a person in 3 and 4.
fs::path record_foreign(const fs::path& path, const std::vector<int64_t>& timesteps,
                        const std::vector<std::string>& reasons, const std::vector<int64_t>& since = {}) {
  write_damaged_wrist(path);
  hdf5::Group demo = hdf5::Group::open_for_writing(path).group("data").group("demo_0");
  demo.write("interventions", std::vector<int8_t>{0, 0, 0, 1, 1, 0}, {6});
  if (!timesteps.empty()) demo.write("take_over_timestep", std::span(timesteps), {std::ssize(timesteps)});
  if (!reasons.empty()) demo.write_texts("take_over_reason", reasons);
  if (!since.empty()) demo.write("take_over_since", std::span(since), {std::ssize(since)});
  return path;
}

TEST(TakeOvers, AsH5pyWritesThem) {
  const auto file =
      TrajectoryFile::open(apo::testing::in_source("tests/data/goldens/layouts/take_overs.hdf5"));
  EXPECT_EQ(file->episode(0).take_overs, (TakeOvers{{2, "grasped air", 2}, {6, "stuck", 6}}));
  EXPECT_TRUE(file->episode(0).unused.empty());
}

TEST(TakeOvers, OfOtherRecorders) {
  TempDir dir;
  const auto read = [](const fs::path& path) { return TrajectoryFile::open(path)->episode(0); };
  EXPECT_EQ(read(record_foreign(dir / "a.hdf5", {3}, {"grasped air"})).take_overs,
            (TakeOvers{{3, "grasped air", 3}}));
  const EpisodeRecord half = read(record_foreign(dir / "b.hdf5", {3}, {}));
  EXPECT_TRUE(half.take_overs.empty());
  EXPECT_TRUE(half.unused.contains("take_over_timestep"));
  struct Bad {
    std::vector<int64_t> timesteps;
    std::vector<std::string> reasons;
    std::vector<int64_t> since;
    const char* message;
  };
  const std::vector<Bad> bad{
      {{3, 4}, {"x"}, {}, "take_over_reason: expected 2 rows, one for each take-over, found text [1]"},
      {{3}, {"x"}, {1, 2}, "take_over_since: expected 1 rows, one for each take-over, found int64 [2]"},
      {{6}, {"x"}, {}, "take_over_timestep row 0: expected a step from 0 to 5, found 6"},
      {{4, 3}, {"x", "y"}, {}, "take_over_timestep row 1: expected a step from 5 to 5, found 3"},
      {{2},
       {"x"},
       {},
       "take_over_timestep row 0: expected a step of the human, found 2, at which the policy acts"},
      {{3}, {std::string(1001, 'x')}, {}, "take_over_reason row 0: expected at most 1000 bytes, found 1001"},
      {{3}, {"x"}, {4}, "take_over_since row 0: expected a step from 0 to 3, found 4"}};
  for (size_t i = 0; i < bad.size(); ++i) {
    const fs::path path =
        record_foreign(dir / concat("bad", i, ".hdf5"), bad[i].timesteps, bad[i].reasons, bad[i].since);
    EXPECT_THAT(data_error([&] { read(path); }), HasSubstr(bad[i].message));
  }
}

TEST(TakeOvers, BelongToTheHumansStepsThatFollow) {
  EpisodeRecord record = episode_record("pphhshpph");
  record.take_overs = {{2, "stuck", 0}};
  const auto reason = [&record](int64_t t) {
    const RecordedTakeOver* found = find_take_over(record, t);
    return found == nullptr ? "none" : found->reason;
  };
  for (const int64_t t : {2, 3, 5}) EXPECT_EQ(reason(t), "stuck") << t;  // what was not recorded ends nothing
  for (const int64_t t : {0, 1, 6, 8}) EXPECT_EQ(reason(t), "none") << t;
}

// d desirable, u undesirable, i intervention, . skipped
std::string letters(const std::vector<LabelledStep>& steps) {
  std::string text;
  for (const LabelledStep& step : steps) text += "dui."[static_cast<size_t>(step.label)];
  return text;
}

EpisodeRecord taken_over(const std::string& steps, const TakeOvers& take_overs) {
  EpisodeRecord record = episode_record(steps);
  record.take_overs = take_overs;
  return record;
}

TEST(TakeOverLabels, MereTimeMakesNoNegatives) {
  const LabelRules rules{.labels = {.steps_before_intervention = 2}};
  for (const char* reason : {"out of patience", "stuck"}) {
    const auto steps = label_episode(taken_over("pppphhp", {{4, reason, 4}}), rules);
    EXPECT_EQ(letters(steps), "dd..iid");
    EXPECT_EQ(steps[3].reason, std::string("before take-over, ") + reason);
    EXPECT_EQ(steps[3].take_over_number, -1);
    EXPECT_TRUE(steps[3].dimension_credit.empty());
    EXPECT_FALSE(steps[3].filtered);
    EXPECT_TRUE(steps[4].take_over);
    EXPECT_TRUE(steps[4].no_negatives);
    EXPECT_EQ(steps[4].take_over_number, 0);
  }
  EXPECT_EQ(letters(label_episode(taken_over("pppphhp", {{4, "wrong object", 4}}), rules)), "dduuiid");
}

TEST(TakeOverLabels, AHumanWhoTakesOverNeedlesslyDoesNotKnowIt) {
  LabelRules rules{.labels = {.steps_before_intervention = 2}};
  const EpisodeRecord needless = taken_over("pppphhp", {{4, "needless", 4}});
  EXPECT_EQ(letters(label_episode(needless, rules)), "dduuiid");  // wrong negatives, as of a real person
  rules.labels.undesirable_reasons = {"wrong object"};
  EXPECT_EQ(letters(label_episode(needless, rules)), "dd..iid");
}

TEST(TakeOverLabels, AReasonThatNobodyRecordedCountsAsBefore) {
  LabelRules rules{.labels = {.steps_before_intervention = 2, .undesirable_reasons = {"wrong object"}}};
  EXPECT_EQ(letters(label_episode(episode_record("ppph"), rules)), "duui");
  EXPECT_EQ(letters(label_episode(taken_over("ppph", {{3, "", 3}}), rules)), "duui");
  EXPECT_EQ(letters(label_episode(taken_over("pppphpph", {{7, "late", 7}}), rules)),
            "dduui..i");  // the second alone
}

TEST(TakeOverLabels, TheListSaysWhich) {
  LabelRules rules{
      .labels = {.steps_before_intervention = 2, .undesirable_reasons = {"wrong object", "stuck"}}};
  const auto of = [&rules](const char* reason) {
    return letters(label_episode(taken_over("pppphhp", {{4, reason, 4}}), rules));
  };
  EXPECT_EQ(of("wrong object"), "dduuiid");
  EXPECT_EQ(of("stuck"), "dduuiid");
  EXPECT_EQ(of("off course"), "dd..iid");
}

TEST(TakeOverLabels, StepsAtWhichTheReasonHeldAreNotDesirable) {
  LabelRules rules{.labels = {.steps_before_intervention = 2}};
  const EpisodeRecord stuck = taken_over("phppppppph", {{1, "off course", 1}, {9, "stuck", 4}});
  EXPECT_EQ(letters(label_episode(stuck, rules)), "uidd.....i");
  EXPECT_EQ(label_episode(stuck, rules)[4].reason, "before take-over, stuck");
  rules.labels.undesirable_reasons = {"stuck"};  // a mistake after all
  EXPECT_EQ(letters(label_episode(stuck, rules)), ".idd...uui");
  // never beyond the human's step before
  EXPECT_EQ(letters(label_episode(taken_over("pphpph", {{5, "stuck", 0}}),
                                  {.labels = {.steps_before_intervention = 1}})),
            "dui..i");
}

TEST(TakeOverLabels, ExplicitLabelsWin) {
  EpisodeRecord record = taken_over("ppppph", {{5, "stuck", 5}});
  record.desirable[2] = false;
  record.desirable[3] = true;
  EXPECT_EQ(letters(label_episode(record, {.labels = {.steps_before_intervention = 3}})), "ddud.i");
}

TEST(TakeOverLabels, TheTailOfAFailedEpisodeHasNoReason) {
  EpisodeRecord record = taken_over("ppphppp", {{3, "stuck", 3}});
  record.success = false;
  LabelRules rules{
      .labels = {.steps_before_intervention = 2, .failed_episodes = FailedEpisodes::undesirable_tail}};
  EXPECT_EQ(letters(label_episode(record, rules)), "d..i.uu");
}

TEST(TakeOverLabels, TheReleasedCodeKnowsNoReasonsUnlessSomeAreNamed) {
  LabelRules rules{.labels = {.steps_before_intervention = 2},
                   .compatibility = DataCompatibility::released_code};
  const EpisodeRecord record = taken_over("pppppH-hp", {{5, "stuck", 1}});
  EXPECT_EQ(letters(label_episode(record, rules)), "ddduu..id");
  rules.labels.undesirable_reasons = {"wrong object"};  // the human's first step that moves belongs to it
  EXPECT_EQ(letters(label_episode(taken_over("pppppHhp", {{5, "stuck", 1}}), rules)), "d.....id");
}

TEST(TakeOverLabels, Counts) {
  LabelCounts counts;
  count_labels(label_episode(taken_over("pphpphpph", {{2, "stuck", 2}, {8, "wrong object", 8}}),
                             {.labels = {.steps_before_intervention = 2}}),
               counts);
  EXPECT_EQ(counts, (LabelCounts{{"skipped: before take-over, stuck", 2},
                                 {"undesirable: before take-over", 4},
                                 {"intervention: human correction", 3},
                                 {"take-over: no negatives", 1},
                                 {"take-over: whole window", 2}}));
}

Recording with_reasons(const std::string& first, const std::string& second) {
  return {.change = [first, second](int64_t i, Step& step) {
    if (i == 5) step.take_over = TakeOver{first, 0};
    if (i == 14) step.take_over = TakeOver{second, 0};
  }};
}

TEST(TakeOverLabels, InspectCountsByReason) {
  TempDir dir;
  DataOptions options = options_for_paths({record(dir, with_reasons("wrong object", "stuck"))});
  options.labels.steps_before_intervention = 3;
  const auto json = nlohmann::json::parse(inspect_json(options))["sources"][0];
  EXPECT_EQ(json["take_overs"], 2);
  EXPECT_EQ(json["take_overs_without_negatives"], 1);
  EXPECT_EQ(json["take_overs_by_reason"], (nlohmann::json{{"stuck", 1}, {"wrong object", 1}}));
  EXPECT_EQ(json["labels"]["skipped: before take-over, stuck"], 3);
  EXPECT_THAT(inspect_text(options),
              HasSubstr("2 (window cut short: 0, nothing to imitate: 0, no negatives: 1)\n"));
  EXPECT_THAT(inspect_text(options), HasSubstr("reasons           stuck 1, wrong object 1\n"));
  const auto nobody =
      nlohmann::json::parse(inspect_json(options_for_paths({record(dir, {.name = "b.hdf5"})})))["sources"][0];
  EXPECT_EQ(nobody["take_overs_by_reason"], (nlohmann::json{{"not recorded", 2}}));
  EXPECT_THAT(inspect_text(options_for_paths({(dir / "b.hdf5").string()})),
              ::testing::Not(HasSubstr("reasons ")));
}

TEST(TakeOverLabels, ValidateTellsWhatMakesNoNegativesAndWhatNobodyRecorded) {
  EXPECT_EQ(found(of(with_reasons("wrong object", "off course")), "windows"), "");
  EXPECT_EQ(
      found(of(with_reasons("wrong object", "stuck")), "windows"),
      "note: 1 of 2 take-overs (50.0 %) make no negatives (stuck 1; data.labels.undesirable_reasons)\n");
  EXPECT_EQ(
      found(of(with_reasons("wrong object", "off course"),
               [](DataOptions& o) {
                 o.labels.undesirable_reasons = {"wrong object", "off corse"};
               }),
            "windows"),
      "note: 1 of 2 take-overs (50.0 %) make no negatives (off course 1; data.labels.undesirable_reasons)\n"
      "note: data.labels.undesirable_reasons: no take-over was recorded with the reason 'off corse' "
      "(recorded: off "
      "course, wrong object)\n");
}

TEST(TakeOverLabels, StoredLabelsAreReadAsTheyWere) {
  TempDir dir;
  DataOptions options = options_for_paths({record(dir, with_reasons("wrong object", "stuck"))});
  options.labels.steps_before_intervention = 3;
  write_labels(options, dir / "labelled.hdf5");
  DataOptions copy = options_for_paths({(dir / "labelled.hdf5").string()});
  const Dataset first(options), second(copy);
  for (const Pool pool : {Pool::desirable, Pool::undesirable, Pool::intervention})
    EXPECT_EQ(first.pool(pool), second.pool(pool));
  EXPECT_EQ(first.pool(Pool::undesirable).size(), 3u);
}

TEST(TakeOverLabels, SegmentsOfATakeOverWithoutNegativesHaveNoPair) {
  TempDir dir;
  DataOptions options;
  options.interactions = {{.path = record(dir, with_reasons("wrong object", "stuck"))}};
  options.labels.steps_before_intervention = 3;
  const auto pairs = Dataset(options).segment_pairs();
  ASSERT_EQ(pairs.size(), 1u);
  EXPECT_EQ(pairs[0].rejected.front().timestep, 2);
}

}  // namespace
}  // namespace apo::audit
