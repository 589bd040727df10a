// --resume and --overwrite take away only what a run wrote, and nothing is written through a link.
#include "training/run_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "apo/base/error.h"
#include "apo/training/run_files.h"
#include "support/message_of.h"
#include "training/recorded_runs.h"

namespace apo::training {
namespace {

namespace fs = std::filesystem;
using apo::testing::message_of;
using apo::testing::metrics_of;
using apo::testing::RecordedRuns;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

void put(const fs::path& path, const std::string& text = "theirs") {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

// Every file below with what it holds.
std::map<std::string, std::string> contents(const fs::path& directory) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    const std::string name = entry.path().lexically_relative(directory).string();
    if (entry.is_symlink())
      all[name] = "-> " + fs::read_symlink(entry.path()).string();
    else if (entry.is_regular_file() && name != ".lock")
      all[name] = read_file(entry.path());
  }
  return all;
}

TrainingOptions saved_twice(const RecordedRuns& runs, const std::string& name) {
  TrainingOptions options = runs.options(name);
  options.train.checkpoint_every = 3;
  return options;
}

TEST(RunDirectory, AnotherProgramsCheckpointsAreNamedAndStay) {
  const RecordedRuns runs;
  put(runs / "lerobot/checkpoints/005000/pretrained_model/model.safetensors", "ten GPU days");
  put(runs / "lerobot/wandb/log");
  const auto before = contents(runs / "lerobot");
  for (const ExistingRun existing : {ExistingRun::refuse, ExistingRun::resume, ExistingRun::overwrite})
    EXPECT_THAT(message_of<ConfigError>([&] { train(runs.options("lerobot"), existing); }),
                HasSubstr("checkpoints"));
  EXPECT_THAT(message_of<ConfigError>([&] { train(runs.options("lerobot"), ExistingRun::resume); }),
              AllOf(HasSubstr("nothing to resume"), HasSubstr("005000")));
  EXPECT_THAT(message_of<ConfigError>([&] { train(runs.options("lerobot"), ExistingRun::overwrite); }),
              HasSubstr("checkpoints/005000/pretrained_model/model.safetensors"));
  EXPECT_EQ(contents(runs / "lerobot"), before);
}

TEST(RunDirectory, ItsOwnCheckpointsWithoutTheirMarksStay) {
  const RecordedRuns runs;
  train(saved_twice(runs, "run"));
  for (const char* step : {"step-3", "step-6"})
    ASSERT_TRUE(fs::remove(runs / "run/checkpoints" / step / "DONE"));
  const auto before = contents(runs / "run");
  EXPECT_THAT(message_of<ConfigError>([&] { train(saved_twice(runs, "run"), ExistingRun::resume); }),
              AllOf(HasSubstr("step-3, step-6"), HasSubstr("DONE"), HasSubstr("nothing was removed")));
  EXPECT_EQ(contents(runs / "run"), before);
  // asked for by name, they go: the manifest vouches for them
  EXPECT_EQ(train(saved_twice(runs, "run"), ExistingRun::overwrite).steps, 6);
}

// As somebody does who needs room on the disk.
TEST(RunDirectory, ResumingWithoutCheckpointsKeepsWhatWasWritten) {
  const RecordedRuns runs;
  train(saved_twice(runs, "run"));
  fs::remove_all(runs / "run/checkpoints");
  put(runs / "run/notes.txt");
  auto before = contents(runs / "run");
  for (const char* stays : {"apo-manifest.json", "notes.txt"}) before.erase(stays);
  for (const char* number : {"1", "2"}) {
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(train(saved_twice(runs, "run"), ExistingRun::resume).steps, 6);
    const std::string told = ::testing::internal::GetCapturedStderr();
    EXPECT_THAT(told, HasSubstr("the run there has no checkpoint"));
    EXPECT_THAT(told, HasSubstr("lies in " + (runs / "run/before-resume-").string() + number));
    fs::remove_all(runs / "run/checkpoints");
  }
  EXPECT_EQ(contents(runs / "run/before-resume-1"), before);
  EXPECT_EQ(metrics_of(runs / "run/before-resume-2").size(), 6u);
  EXPECT_EQ(metrics_of(runs / "run").size(), 6u);
  put(runs / "run/before-resume-1/notes.txt");
  EXPECT_THAT(message_of<ConfigError>([&] { train(saved_twice(runs, "run"), ExistingRun::overwrite); }),
              HasSubstr("in the way: before-resume-1/notes.txt"));
  fs::remove(runs / "run/before-resume-1/notes.txt");
  EXPECT_EQ(train(saved_twice(runs, "run"), ExistingRun::overwrite).steps, 6);
  EXPECT_FALSE(fs::exists(runs / "run/before-resume-1"));
  EXPECT_EQ(read_file(runs / "run/notes.txt"), "theirs");
}

TEST(RunDirectory, ARunThatHadNoStepJustBegins) {
  const RecordedRuns runs;
  train(saved_twice(runs, "run"));
  for (const char* name : {"checkpoints", "heaviest", "tensorboard"}) fs::remove_all(runs / "run" / name);
  for (const char* name : {"metrics.jsonl", "samples.jsonl", "heaviest_samples.json", "report.html"})
    fs::remove(runs / "run" / name);
  put(runs / "run/metrics.jsonl", "");
  put(runs / "run/cached_reference.safetensors");  // computed before the first step, and computed again
  ASSERT_TRUE(fs::exists(runs / "run/config.yaml") && fs::exists(runs / "run/labels.json"));
  EXPECT_EQ(train(saved_twice(runs, "run"), ExistingRun::resume).steps, 6);
  EXPECT_FALSE(fs::exists(runs / "run/before-resume-1"));
}

TEST(RunDirectory, OverwritingStopsAtFilesOfOthers) {
  const RecordedRuns runs;
  train(saved_twice(runs, "run"));
  for (const char* mine :
       {"checkpoints/best/weights", "checkpoints/step-3/notes.txt", "tensorboard/other-run"}) {
    put(runs / "run" / mine);
    const auto before = contents(runs / "run");
    EXPECT_THAT(message_of<ConfigError>([&] { train(saved_twice(runs, "run"), ExistingRun::overwrite); }),
                AllOf(HasSubstr("in the way: " + std::string(mine)), HasSubstr("nothing was removed")));
    EXPECT_EQ(contents(runs / "run"), before);
    fs::remove(runs / "run" / mine);
  }
  fs::remove(runs / "run/checkpoints/best");
  put(runs / "run/notes.txt");  // beside what a run writes
  EXPECT_EQ(train(saved_twice(runs, "run"), ExistingRun::overwrite).steps, 6);
  EXPECT_EQ(read_file(runs / "run/notes.txt"), "theirs");
  EXPECT_EQ(metrics_of(runs / "run").size(), 6u);
}

TEST(RunDirectory, AnOldCheckpointGoesButForWhatOthersPutThere) {
  const RecordedRuns runs;
  TrainingOptions options = saved_twice(runs, "run");
  options.train.keep = 1;
  TrainHooks hooks;
  options.train.eval_every = 5;
  hooks.evaluate = [&](models::Policy&, int64_t step) {
    if (step == 5) put(runs / "run/checkpoints/step-3/notes.txt");
    return std::map<std::string, double>{};
  };
  train(options, ExistingRun::refuse, hooks);
  EXPECT_EQ(contents(runs / "run/checkpoints/step-3"),
            (std::map<std::string, std::string>{{"notes.txt", "theirs"}}));
  EXPECT_TRUE(fs::exists(runs / "run/checkpoints/step-6/DONE"));
}

// A look at the environment before the first step changes nothing of the run, and stops it before it writes.
TEST(RunDirectory, WhatCannotBeEvaluatedIsToldBeforeTheRunWrites) {
  const RecordedRuns runs;
  TrainHooks hooks;
  hooks.try_evaluation = [](const models::Policy&) { throw ConfigError("no such camera"); };
  EXPECT_EQ(message_of<ConfigError>([&] { train(runs.options("run"), ExistingRun::refuse, hooks); }),
            "no such camera");
  EXPECT_FALSE(fs::exists(runs / "run/config.yaml"));
  hooks.profile_steps = 1000;
  hooks.try_evaluation = nullptr;
  EXPECT_THAT(message_of<ConfigError>([&] { train(runs.options("run"), ExistingRun::refuse, hooks); }),
              HasSubstr("--profile: expected at most "));
  EXPECT_FALSE(fs::exists(runs / "run/config.yaml"));

  hooks.profile_steps = 0;
  int tries = 0;
  hooks.try_evaluation = [&](const models::Policy&) { tries += at::rand({3}).size(0) == 3; };
  train(runs.options("run"), ExistingRun::refuse, hooks);
  train(runs.options("plain"));
  EXPECT_EQ(tries, 1);
  EXPECT_EQ(metrics_of(runs / "run"), metrics_of(runs / "plain"));
}

TEST(RunDirectory, LinksAreNotFollowed) {
  const RecordedRuns runs;
  put(runs / "key", "my private key");
  fs::create_directories(runs / "a");
  fs::create_symlink(runs / "key", runs / "a/.lock");
  EXPECT_THAT(message_of<RunError>([&] { train(runs.options("a")); }),
              HasSubstr(".lock: expected a writable directory: it is a link"));

  fs::create_directories(runs / "b");
  fs::create_symlink(runs / "key", runs / "b/config.yaml.partial");
  EXPECT_THAT(message_of<ConfigError>([&] { train(runs.options("b")); }),
              HasSubstr("in the way: config.yaml.partial"));

  TrainingOptions longer = runs.options("c");
  longer.schedule.type = "constant";
  train(longer);
  longer.train.max_steps = 8;
  const auto spoiled = [&](const std::string& name) {
    put(runs / "outside/kept");
    const bool directory = fs::is_directory(runs / "c" / name);
    fs::rename(runs / "c" / name, runs / "aside");
    fs::create_symlink(runs / (directory ? "outside" : "key"), runs / "c" / name);
    const std::string resumed = message_of<ConfigError>([&] { train(longer, ExistingRun::resume); });
    EXPECT_THAT(resumed, AllOf(HasSubstr(name), HasSubstr("link")));
    EXPECT_THAT(message_of<ConfigError>([&] { train(longer, ExistingRun::overwrite); }),
                AllOf(HasSubstr("in the way: " + name), HasSubstr("links are not followed")));
    fs::remove(runs / "c" / name);
    fs::rename(runs / "aside", runs / "c" / name);
  };
  for (const char* name :
       {"metrics.jsonl", "samples.jsonl", "config.yaml", "labels.json", "tensorboard", "checkpoints"})
    spoiled(name);
  EXPECT_EQ(read_file(runs / "key"), "my private key");
  EXPECT_EQ(contents(runs / "outside"), (std::map<std::string, std::string>{{"kept", "theirs"}}));
  EXPECT_EQ(train(longer, ExistingRun::resume).steps, 8);
  EXPECT_EQ(fs::read_symlink(runs / "c/checkpoints/latest"), "step-8");
}

TEST(RunDirectory, ARunFromBeforeManifestsIsResumedAndNeverDeleted) {
  const RecordedRuns runs;
  TrainingOptions longer = runs.options("run");
  longer.schedule.type = "constant";
  train(longer);
  fs::remove(runs / "run/apo-manifest.json");
  put(runs / "run/checkpoints/step-6.partial/half");  // killed while it saved
  put(runs / "run/checkpoints/step-6/DONE", "");      // the mark of that time
  put(runs / "run/checkpoints/best/weights");
  for (const char* file : {"DONE", "weights"})
    put(runs / "run/checkpoints/step-4" / file);  // another program's
  const auto before = contents(runs / "run");
  longer.train.max_steps = 8;
  for (const ExistingRun existing : {ExistingRun::refuse, ExistingRun::overwrite})
    EXPECT_THAT(message_of<ConfigError>([&] { train(longer, existing); }), HasSubstr("apo-manifest.json"));
  EXPECT_EQ(contents(runs / "run"), before);
  EXPECT_EQ(train(longer, ExistingRun::resume).steps, 8);
  EXPECT_FALSE(fs::exists(runs / "run/checkpoints/step-6.partial"));
  EXPECT_EQ(metrics_of(runs / "run").size(), 8u);
  EXPECT_THAT(
      message_of<ConfigError>([&] { train(longer, ExistingRun::overwrite); }),
      HasSubstr("in the way: checkpoints/best/weights, checkpoints/step-4/DONE, checkpoints/step-4/weights; "
                "apo-manifest.json"));
  for (const char* theirs : {"best", "step-4"}) fs::remove_all(runs / "run/checkpoints" / theirs);
  EXPECT_EQ(train(longer, ExistingRun::overwrite).steps, 8);
}

TEST(RunDirectory, AMovedRunGoesOnWithThePolicyThatMovedWithIt) {
  const RecordedRuns runs;
  train(runs.options("loop/base"));
  const auto refined = [&](const std::string& loop, int64_t steps) {
    TrainingOptions options = runs.options(loop + "/refined");
    options.schedule.type = "constant";
    options.policy.checkpoint = (runs / (loop + "/base/checkpoints/step-6")).string();
    options.reference.mode = models::ReferenceMode::copy;
    options.train.max_steps = steps;
    return options;
  };
  train(refined("loop", 4));
  fs::rename(runs / "loop", runs / "elsewhere");
  EXPECT_EQ(train(refined("elsewhere", 6), ExistingRun::resume).steps, 6);
  train(runs.options("loop/base"));
  train(refined("loop", 6));
  EXPECT_EQ(metrics_of(runs / "elsewhere/refined"), metrics_of(runs / "loop/refined"));
}

// ../base seen from a run stays ../base where both were moved; another policy does not become it.
TEST(RunDirectory, PathsThatMovedTogetherAreTheSame) {
  TrainingOptions before, now;
  before.run.dir = "/a/loop/refined";
  before.policy.checkpoint = "/a/loop/base/checkpoints/step-6";
  before.data.expert = {{.path = "/a/loop/demonstrations.hdf5"}, {.path = "/data/demos.hdf5"}};
  now = before;
  now.run.dir = "/b/loop/refined";
  now.policy.checkpoint = "/b/loop/base/checkpoints/step-6";
  now.data.expert[0].path = "/b/loop/demonstrations.hdf5";
  EXPECT_EQ(relocated(before, now).policy.checkpoint, now.policy.checkpoint);
  EXPECT_EQ(relocated(before, now).data.expert[0].path, now.data.expert[0].path);
  EXPECT_EQ(relocated(before, now).data.expert[1].path, "/data/demos.hdf5");
  now.policy.checkpoint = "/b/loop/base/checkpoints/step-3";
  EXPECT_EQ(relocated(before, now).policy.checkpoint, before.policy.checkpoint);
}

}  // namespace
}  // namespace apo::training
