// Our own layout, written and read back; appending; what a kill at any moment leaves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <torch/types.h>
#include <unistd.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "apo/base/files.h"
#include "apo/base/random.h"
#include "apo/data/labels.h"
#include "apo/data/recovery.h"
#include "apo/data/trajectory.h"
#include "data/journal.h"
#include "data/recordings.h"
#include "data/seal.h"
#include "support/message_of.h"
#include "support/temp_dir.h"

namespace apo::data {
namespace {

namespace fs = std::filesystem;
using apo::testing::message_of;
using apo::testing::TempDir;
using ::testing::HasSubstr;

void expect_step(const TrajectoryFile& file, int64_t episode, int64_t timestep, int64_t id) {
  const Step expected = numbered_step(id);
  const Observation found = file.observation(episode, timestep);
  ASSERT_EQ(found.images.size(), 1u);
  EXPECT_TRUE(at::equal(found.images.at("front"), expected.observation.images.at("front"))) << "step " << id;
  EXPECT_EQ(found.state, expected.observation.state);
  EXPECT_EQ(file.episode(episode).actions.at(static_cast<size_t>(timestep)), expected.action);
}

TEST(TrajectoryWriter, ReadsBackWhatWasWritten) {
  TempDir dir;
  {
    TrajectoryWriter writer(dir / "a.hdf5", test_info());
    writer.begin_episode("lift the cube");
    writer.append(numbered_step(0, ActionSource::policy));
    Step corrected = numbered_step(1, ActionSource::intervention);
    corrected.policy_action = Action{-0.5f, 0.25f, -1.0f};
    corrected.desirable = true;
    corrected.decision_offset = 0;
    writer.append(corrected);
    Step last = numbered_step(2, ActionSource::expert);
    last.desirable = false;
    last.done = true;
    writer.append(last);
    writer.end_episode(true, "success");
    writer.begin_episode("push it away");
    writer.append(numbered_step(3));
    writer.end_episode(std::nullopt, "");
    EXPECT_EQ(writer.num_episodes(), 2);
  }
  const auto file = TrajectoryFile::open(dir / "a.hdf5");
  EXPECT_EQ(file->format(), TrajectoryFormat::apo);
  ASSERT_EQ(file->num_episodes(), 2);
  const EpisodeRecord first = file->episode(0);
  EXPECT_EQ(first.name, "demo_0");
  EXPECT_EQ(first.instruction, "lift the cube");
  EXPECT_EQ(first.success, std::optional<bool>(true));
  EXPECT_EQ(first.outcome, "success");
  EXPECT_EQ(first.sources,
            (std::vector{ActionSource::policy, ActionSource::intervention, ActionSource::expert}));
  EXPECT_EQ(first.recorded, (std::vector<bool>{true, true, true}));
  EXPECT_EQ(first.desirable, (std::vector<std::optional<bool>>{std::nullopt, true, false}));
  EXPECT_EQ(first.policy_actions,
            (std::vector<std::optional<Action>>{std::nullopt, Action{-0.5f, 0.25f, -1.0f}, std::nullopt}));
  EXPECT_EQ(first.decision_offsets, (std::vector<std::optional<int64_t>>{std::nullopt, 0, std::nullopt}));
  for (int64_t t = 0; t < 3; ++t) expect_step(*file, 0, t, t);
  EXPECT_EQ(file->observation(0, 1).instruction, "lift the cube");
  EXPECT_EQ(file->state(0, 1).state.at("joints"), (std::vector<float>{1.0f, 0.25f}));
  EXPECT_TRUE(file->state(0, 1).images.empty());
  const EpisodeRecord second = file->episode(1);
  EXPECT_EQ(second.instruction, "push it away");
  EXPECT_EQ(second.success, std::nullopt);
  expect_step(*file, 1, 0, 3);
  EXPECT_FALSE(fs::exists(journal_path(dir / "a.hdf5")));
}

// A chunk of two actions, of which the second is another step's answer; from the journal as from the file.
TEST(TrajectoryWriter, KeepsWhenThePolicyWasAsked) {
  TempDir dir;
  const std::vector<std::optional<int64_t>> offsets{0, 1, 0, std::nullopt};
  {
    TrajectoryWriter writer(dir / "a.hdf5", test_info(), 1);
    writer.begin_episode("lift the cube");
    for (size_t t = 0; t < offsets.size(); ++t) {
      Step step = numbered_step(static_cast<int64_t>(t), ActionSource::policy);
      step.decision_offset = offsets[t];
      writer.append(step);
    }
    EXPECT_EQ(TrajectoryFile::open(dir / "a.hdf5")->episode(0).decision_offsets, offsets);
    writer.end_episode(true, "success");
  }
  EXPECT_EQ(TrajectoryFile::open(dir / "a.hdf5")->episode(0).decision_offsets, offsets);
  const auto complaint = [&](std::vector<int64_t> wrong) {
    {
      hdf5::Group demo = hdf5::Group::open_for_writing(dir / "a.hdf5").group("data").group("demo_0");
      demo.remove("decision_offset");
      demo.write("decision_offset", wrong, {std::ssize(wrong)});
      seal_episode(demo);
    }
    try {
      TrajectoryFile::open(dir / "a.hdf5")->episode(0);
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(complaint({-2, 0, 0, 0}), HasSubstr("decision_offset row 0: expected how many steps before "
                                                  "this one the policy was asked, or -1, found -2"));
  EXPECT_THAT(complaint({0, 1}), HasSubstr("decision_offset"));
  EXPECT_EQ(complaint({3, -1, 0, 5}), "");  // begun within a chunk, and steps that were dropped
}

TEST(TrajectoryWriter, WritesWhatRobomimicReads) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"pphp", "pp"});
  const auto root = hdf5::Group::open(dir / "a.hdf5");
  const auto data = root.group("data");
  EXPECT_EQ(data.integer_attribute("total"), 6);
  EXPECT_EQ(data.integer_attribute("apo_schema_version"), 2);
  const auto arguments = nlohmann::json::parse(data.text_attribute("env_args").value());
  EXPECT_EQ(arguments["env_name"], "tabletop");
  EXPECT_EQ(arguments["env_kwargs"]["config"], "task: lift\n");
  EXPECT_EQ(data.text_attribute("policy"), "policies/base");
  EXPECT_EQ(data.text_attribute("policy_hash"), "0123456789abcdef");
  const auto demo = data.group("demo_0");
  EXPECT_EQ(demo.integer_attribute("num_samples"), 4);
  EXPECT_EQ(demo.array("actions").describe(), "float32 [4, 3]");
  EXPECT_EQ(demo.array("action_source").describe(), "int8 [4]");
  EXPECT_EQ(demo.array("rewards").floats(), (std::vector<float>{0, 0.5f, 1, 1.5f}));
  EXPECT_EQ(demo.array("dones").describe(), "int8 [4]");
  EXPECT_EQ(demo.group("obs").array("front_image").describe(), "uint8 [4, 6, 5, 3]");
  EXPECT_EQ(demo.group("obs").array("joints").describe(), "float32 [4, 2]");
  EXPECT_FALSE(demo.has("desirable"));      // nothing was labelled
  EXPECT_FALSE(demo.has("policy_action"));  // nothing was known
  EXPECT_FALSE(demo.integer_attribute("success").has_value());
}

TEST(TrajectoryWriter, WritesWhatASimulatorPlaysBack) {
  TempDir dir;
  TrajectoryInfo info = test_info();
  info.env_args = R"({"env_name": "Lift", "type": 1, "env_kwargs": {}})";
  for (const size_t length : {40u, 300'000u}) {  // beyond what HDF5 keeps of an attribute in old groups
    const std::string path = dir / concat(length, ".hdf5");
    std::string model(length, 'x');
    model += "</mujoco>";
    {
      TrajectoryWriter writer(path, info);
      writer.begin_episode("lift the cube", model);
      for (int t = 0; t < 3; ++t) writer.append(numbered_step(t), std::vector<double>{0.5 * t, -2});
      writer.end_episode(true, "success");
      writer.begin_episode("lift the cube");
      writer.append(numbered_step(9));
      writer.end_episode(true, "success");
    }
    const auto data = hdf5::Group::open(path).group("data");
    EXPECT_EQ(data.text_attribute("env_args"), info.env_args);
    const auto demo = data.group("demo_0");
    EXPECT_EQ(demo.text_attribute("model_file"), model);
    EXPECT_EQ(demo.array("states").describe(), "float64 [3, 2]");
    EXPECT_EQ(demo.array("states").floats(), (std::vector<float>{0, -2, 0.5f, -2, 1, -2}));
    EXPECT_FALSE(data.group("demo_1").has("states"));
    EXPECT_FALSE(data.group("demo_1").text_attribute("model_file").has_value());
    const auto file = TrajectoryFile::open(path);
    ASSERT_EQ(file->num_episodes(), 2);
    expect_step(*file, 0, 2, 2);
    EXPECT_EQ(file->episode(0).states, file->episode(1).states) << "no state of the robot";
  }
}

TEST(TrajectoryWriter, ASimulatorsStateKeepsItsSizeAlsoInAnUnfinishedEpisode) {
  TempDir dir;
  {
    TrajectoryWriter writer(dir / "a.hdf5", test_info());
    writer.begin_episode("lift the cube", "<mujoco/>");
    writer.append(numbered_step(0), std::vector<double>{1, 2});
    EXPECT_THAT(message_of<DataError>([&] { writer.append(numbered_step(1), std::vector<double>{1}); }),
                HasSubstr("step 1: expected a simulator state of 2 numbers as in the episode's first step, "
                          "found 1"));
    EXPECT_THAT(message_of<DataError>([&] { writer.append(numbered_step(1)); }), HasSubstr("found 0"));
    const std::vector<double> broken = {1, std::numeric_limits<double>::infinity()};
    EXPECT_THAT(message_of<DataError>([&] { writer.append(numbered_step(1), broken); }),
                HasSubstr("expected a finite simulator state, found inf"));
    writer.append(numbered_step(1), std::vector<double>{3, 4});
    EXPECT_THAT(message_of<DataError>([&] {
                  TrajectoryWriter other(dir / "b.hdf5", test_info());
                  other.begin_episode("lift", std::string("<\0>", 3));
                }),
                HasSubstr("expected the simulator's model as UTF-8 text without NUL"));
  }
  const auto demo = hdf5::Group::open(dir / "a.hdf5").group("data").group("demo_0");
  EXPECT_EQ(demo.text_attribute("model_file"), "<mujoco/>");
  EXPECT_EQ(demo.array("states").floats(), (std::vector<float>{1, 2, 3, 4}));
}

TEST(TrajectoryWriter, AppendsToItsOwnFile) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"pp"});
  {
    TrajectoryWriter writer(dir / "a.hdf5", test_info());
    EXPECT_EQ(writer.num_episodes(), 1);
    writer.begin_episode("again");
    writer.append(numbered_step(9));
    writer.end_episode(false, "timeout");
    writer.begin_episode("nothing worth keeping");
    writer.append(numbered_step(10));
    writer.discard_episode();
    EXPECT_EQ(writer.num_episodes(), 2);
  }
  const auto file = TrajectoryFile::open(dir / "a.hdf5");
  ASSERT_EQ(file->num_episodes(), 2);
  EXPECT_EQ(file->episode(1).name, "demo_1");
  EXPECT_EQ(file->episode(1).success, std::optional<bool>(false));
  expect_step(*file, 1, 0, 9);
}

