#include "apo/deploy/collector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <limits>

#include "apo/base/files.h"
#include "apo/base/interrupt.h"
#include "apo/config/options.h"
#include "apo/data/trajectory.h"
#include "apo/deploy/scripted_human.h"
#include "deploy/episode.h"
#include "deploy/fakes.h"
#include "support/temp_dir.h"

namespace apo::deploy {
namespace {

namespace fs = std::filesystem;
using testing::FunctionPolicy;
using ::testing::HasSubstr;
using testing::hesitant;
using testing::message_of;
using ::testing::Not;
using testing::Walk;
using testing::walk_options;

// A human who answers every concern at once and finishes.
const ScriptedHumanOptions kQuickHuman{.reaction_steps = 1, .calm_steps = 0};

// Collects with `hesitant`: even seeds succeed alone; odd ones go back 0.5 a step, alarm the human at -1
// (before the step with number 2) and are finished by him in 4 + seed % 3 steps of 1.
CollectionSummary collect_walks(const CollectOptions& options, const fs::path& output,
                                const ScriptedHumanOptions& human = kQuickHuman) {
  Walk walk;
  FunctionPolicy policy(hesitant);
  return collect(walk, policy, *make_scripted_human(human), options, output);
}

TEST(Collect, RecordsEveryStepWithItsSource) {
  const apo::testing::TempDir dir;
  const CollectionSummary summary = collect_walks({.take_overs = 0, .episodes = 2}, dir / "walks.hdf5");
  EXPECT_EQ(summary.episodes, 2);
  EXPECT_EQ(summary.recorded, 2);
  EXPECT_EQ(summary.alone, 1);
  EXPECT_EQ(summary.corrected, 1);
  EXPECT_EQ(summary.lost, 0);
  EXPECT_EQ(summary.take_overs, 1);
  EXPECT_EQ(summary.take_overs_by_reason, (std::map<std::string, int64_t>{{"off course", 1}}));
  // seed 0: 4 policy steps; seed 1: 2 policy steps, then the human from -1 to the flag at 4
  EXPECT_EQ(summary.steps, (std::map<std::string, int64_t>{{"intervention", 5}, {"policy", 6}}));

  const auto file = data::TrajectoryFile::open(dir / "walks.hdf5");
  ASSERT_EQ(file->num_episodes(), 2);
  const data::EpisodeRecord alone = file->episode(0), corrected = file->episode(1);
  EXPECT_EQ(alone.instruction, "walk to the flag");
  EXPECT_EQ(alone.outcome, "success");
  EXPECT_EQ(alone.success, std::optional<bool>(true));
  ASSERT_EQ(alone.num_steps(), 4);
  for (int64_t t = 0; t < 4; ++t) {
    EXPECT_EQ(alone.sources[t], ActionSource::policy);
    EXPECT_EQ(alone.actions[t], (Action{0.75f, 0.75f * t / 10}));
    EXPECT_FALSE(alone.policy_actions[t].has_value());
  }
  ASSERT_EQ(corrected.num_steps(), 7);
  for (int64_t t = 0; t < 7; ++t) {
    const bool human = t >= 2;
    EXPECT_EQ(corrected.sources[t], human ? ActionSource::intervention : ActionSource::policy) << t;
    EXPECT_EQ(corrected.actions[t][0], human ? 1.0f : -0.5f) << t;
    ASSERT_EQ(corrected.policy_actions[t].has_value(), human) << t;
    if (!human) continue;
    EXPECT_EQ((*corrected.policy_actions[t])[0], -0.5f) << t;  // what the policy went on wanting
  }
  // what was seen before the step, not after it
  const Observation third = file->observation(1, 2);
  EXPECT_EQ(third.state.at("position"), std::vector<float>{-1.0f});
  EXPECT_EQ(third.images.at("front").flatten()[0].item<int64_t>(), 90);
}

TEST(PlayEpisode, RewardsTheStepThatAchievesAndMarksTheLast) {
  Walk walk;
  FunctionPolicy policy(hesitant);
  std::vector<float> rewards;
  std::vector<bool> dones;
  std::string order;
  const EpisodeHooks hooks{.decided = [&](ActionSource) { order += 'd'; },
                           .stepped =
                               [&](const Step& step) {
                                 order += 's';
                                 rewards.push_back(step.reward);
                                 dones.push_back(step.done);
                               }};
  Rollout there(walk.spec(), 0), fallen(walk.spec(), 1);
  play_episode(walk, there, policy, nullptr, 0, hooks);  // reaches the flag in 4 steps
  EXPECT_EQ(rewards, (std::vector<float>{0, 0, 0, 1}));
  EXPECT_EQ(dones, (std::vector<bool>{false, false, false, true}));
  EXPECT_EQ(order, "dsdsdsds");
  rewards.clear();
  dones.clear();
  play_episode(walk, fallen, policy, nullptr, 0, hooks);  // falls after 8
  EXPECT_EQ(rewards, std::vector<float>(8, 0));
  EXPECT_TRUE(dones.back());
}

TEST(PlayEpisode, AnEpisodeWithATakeOverIsNotFlawless) {
  Walk walk;
  FunctionPolicy policy(hesitant);
  struct Eager : InterventionSource {
    std::optional<Intervention> decide(const Moment& moment) override {
      if (moment.step > 0) return std::nullopt;
      return Intervention{{1, 0}, "eager"};
    }
  } eager;
  Rollout rollout(walk.spec(), 0);
  const EpisodeResult result = play_episode(walk, rollout, policy, &eager, 0, {});
  EXPECT_TRUE(result.success);
  EXPECT_FALSE(result.flawless);
  EXPECT_EQ(result.take_over_reasons, std::vector<std::string>{"eager"});
  EXPECT_EQ(result.hand_backs, 1);
}

TEST(Collect, LeavesAFileThatIsBeingWrittenAlone) {
  const apo::testing::TempDir dir;
  const fs::path output = dir / "walks.hdf5";
  collect_walks({.take_overs = 0, .episodes = 1}, output);
  const data::TrajectoryWriter other(output, {.environment_name = "walk",
                                              .environment_config = "walk: true",
                                              .policy = "another",
                                              .policy_hash = ""});
  for (const ExistingFile existing : {ExistingFile::overwrite, ExistingFile::append})
    EXPECT_THAT(message_of<RunError>([&] { collect_walks({.existing = existing}, output); }),
                HasSubstr("walks.hdf5"));
  EXPECT_EQ(data::TrajectoryFile::open(output)->num_episodes(), 1);
}

TEST(Collect, SaysWhereTheFileComesFrom) {
  const apo::testing::TempDir dir;
  collect_walks({.take_overs = 0, .episodes = 1}, dir / "walks.hdf5");
  std::string all;
  for (const auto& [name, value] : data::TrajectoryFile::open(dir / "walks.hdf5")->attributes())
    all += name + "=" + value + "\n";
  FunctionPolicy policy(hesitant);
  EXPECT_THAT(all, HasSubstr("walk"));
  EXPECT_THAT(all, HasSubstr(models::parameter_hash(policy)));
}

TEST(Collect, MayLeaveThePolicysWishesOut) {
  const apo::testing::TempDir dir;
  collect_walks({.take_overs = 0, .episodes = 2, .record_policy_action = false}, dir / "walks.hdf5");
  const auto record = data::TrajectoryFile::open(dir / "walks.hdf5")->episode(1);
  for (const auto& wish : record.policy_actions) EXPECT_FALSE(wish.has_value());
}

TEST(Collect, StopsAtTheTakeOversOrTheEpisodes) {
  const apo::testing::TempDir dir;
  CollectionSummary summary = collect_walks({.take_overs = 3}, dir / "a.hdf5");
  EXPECT_EQ(summary.take_overs, 3);  // seeds 1, 3, and 4 that starts at -1
  EXPECT_EQ(summary.episodes, 5);
  summary = collect_walks({.take_overs = 30, .episodes = 4}, dir / "b.hdf5");
  EXPECT_EQ(summary.take_overs, 2);
  EXPECT_EQ(summary.episodes, 4);
}

TEST(Collect, EpisodesDependOnTheSeedAlone) {
  const apo::testing::TempDir dir;
  collect_walks({.take_overs = 0, .episodes = 4, .seed = 3}, dir / "a.hdf5");
  collect_walks({.take_overs = 0, .episodes = 2, .seed = 5}, dir / "b.hdf5");
  const auto a = data::TrajectoryFile::open(dir / "a.hdf5"), b = data::TrajectoryFile::open(dir / "b.hdf5");
  for (int64_t i = 0; i < 2; ++i) EXPECT_EQ(a->episode(i + 2).actions, b->episode(i).actions);
  EXPECT_NE(a->episode(0).actions, b->episode(0).actions);
}

// The human strides 0.25 and needs 20 steps from -1 to 4.
struct SlowHumansWalk : Walk {
  std::optional<Action> expert() override { return Action{0.25f, 0}; }
};

TEST(Collect, AHumanGetsMoreTime) {
  const apo::testing::TempDir dir;
  // the policy alone would have 12 steps
  SlowHumansWalk slow;
  FunctionPolicy policy(hesitant);
  const auto human = make_scripted_human(kQuickHuman);
  CollectionSummary summary =
      collect(slow, policy, *human, {.take_overs = 1, .episodes = 9, .seed = 1}, dir / "a.hdf5");
  EXPECT_EQ(summary.corrected, 1);
  EXPECT_EQ(summary.steps.at("intervention"), 20);
  summary = collect(slow, policy, *human,
                    {.take_overs = 1, .episodes = 9, .max_steps_with_human = 15, .seed = 1}, dir / "b.hdf5");
  EXPECT_EQ(summary.outcomes, (std::map<std::string, int64_t>{{"timeout", 1}}));
  EXPECT_EQ(summary.lost, 1);
  EXPECT_EQ(summary.steps.at("intervention"), 13);
}

// A human whose time is up before he arrives is imitated all the same, which somebody should know.
TEST(Collect, CorrectionsInVainAreWarnedOf) {
  const apo::testing::TempDir dir;
  SlowHumansWalk slow;
  FunctionPolicy policy(hesitant);
  int64_t number = 0;
  const auto said = [&](CollectOptions options) {
    options.take_overs = 0;
    ::testing::internal::CaptureStderr();
    collect(slow, policy, *make_scripted_human(kQuickHuman), options,
            dir / (std::to_string(number++) + ".hdf5"));
    return ::testing::internal::GetCapturedStderr();
  };
  // odd seeds need him, and some even ones: 12 of the first 20, fewer than 10 of the first 12
  EXPECT_THAT(said({.episodes = 20, .max_steps_with_human = 15}),
              HasSubstr("12 of 12 corrected episodes failed all the same"));
  EXPECT_THAT(said({.episodes = 20, .max_steps_with_human = 30}), Not(HasSubstr("all the same")));
  EXPECT_THAT(said({.episodes = 12, .max_steps_with_human = 15}), Not(HasSubstr("all the same")));
  EXPECT_THAT(said({.episodes = 20, .max_steps_with_human = 15, .drop_failed = true}),
              Not(HasSubstr("all the same")));
}

TEST(Collect, FailuresAreKeptWithTheirOutcomeOrDropped) {
  const apo::testing::TempDir dir;
  Walk walk;
  FunctionPolicy policy(hesitant);
  CollectionSummary summary =
      collect(walk, policy, *make_no_human(), {.take_overs = 0, .episodes = 4}, dir / "kept.hdf5");
  EXPECT_EQ(summary.recorded, 4);
  EXPECT_EQ(summary.lost, 2);
  EXPECT_EQ(data::TrajectoryFile::open(dir / "kept.hdf5")->episode(1).outcome, "fell");
  EXPECT_EQ(data::TrajectoryFile::open(dir / "kept.hdf5")->episode(1).success, std::optional<bool>(false));
  summary = collect(walk, policy, *make_no_human(), {.take_overs = 0, .episodes = 4, .drop_failed = true},
                    dir / "dropped.hdf5");
  EXPECT_EQ(summary.recorded, 2);
  EXPECT_EQ(summary.steps.at("policy"), 11);  // seeds 0 and 2: 4 + 7
  EXPECT_EQ(data::TrajectoryFile::open(dir / "dropped.hdf5")->num_episodes(), 2);
}

TEST(Collect, CountsHandBacks) {
  const apo::testing::TempDir dir;
  const CollectionSummary summary =
      collect_walks({.take_overs = 0, .episodes = 1, .seed = 1}, dir / "a.hdf5",
                    {.reaction_steps = 1, .calm_steps = 0, .hand_back = HandBack::when_safe, .min_steps = 1});
  // He acts at -1 and hands back at 0; the policy goes to -0.5 (no concern) and -1, where he acts again: in
  // steps 2, 5, ..., 68 of 70, handing back in 3, 6, ..., 69.
  EXPECT_EQ(summary.take_overs, 23);
  EXPECT_EQ(summary.hand_backs, 23);
  EXPECT_EQ(summary.outcomes.count("timeout"), 1u);
}

TEST(Collect, RefusesAppendsOrOverwrites) {
  const apo::testing::TempDir dir;
  const fs::path output = dir / "walks.hdf5";
  collect_walks({.take_overs = 0, .episodes = 3}, output);
  EXPECT_THAT(message_of<ConfigError>([&] { collect_walks({}, output); }),
              HasSubstr("walks.hdf5: exists already"));

  CollectionSummary summary =
      collect_walks({.take_overs = 0, .episodes = 5, .existing = ExistingFile::append}, output);
  EXPECT_EQ(summary.episodes, 5);
  collect_walks({.take_overs = 0, .episodes = 5}, dir / "at-once.hdf5");
  const auto twice = data::TrajectoryFile::open(output),
             once = data::TrajectoryFile::open(dir / "at-once.hdf5");
  ASSERT_EQ(twice->num_episodes(), 5);
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(twice->episode(i).actions, once->episode(i).actions) << i;

  summary = collect_walks({.take_overs = 0, .episodes = 2, .existing = ExistingFile::overwrite}, output);
  EXPECT_EQ(summary.episodes, 2);
  EXPECT_EQ(data::TrajectoryFile::open(output)->num_episodes(), 2);
}

// The episode that was cut off is played again from its own seed, not kept as half an episode.
TEST(Collect, AppendingAfterAKillEqualsNeverHavingStopped) {
  const apo::testing::TempDir dir;
  const fs::path output = dir / "walks.hdf5";
  collect_walks({.take_overs = 0, .episodes = 3}, output);
  const pid_t child = ::fork();
  if (child == 0) {
    Step step;
    {
      const auto file = data::TrajectoryFile::open(output);
      step.observation = file->observation(0, 0);
      step.action = file->episode(0).actions[0];
    }
    data::TrajectoryWriter writer(
        output, {.environment_name = "walk", .environment_config = "", .policy = "", .policy_hash = ""},
        /*flush_every=*/1);
    writer.begin_episode("walk");
    for (int t = 0; t < 3; ++t) writer.append(step);
    ::_exit(7);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(WEXITSTATUS(status), 7);
  ASSERT_EQ(data::TrajectoryFile::open(output)->num_episodes(), 4);
  const CollectionSummary summary =
      collect_walks({.take_overs = 0, .episodes = 5, .existing = ExistingFile::append}, output);
  EXPECT_EQ(summary.episodes, 5);
  collect_walks({.take_overs = 0, .episodes = 5}, dir / "at-once.hdf5");
  const auto killed = data::TrajectoryFile::open(output),
             whole = data::TrajectoryFile::open(dir / "at-once.hdf5");
  ASSERT_EQ(killed->num_episodes(), 5);
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(killed->episode(i).actions, whole->episode(i).actions) << i;
}

TEST(Collect, AppendingToWhatIsDoneDoesNothing) {
  const apo::testing::TempDir dir;
  const fs::path output = dir / "walks.hdf5";
  collect_walks({.take_overs = 2}, output);
  const CollectionSummary again = collect_walks({.take_overs = 2, .existing = ExistingFile::append}, output);
  EXPECT_EQ(again.take_overs, 2);
  EXPECT_EQ(again.episodes, 4);
}

TEST(Collect, AppendingWithoutTheSummaryCountsTheFile) {
  const apo::testing::TempDir dir;
  const fs::path output = dir / "walks.hdf5";
  const CollectionSummary first = collect_walks({.take_overs = 2}, output);
  fs::remove(output.string() + ".json");
  const CollectionSummary again = collect_walks({.take_overs = 2, .existing = ExistingFile::append}, output);
  EXPECT_EQ(again.episodes, first.episodes);
  EXPECT_EQ(again.take_overs, first.take_overs);
  EXPECT_EQ(again.corrected, first.corrected);
  EXPECT_EQ(again.steps, first.steps);
  EXPECT_EQ(again.outcomes, first.outcomes);
  EXPECT_EQ(data::TrajectoryFile::open(output)->num_episodes(), first.recorded);
}

TEST(Collect, InterruptionSavesWhatIsFinished) {
  const apo::testing::TempDir dir;
  const fs::path output = dir / "walks.hdf5";
  Walk walk;
  int64_t asked = 0;
  FunctionPolicy policy([&](const Observation& observation) {
    if (++asked == 14) set_interrupted(true);  // in the third episode: 4 + 7 steps, then 3
    return hesitant(observation);
  });
  const auto human = make_scripted_human(kQuickHuman);
  const std::string message = message_of<Interrupted>(
      [&] { collect(walk, policy, *human, {.take_overs = 0, .episodes = 9}, output); });
  set_interrupted(false);
  EXPECT_THAT(message, HasSubstr("holds 2 episodes with 1 take-overs; the one that ran is not among them"));
  EXPECT_EQ(data::TrajectoryFile::open(output)->num_episodes(), 2);

  collect_walks({.take_overs = 0, .episodes = 4, .existing = ExistingFile::append}, output);
  collect_walks({.take_overs = 0, .episodes = 4}, dir / "straight.hdf5");
  const auto stopped = data::TrajectoryFile::open(output),
             straight = data::TrajectoryFile::open(dir / "straight.hdf5");
  ASSERT_EQ(stopped->num_episodes(), 4);
  for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(stopped->episode(i).actions, straight->episode(i).actions) << i;
}

TEST(Collect, WhatRecordedNothingLeavesNoFile) {
  const apo::testing::TempDir dir;
  const fs::path output = dir / "walks.hdf5";
  Walk walk;
  FunctionPolicy policy([&](const Observation&) -> Action { throw RunError("no policy today"); });
  const auto human = make_scripted_human(kQuickHuman);
  EXPECT_THROW(collect(walk, policy, *human, {.episodes = 1}, output), RunError);
  EXPECT_TRUE(fs::is_empty(dir.path()));

  collect_walks({.take_overs = 0, .episodes = 1}, output);  // but one that was there stays
  const CollectOptions more{.take_overs = 0, .episodes = 2, .existing = ExistingFile::append};
  EXPECT_THROW(collect(walk, policy, *human, more, output), RunError);
  EXPECT_EQ(data::TrajectoryFile::open(output)->num_episodes(), 1);
}

TEST(Collect, AKillLeavesWhatWasRecorded) {
  const apo::testing::TempDir dir;
  const fs::path output = dir / "walks.hdf5";
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Walk walk;
    int64_t asked = 0;
    FunctionPolicy policy([&](const Observation& observation) {
      if (++asked == 14) ::raise(SIGKILL);
      return hesitant(observation);
    });
    collect(walk, policy, *make_scripted_human(kQuickHuman), {.take_overs = 0, .episodes = 9}, output);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  {
    const auto file = data::TrajectoryFile::open(output);
    ASSERT_GE(file->num_episodes(), 2);
    EXPECT_EQ(file->episode(0).num_steps(), 4);
    EXPECT_EQ(file->episode(1).num_steps(), 7);
  }
  const CollectionSummary summary =
      collect_walks({.take_overs = 0, .episodes = 5, .existing = ExistingFile::append}, output);
  EXPECT_EQ(summary.episodes, 5);
}

TEST(Collect, NamesEpisodeAndStepOfABadAction) {
  const apo::testing::TempDir dir;
  Walk walk;
  FunctionPolicy infinite([](const Observation& observation) {
    const bool second = observation.state.at("seed")[0] == 1 && observation.state.at("position")[0] > 1.5f;
    return Action{second ? std::numeric_limits<float>::infinity() : 1.0f, 0};
  });
  std::string message = message_of<RunError>(
      [&] { collect(walk, infinite, *make_no_human(), {.take_overs = 0, .episodes = 3}, dir / "a.hdf5"); });
  EXPECT_THAT(message, HasSubstr("episode 1, step 2"));
  EXPECT_THAT(message, HasSubstr("policy, found dimension 0 = inf"));
  EXPECT_EQ(data::TrajectoryFile::open(dir / "a.hdf5")->num_episodes(),
            1);  // the good one stays, the bad one goes

  FunctionPolicy large([](const Observation&) { return Action{1, 0, 0}; }, 3);
  message = message_of<RunError>([&] { collect(walk, large, *make_no_human(), {}, dir / "b.hdf5"); });
  EXPECT_THAT(message, HasSubstr("expected an action of 2 numbers from the policy, found 3"));

  struct Clumsy : InterventionSource {
    std::optional<Intervention> decide(const Moment&) override { return Intervention{{1, 2, 3}, "because"}; }
  } clumsy;
  FunctionPolicy good(hesitant);
  message = message_of<RunError>([&] { collect(walk, good, clumsy, {}, dir / "c.hdf5"); });
  EXPECT_THAT(message, HasSubstr("2 numbers from the human, found 3"));
}

TEST(Collect, BadOutputs) {
  const apo::testing::TempDir dir;
  write_file_atomic(dir / "file", "no HDF5");
  EXPECT_THAT(message_of<RunError>([&] { collect_walks({}, dir / "file" / "walks.hdf5"); }),
              HasSubstr("cannot create"));
  EXPECT_THAT(message_of<ConfigError>([&] { collect_walks({.existing = ExistingFile::append}, dir.path()); }),
              HasSubstr("expected a file"));
  EXPECT_THAT(message_of<ConfigError>([&] { collect_walks({}, ""); }), HasSubstr("path of an HDF5 file"));
  EXPECT_THAT(message_of<DataError>([&] { collect_walks({.existing = ExistingFile::append}, dir / "file"); }),
              HasSubstr("file"));
  EXPECT_EQ(read_file(dir / "file"), "no HDF5");  // what is not ours stays as it is
}

TEST(Collect, MakesTheDirectoriesOfItsOutput) {
  const apo::testing::TempDir dir;
  collect_walks({.take_overs = 0, .episodes = 1}, dir / "a" / "b" / "walks.hdf5");
  EXPECT_TRUE(fs::exists(dir / "a" / "b" / "walks.hdf5"));
}

TEST(Collect, DrawsCorrections) {
  const apo::testing::TempDir dir;
  collect_walks({.take_overs = 3, .animations = 2, .animation_size = 32}, dir / "walks.hdf5");
  EXPECT_FALSE(fs::exists(dir / "walks-correction-0.webp"));  // no correction in it
  EXPECT_EQ(read_file(dir / "walks-correction-1.webp").substr(0, 4), "RIFF");
  EXPECT_TRUE(fs::exists(dir / "walks-correction-3.webp"));
  EXPECT_FALSE(fs::exists(dir / "walks-correction-4.webp"));  // two are enough
}

TEST(Summary, ReadsBackAndReportsWhatIsMissing) {
  const apo::testing::TempDir dir;
  const CollectionSummary summary = collect_walks({.take_overs = 2}, dir / "walks.hdf5");
  EXPECT_EQ(read_file(dir / "walks.hdf5.json"), summary.json());
  EXPECT_EQ(CollectionSummary::from_json(summary.json(), "").json(), summary.json());
  EXPECT_THAT(summary.text(), HasSubstr("take-overs  2 (off course 2)"));
  EXPECT_THAT(message_of<DataError>([] { CollectionSummary::from_json("{", "a.json"); }),
              HasSubstr("a.json"));
  EXPECT_THAT(message_of<DataError>([] { CollectionSummary::from_json("{}", "a.json"); }),
              HasSubstr("episodes"));
  EXPECT_THAT(
      message_of<DataError>([] { CollectionSummary::from_json("{\"episodes\": \"many\"}", "a.json"); }),
      HasSubstr("many"));
}

TEST(Demonstrations, RecordCleanActionsWhileNoiseIsExecuted) {
  const apo::testing::TempDir dir;
  Walk walk;
  const CollectionSummary summary = collect_demonstrations(
      walk, {.episodes = 12, .action_noise = 0.3, .noise_dimensions = 1}, dir / "demos.hdf5");
  EXPECT_EQ(summary.recorded, 12);
  const auto file = data::TrajectoryFile::open(dir / "demos.hdf5");
  ASSERT_EQ(file->num_episodes(), 12);
  double squares = 0;
  int64_t steps = 0;
  for (int64_t e = 0; e < 12; ++e) {
    const auto record = file->episode(e);
    EXPECT_EQ(record.success, std::optional<bool>(true));
    for (int64_t t = 0; t < record.num_steps(); ++t) {
      EXPECT_EQ(record.sources[t], ActionSource::expert);
      EXPECT_EQ(record.actions[t], (Action{1.0f, 0.25f}));
      if (t == 0) continue;
      const double moved = file->observation(e, t).state.at("position")[0] -
                           file->observation(e, t - 1).state.at("position")[0];
      squares += (moved - 1) * (moved - 1);
      ++steps;
    }
  }
  EXPECT_GT(steps, 30);
  EXPECT_NEAR(std::sqrt(squares / steps), 0.3, 0.12);  // 30 and more draws: within 3 standard errors of 0.04
}

TEST(Demonstrations, KeepSuccessesOnlyAndAreTheSameForTheSameSeed) {
  const apo::testing::TempDir dir;
  Walk walk;
  const CollectionSummary summary =
      collect_demonstrations(walk, {.episodes = 6, .max_steps = 4, .action_noise = 0}, dir / "a.hdf5");
  EXPECT_EQ(summary.recorded, 6);
  EXPECT_EQ(summary.alone, 6);
  EXPECT_EQ(summary.lost, 4);  // of seeds 0..9: 2, 4, 5 and 8 are farther than 4 strides
  EXPECT_EQ(summary.episodes, 10);
  EXPECT_EQ(summary.outcomes, (std::map<std::string, int64_t>{{"success", 6}, {"timeout", 4}}));

  collect_demonstrations(walk, {.episodes = 3, .seed = 9, .action_noise = 0.2}, dir / "b.hdf5");
  collect_demonstrations(walk, {.episodes = 3, .seed = 9, .action_noise = 0.2}, dir / "c.hdf5");
  const auto b = data::TrajectoryFile::open(dir / "b.hdf5"), c = data::TrajectoryFile::open(dir / "c.hdf5");
  for (int64_t i = 0; i < 3; ++i) {
    ASSERT_EQ(b->episode(i).num_steps(), c->episode(i).num_steps());
    const int64_t last = b->episode(i).num_steps() - 1;
    EXPECT_EQ(b->observation(i, last).state.at("position"), c->observation(i, last).state.at("position"));
  }
}

TEST(Demonstrations, NeedAnExpertThatSucceeds) {
  const apo::testing::TempDir dir;
  Walk walk;
  walk.has_expert = false;
  EXPECT_THAT(message_of<RunError>([&] { collect_demonstrations(walk, {.episodes = 1}, dir / "a.hdf5"); }),
              HasSubstr("no expert"));
  walk.has_expert = true;
  EXPECT_THAT(message_of<RunError>(
                  [&] { collect_demonstrations(walk, {.episodes = 1, .max_steps = 1}, dir / "b.hdf5"); }),
              HasSubstr("only 0 of 50"));
}

TEST(Demonstrations, AppendGoesOnWithTheNextSeed) {
  const apo::testing::TempDir dir;
  Walk walk;
  collect_demonstrations(walk, {.episodes = 2}, dir / "a.hdf5");
  const CollectionSummary more =
      collect_demonstrations(walk, {.episodes = 4, .existing = ExistingFile::append}, dir / "a.hdf5");
  EXPECT_EQ(more.recorded, 4);
  EXPECT_THAT(message_of<ConfigError>([&] { collect_demonstrations(walk, {.episodes = 9}, dir / "a.hdf5"); }),
              HasSubstr("exists already"));
}

TEST(CollectOptions, ReadFromYaml) {
  const auto options = config::load<CollectOptions>(
      config::Document::from_text("take_overs: 5\nexisting: append\ndrop_failed: true\nseed: 9\n"));
  EXPECT_EQ(options.take_overs, 5);
  EXPECT_EQ(options.existing, ExistingFile::append);
  EXPECT_TRUE(options.drop_failed);
  EXPECT_EQ(options.seed, 9);
  EXPECT_THAT(message_of<ConfigError>(
                  [] { config::load<CollectOptions>(config::Document::from_text("take_over: 5\n")); }),
              HasSubstr("take_overs"));
  EXPECT_THAT(
      message_of<ConfigError>(
          [] { config::load<DemonstrationOptions>(config::Document::from_text("habit: 1\n")); }),
      HasSubstr(
          "habit: expected no such key where environment.tabletop.demonstration_habit says it, found '1'"));
}

}  // namespace
}  // namespace apo::deploy