TEST(TrajectoryWriter, KeepsTheUnfinishedEpisodeOfAnException) {
  TempDir dir;
  {
    TrajectoryWriter writer(dir / "a.hdf5", test_info());
    writer.begin_episode("lift the cube");
    writer.append(numbered_step(0));
    writer.append(numbered_step(1));
  }
  const auto file = TrajectoryFile::open(dir / "a.hdf5");
  ASSERT_EQ(file->num_episodes(), 1);
  EXPECT_EQ(file->episode(0).num_steps(), 2);
  EXPECT_EQ(file->episode(0).outcome, "interrupted");
  EXPECT_EQ(file->episode(0).success, std::optional<bool>(false));
  // nobody knows whether they were good
  for (const LabelledStep& step : label_episode(file->episode(0), {false, {}, {}}))
    EXPECT_EQ(step.reason, "failed episode");
}

TEST(TrajectoryWriter, ReadersSeeAnOpenRecording) {
  TempDir dir;
  TrajectoryWriter writer(dir / "a.hdf5", test_info(), 2);
  EXPECT_EQ(TrajectoryFile::open(dir / "a.hdf5")->num_episodes(), 0);
  writer.begin_episode("lift the cube");
  writer.append(numbered_step(0));
  EXPECT_EQ(TrajectoryFile::open(dir / "a.hdf5")->num_episodes(), 0);  // not flushed yet
  writer.append(numbered_step(1));
  const auto early = TrajectoryFile::open(dir / "a.hdf5");
  ASSERT_EQ(early->num_episodes(), 1);
  EXPECT_EQ(early->episode(0).num_steps(), 2);
  writer.append(numbered_step(2));
  writer.end_episode(true, "success");
  const auto late = TrajectoryFile::open(dir / "a.hdf5");
  ASSERT_EQ(late->num_episodes(), 1);
  EXPECT_EQ(late->episode(0).num_steps(), 3);
  expect_step(*early, 0, 1, 1);  // a reader keeps what it opened
}

TEST(TrajectoryWriter, RefusesWhatDoesNotFit) {
  TempDir dir;
  TrajectoryWriter writer(dir / "a.hdf5", test_info());
  writer.begin_episode("lift the cube");
  writer.append(numbered_step(0));
  Step step = numbered_step(1);
  step.action = {0.1f, 0.2f};
  EXPECT_THAT(
      data_error([&] { writer.append(step); }),
      HasSubstr(
          "/data/demo_0 step 1: expected action [3], camera front 6x5, state joints [2] as in the file's "
          "first step, found action [2], camera front 6x5, state joints [2]"));
  step = numbered_step(1);
  step.action[1] = std::nanf("");
  EXPECT_THAT(data_error([&] { writer.append(step); }), HasSubstr("expected a finite action, found nan"));
  step = numbered_step(1);
  step.observation.images["front"] = at::zeros({6, 5, 3});
  EXPECT_THAT(data_error([&] { writer.append(step); }),
              HasSubstr("camera front: expected a [Y, X, 3] uint8 picture"));
  step = numbered_step(1);
  step.observation.state["a/b"] = {1.0f};
  EXPECT_THAT(data_error([&] { writer.append(step); }), HasSubstr("expected a plain name, found 'a/b'"));
  writer.append(numbered_step(1));  // the writer is still good
  writer.end_episode(true, "success");
  writer.begin_episode("empty");
  EXPECT_THAT(data_error([&] { writer.end_episode(true, ""); }), HasSubstr("an episode without steps"));
}

TEST(TrajectoryWriter, RefusesForeignFilesAndSecondWriters) {
  TempDir dir;
  std::ofstream(dir / "text.hdf5") << "hello";
  EXPECT_THAT(data_error([&] { TrajectoryWriter(dir / "text.hdf5", test_info()); }),
              HasSubstr("expected an HDF5 file"));
  EXPECT_EQ(read_file(dir / "text.hdf5"), "hello");
  EXPECT_FALSE(fs::exists(journal_path(dir / "text.hdf5")));
  hdf5::Group::create(dir / "other.hdf5").create_group("data");
  EXPECT_THAT(data_error([&] { TrajectoryWriter(dir / "other.hdf5", test_info()); }),
              HasSubstr("expected a trajectory file of ours to append to"));
  write_recording(dir / "a.hdf5", {"pp"});
  TrajectoryInfo other = test_info();
  other.environment_name = "kitchen";
  EXPECT_THAT(data_error([&] { TrajectoryWriter(dir / "a.hdf5", other); }),
              HasSubstr("holds episodes of environment 'tabletop', expected 'kitchen'"));
  TrajectoryWriter first(dir / "a.hdf5", test_info());
  EXPECT_THAT(message_of<RunError>([&] { TrajectoryWriter(dir / "a.hdf5", test_info()); }),
              HasSubstr("another process is writing"));
}

// What the child process tells its parent through shared memory, after each of its calls returned.
struct Told {
  volatile int64_t ended;     // episodes whose end_episode returned
  volatile int64_t appended;  // steps of the current episode whose append returned
  volatile int64_t calls;     // of append, in all
  volatile bool ending;       // inside end_episode
};

constexpr int64_t kFlushEvery = 3;
constexpr int64_t kStepsAnEpisode = 7;

// Records until it is killed.
[[noreturn]] void record_forever(const fs::path& path, Told* told) {
  TrajectoryWriter writer(path, test_info(), kFlushEvery);
  for (int64_t episode = writer.num_episodes();; ++episode) {
    writer.begin_episode("lift the cube");
    for (int64_t t = 0; t < kStepsAnEpisode; ++t) {
      writer.append(numbered_step(episode * 100 + t));
      told->appended = t + 1;
      told->calls = told->calls + 1;
    }
    told->ending = true;
    writer.end_episode(true, "success");
    told->ending = false;
    told->appended = 0;
    told->ended = episode + 1;
  }
}

// Kills a recording child at a random moment, or one while an episode goes into the file, and returns how
// much it had been promised.
Told record_and_kill(const fs::path& path, Told* shared, Random& random, bool while_ending) {
  const auto calls = static_cast<int64_t>(random.below(80));
  const uint64_t spins = random.below(while_ending ? 100000 : 3000000);
  const pid_t child = ::fork();
  if (child == 0) record_forever(path, shared);
  while (shared->calls < calls) ::sched_yield();
  while (while_ending && !shared->ending) ::sched_yield();
  for (volatile uint64_t i = 0; i < spins;) i = i + 1;
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the recording ended by itself";
  return *shared;
}

// Every episode of the file is whole and in order; returns the steps of a last one that was interrupted.
int64_t expect_whole(const TrajectoryFile& file, int64_t& finished) {
  int64_t interrupted = 0;
  finished = 0;
  for (int64_t e = 0; e < file.num_episodes(); ++e) {
    const EpisodeRecord record = file.episode(e);
    EXPECT_EQ(record.name, "demo_" + std::to_string(e));
    if (record.outcome == "interrupted") {
      interrupted = record.num_steps();
    } else {
      EXPECT_EQ(record.num_steps(), kStepsAnEpisode);
      ++finished;
    }
    for (const int64_t t : {int64_t{0}, record.num_steps() - 1}) expect_step(file, e, t, e * 100 + t);
  }
  return interrupted;
}

TEST(TrajectoryWriter, SurvivesAKillAtAnyMoment) {
  auto* shared = static_cast<Told*>(
      ::mmap(nullptr, sizeof(Told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(shared, MAP_FAILED);
  Random random(7, "kills");
  for (int round = 0; round < 24; ++round) {
    TempDir dir;
    const fs::path path = dir / "a.hdf5";
    *shared = {};
    const Told told = record_and_kill(path, shared, random, round % 2 == 1);
    if (!fs::exists(path)) {
      EXPECT_EQ(told.ended, 0);
      continue;
    }
    int64_t finished = 0;
    const auto file = TrajectoryFile::open(path);
    const int64_t steps = expect_whole(*file, finished);
    // the kill may have come after end_episode had done its work but before the child could tell
    EXPECT_GE(finished, told.ended);
    EXPECT_LE(finished, told.ended + 1);
    const int64_t flushed = finished == told.ended ? told.appended / kFlushEvery * kFlushEvery : 0;
    EXPECT_GE(steps, flushed);
    EXPECT_NO_THROW(hdf5::Group::open(path).group("data").names());  // valid for every other program, too
    {
      TrajectoryWriter writer(path, test_info());
      EXPECT_EQ(writer.num_episodes(), file->num_episodes());
    }
    const auto recovered = TrajectoryFile::open(path);
    int64_t finished_again = 0;
    EXPECT_EQ(expect_whole(*recovered, finished_again), steps);
    EXPECT_EQ(finished_again, finished);
    EXPECT_FALSE(fs::exists(journal_path(path)));
  }
  ::munmap(shared, sizeof(Told));
}

TEST(Journal, LeavesOutARecordThatWasCutShort) {
  TempDir dir;
  const fs::path path = dir / "a.journal";
  {
    Journal journal(path);
    journal.begin_episode(0, "lift", "hash");
    journal.append(numbered_step(0));
    journal.append(numbered_step(1));
    journal.end_episode(true, "success");
    journal.flush();
  }
  const std::string bytes = read_file(path);
  size_t previous = 0;
  for (size_t n = 0; n <= bytes.size(); n += n > bytes.size() - 40 ? 1 : 7) {
    std::ofstream(dir / "cut.journal", std::ios::binary) << bytes.substr(0, n);
    const auto episodes = read_journal(dir / "cut.journal");
    const size_t steps = episodes.empty() ? 0 : episodes[0].episode.steps.size();
    EXPECT_GE(steps, previous);
    previous = steps;
    if (episodes.empty() || n == bytes.size()) continue;
    EXPECT_EQ(episodes[0].episode.outcome, "interrupted");
    EXPECT_EQ(episodes[0].episode.success, std::optional<bool>(false));
  }
  EXPECT_EQ(previous, 2u);
  std::string flipped = bytes;
  flipped[bytes.size() / 2] ^= 1;
  std::ofstream(dir / "flipped.journal", std::ios::binary) << flipped;
  EXPECT_LT(read_journal(dir / "flipped.journal").empty()
                ? 0
                : read_journal(dir / "flipped.journal")[0].episode.steps.size(),
            2u);
}

// A recording of "pp" and a journal with one episode that ended, one that did not, and half a record.
void leave_behind(const fs::path& path, bool last_ended) {
  write_recording(path, {"pp"});
  {
    Journal journal(journal_path(path));
    for (int64_t e = 1; e < 3; ++e) {
      journal.begin_episode(e, "lift", "hash");
      for (int64_t t = 0; t < 3; ++t) journal.append(numbered_step(10 * e + t));
      if (e == 1 || last_ended) journal.end_episode(true, "success");
    }
    journal.flush();
  }
  std::ofstream(journal_path(path), std::ios::app | std::ios::binary) << std::string("\2\0\0\0half", 8);
}

TEST(Journal, DropsTheUnfinishedEpisode) {
  TempDir dir;
  const fs::path path = dir / "a.hdf5";
  EXPECT_FALSE(drop_unfinished_episode(path));
  EXPECT_FALSE(fs::exists(journal_path(path)));
  leave_behind(path, false);
  EXPECT_EQ(TrajectoryFile::open(path)->num_episodes(), 3);
  EXPECT_TRUE(drop_unfinished_episode(path));
  EXPECT_EQ(TrajectoryFile::open(path)->num_episodes(), 2);
  EXPECT_FALSE(drop_unfinished_episode(path));
  {
    TrajectoryWriter writer(path, test_info());
    EXPECT_EQ(writer.num_episodes(), 2);
    EXPECT_THAT(message_of<RunError>([&] { drop_unfinished_episode(path); }),
                HasSubstr("another process is writing"));
    writer.begin_episode("lift");
    writer.append(numbered_step(30));
    writer.end_episode(true, "success");
  }
  const auto file = TrajectoryFile::open(path);
  ASSERT_EQ(file->num_episodes(), 3);
  EXPECT_EQ(file->episode(1).outcome, "success");
  expect_step(*file, 1, 2, 12);
  EXPECT_EQ(file->episode(2).name, "demo_2");
  expect_step(*file, 2, 0, 30);
}

TEST(Journal, DropsNothingThatEnded) {
  TempDir dir;
  leave_behind(dir / "a.hdf5", true);
  EXPECT_FALSE(drop_unfinished_episode(dir / "a.hdf5"));
  EXPECT_EQ(TrajectoryFile::open(dir / "a.hdf5")->num_episodes(), 3);
}

TEST(Journal, ACopyHoldsWhatEndedAndLeavesTheRecordingAsItIs) {
  TempDir dir;
  leave_behind(dir / "a.hdf5", false);
  leave_behind(dir / "copy.hdf5", true);  // an earlier one, with a journal of its own
  copy_recording(dir / "a.hdf5", dir / "copy.hdf5");
  EXPECT_EQ(TrajectoryFile::open(dir / "copy.hdf5")->num_episodes(), 2);
  EXPECT_EQ(TrajectoryFile::open(dir / "a.hdf5")->num_episodes(), 3);
  write_recording(dir / "whole.hdf5", {"pp"});
  copy_recording(dir / "whole.hdf5", dir / "copy.hdf5");
  EXPECT_EQ(TrajectoryFile::open(dir / "copy.hdf5")->num_episodes(), 1);
  EXPECT_THAT(message_of<RunError>([&] { copy_recording(dir / "absent.hdf5", dir / "b.hdf5"); }),
              HasSubstr("absent.hdf5: cannot be copied to"));
}

TEST(Journal, StepsCountInTheTotal) {
  TempDir dir;
  leave_behind(dir / "a.hdf5", false);
  EXPECT_THAT(TrajectoryFile::open(dir / "a.hdf5")->attributes(),
              ::testing::Contains(std::pair<std::string, std::string>("total", "8")));  // 2 + 3 + 3
}

TEST(Journal, OfAnotherFileIsRefused) {
  TempDir dir;
  write_recording(dir / "a.hdf5", {"pp"});
  {
    Journal journal(journal_path(dir / "a.hdf5"));
    journal.begin_episode(5, "lift", "hash");
    journal.append(numbered_step(0));
    journal.flush();
  }
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "a.hdf5"); }),
              HasSubstr("goes on at demo_5, expected demo_1 after what a.hdf5 holds"));
  std::ofstream(journal_path(dir / "a.hdf5")) << "something else entirely";
  EXPECT_THAT(data_error([&] { TrajectoryFile::open(dir / "a.hdf5"); }),
              HasSubstr("expected a trajectory journal"));
}

}  // namespace
}  // namespace apo::data
