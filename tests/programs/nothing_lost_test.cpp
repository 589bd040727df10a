// What a program is told to write never costs what lies there, and what it was told to stop leaves nothing
// half done.
#include <gmock/gmock.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "apo/data/recovery.h"
#include "programs/tiny_loop.h"

namespace apo::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class NothingLost : public TinyLoop {
 protected:
  RunningProgram start(const std::string& program, std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"--config", config()});
    return RunningProgram(program, arguments, dir_.path());
  }
  static void expect_error(const ProgramResult& result, int exit_code,
                           const ::testing::Matcher<std::string>& message) {
    EXPECT_EQ(result.exit_code, exit_code) << result.out << result.err;
    EXPECT_THAT(result.err, message);
  }
  void expect_nothing_partial() const {
    for (const auto& entry : fs::recursive_directory_iterator(dir_.path()))
      EXPECT_NE(entry.path().extension(), ".partial") << entry.path();
  }
  std::string policy() const { return set("policy.checkpoint=" + path("base")); }
};

TEST_F(NothingLost, OutputsOfAnotherKindStay) {
  train_base();
  spit(path("notes.txt"), "mine");
  spit(path("other.json"), R"({"mine": 1})");
  fs::create_directories(path("folder"));
  const auto refused = [&](const std::string& program, std::vector<std::string> arguments,
                           const std::string& name) {
    SCOPED_TRACE(program + " " + arguments[0] + " over " + name);
    const bool is_file = fs::is_regular_file(path(name));
    const std::string before = is_file ? slurp(path(name)) : "";
    arguments.push_back(path(name));
    expect_error(program == "apo-data" || arguments[0] == "--merge" ? run_program(program, arguments)
                                                                    : run(program, arguments),
                 2, HasSubstr(name));
    EXPECT_EQ(is_file ? slurp(path(name)) : "", before);
  };
  for (const char* name : {"notes.txt", "other.json", "demos.hdf5", "folder"}) {
    refused("apo-data", {"label", path("demos.hdf5"), "--output"}, name);
    refused("apo-data", {"stats", path("demos.hdf5"), "--output"}, name);
    refused("apo-eval", {policy(), "--dataset", path("demos.hdf5"), "--output"}, name);
    refused("apo-refine", {"--merge", path("base"), "--output"}, name);
    refused("apo-eval", {"--merge", "base=" + path("base"), "--output"}, name);
  }
  for (const char* name : {"notes.txt", "other.json", "folder"}) {
    refused("apo-collect", {"--demonstrations", set("deploy.demonstrations.existing=overwrite"), "--output"},
            name);
    refused("apo-collect", {"--demonstrations", set("deploy.demonstrations.existing=append"), "--output"},
            name);
  }
  fs::copy_file(path("notes.txt"), path("sheet.webp"));
  refused("apo-data", {"contact-sheet", path("demos.hdf5"), "--output"}, "sheet.webp");
  refused("apo-eval", {policy(), "--sheet"}, "sheet.webp");
  // its own kind is replaced
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(
        run_program("apo-data", {"label", path("demos.hdf5"), "--output", path("labels.jsonl")}).exit_code,
        0);
    EXPECT_EQ(
        run_program("apo-data", {"stats", path("demos.hdf5"), "--output", path("stats.json")}).exit_code, 0);
    const auto scored =
        run("apo-eval", {policy(), "--dataset", path("demos.hdf5"), "--output", path("scores.jsonl")});
    EXPECT_EQ(scored.exit_code, 0) << scored.err;
  }
  spit(path("new.jsonl.partial"), "mine");
  expect_error(run_program("apo-data", {"label", path("demos.hdf5"), "--output", path("new.jsonl")}), 2,
               HasSubstr("new.jsonl.partial"));
  EXPECT_EQ(slurp(path("new.jsonl.partial")), "mine");
  refused("apo-data", {"label", path("demos.hdf5"), "--output"}, "scores.jsonl");
  refused("apo-data", {"stats", path("demos.hdf5"), "--output"}, "labels.jsonl");
}

TEST_F(NothingLost, ResultsOfOthersStay) {
  train_base();
  const auto evaluate = [&](const std::string& name) {
    return run("apo-eval", {policy(), "--output", path(name)});
  };
  for (const auto& [name, text] :
       std::map<std::string, std::string>{{"results.json", R"({"success_rate": 1})"},
                                          {"results.json.partial", R"({"success_rate": 1})"},
                                          {"interrupted.json", R"({"mine": 1})"},
                                          {"interrupted.json.partial", "mine"},
                                          {"disruptions.md", "my notes"},
                                          {"trial-0.webp", "no picture"},
                                          {"trial-0.webp.partial", "no picture"}}) {
    fs::remove_all(path("evaluation"));
    fs::create_directories(path("evaluation"));
    spit(path("evaluation/" + name), text);
    expect_error(evaluate("evaluation"), 2, HasSubstr("evaluation/" + name));
    EXPECT_EQ(slurp(path("evaluation/" + name)), text);
  }
  fs::remove_all(path("evaluation"));
  fs::create_directories(path("evaluation"));
  fs::create_symlink(path("demos.hdf5"), path("evaluation/interrupted.json"));
  expect_error(evaluate("evaluation"), 2, HasSubstr("evaluation/interrupted.json"));
  fs::remove_all(path("evaluation"));
  EXPECT_EQ(evaluate("evaluation").exit_code, 0);
  const auto again = evaluate("evaluation");
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("replaces the results of an earlier evaluation"));
}

TEST_F(NothingLost, WhatLiesBesideARecordingStays) {
  for (const char* beside :
       {"new.hdf5.json", "new.hdf5.journal", "new.hdf5.partial", "new.hdf5.json.partial"}) {
    spit(path(beside), "mine");
    const auto refused = run("apo-collect", {"--demonstrations", "--output", path("new.hdf5")});
    EXPECT_NE(refused.exit_code, 0);
    EXPECT_THAT(refused.err, HasSubstr(beside));
    EXPECT_EQ(slurp(path(beside)), "mine");
    EXPECT_FALSE(fs::exists(path("new.hdf5")));
    fs::remove(path(beside));
  }
  // finished episodes whose file was moved away are not begun over
  {
    RunningProgram victim = start("apo-collect", {"--demonstrations", "--output", path("lost.hdf5"),
                                                  set("deploy.demonstrations.episodes=1000")});
    const auto recorded = [&] {
      const json summary = json::parse(slurp(path("lost.hdf5.json")), nullptr, false);
      return summary.is_object() ? summary["recorded"].get<int>() : 0;
    };
    while (victim.running() && recorded() < 3) ::usleep(2000);
    victim.send(SIGKILL);
    victim.wait();
  }
  fs::rename(path("lost.hdf5"), path("moved.hdf5"));
  if (!fs::exists(path("lost.hdf5.journal")) || data::num_finished_in_journal(path("lost.hdf5")) == 0)
    GTEST_SKIP() << "killed between two journals";
  expect_error(run("apo-collect", {"--demonstrations", "--output", path("lost.hdf5")}), 2,
               AllOf(HasSubstr("lost.hdf5.journal"), HasSubstr("is gone")));
}

TEST_F(NothingLost, WhatCannotBeWrittenIsToldBeforeTheWork) {
  train_base();
  spit(path("file"), "in the way");
  const std::string endless = set("eval.trials=1000000");
  expect_error(run("apo-eval", {policy(), endless, "--output", path("file")}), 2,
               HasSubstr("file: expected a directory for results.json"));
  expect_error(run("apo-eval", {policy(), endless, "--output", "/proc/evaluation"}), 4,
               HasSubstr("/proc/evaluation"));
  expect_error(run("apo-collect", {"--demonstrations", set("deploy.demonstrations.episodes=1000000"),
                                   "--output", "/proc/a.hdf5"}),
               4, HasSubstr("/proc"));
  expect_error(
      run_program("apo-data", {"label", path("demos.hdf5"), "--output", path("file") + "/labels.jsonl"}), 4,
      HasSubstr("Not a directory"));
}

TEST_F(NothingLost, EverySignalSavesAndLeavesNothingHalfWritten) {
  record_demonstrations();
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const std::string run_dir = "run-" + std::to_string(signal);
    RunningProgram program = start(
        "apo-train", sft(run_dir, {set("train.max_steps=100000"), set("train.checkpoint_every=100000")}));
    while (program.running() && slurp(path(run_dir + "/metrics.jsonl")).empty()) ::usleep(5000);
    program.send(signal);
    const auto stopped = program.wait();
    expect_error(stopped, 130, HasSubstr("--resume goes on from there"));
    EXPECT_TRUE(fs::exists(path(run_dir + "/checkpoints/latest/DONE")));
  }
  RunningProgram recorder = start("apo-collect", {"--demonstrations", "--output", path("more.hdf5"),
                                                  set("deploy.demonstrations.episodes=100000")});
  while (recorder.running() && !fs::exists(path("more.hdf5.json"))) ::usleep(5000);
  recorder.send(SIGHUP);
  EXPECT_EQ(recorder.wait().exit_code, 130);
  EXPECT_FALSE(fs::exists(path("more.hdf5.journal")));
  expect_nothing_partial();
}

TEST_F(NothingLost, AnInterruptedEvaluationKeepsWhatIsFinished) {
  train_base();
  RunningProgram program = start("apo-eval", {policy(), set("eval.trials=100000"), set("eval.parallel=2"),
                                              set("eval.max_steps=1"), "--output", path("evaluation")});
  while (program.running() && slurp(path("apo-eval.stderr")).find("evaluate") == std::string::npos)
    ::usleep(5000);
  ::usleep(300'000);
  program.send(SIGTERM);
  const auto stopped = program.wait();
  expect_error(stopped, 130, HasSubstr("of 100000 trials"));
  EXPECT_FALSE(fs::exists(path("evaluation/results.json")));
  if (stopped.out.empty()) GTEST_SKIP() << "no trial was finished";
  EXPECT_THAT(stopped.out, AllOf(HasSubstr("success   "), HasSubstr("interrupted: these are the first")));
  const json kept = json::parse(slurp(path("evaluation/interrupted.json")));
  EXPECT_THAT(stopped.out, HasSubstr("the first " + std::to_string(kept["trials"].size()) + " of 100000"));
  for (size_t i = 0; i < kept["trials"].size(); ++i) EXPECT_EQ(kept["trials"][i]["trial"], i);
}

TEST_F(NothingLost, AMovedLoopGoesOn) {
  const auto refine = [&](const std::string& dir, const std::string& rounds,
                          std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {set("run.dir=" + path(dir)), set("refine.rounds=" + rounds)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run("apo-refine", arguments);
  };
  const auto numbers = [&](const std::string& dir) {
    json summary = json::parse(slurp(path(dir + "/summary.json")));
    for (json& round : summary["rounds"]) round.erase("train_seconds"), round["evaluation"].erase("seconds");
    for (json& round : summary["rounds"])
      if (round["deployment"].is_object()) round["deployment"].erase("seconds");
    return summary["rounds"];
  };
  ASSERT_EQ(refine("whole", "2").exit_code, 0);
  ASSERT_EQ(refine("loop", "1").exit_code, 0);
  json state = json::parse(slurp(path("loop/state.json")));
  EXPECT_EQ(state["stages"]["base/training"]["checkpoint"], "base/training/checkpoints/step-4");
  EXPECT_THAT(slurp(path("loop/state.json")), Not(HasSubstr(path("loop"))));
  EXPECT_EQ(fs::read_symlink(path("loop/policy")).is_relative(), true);
  fs::create_directories(path("shelf"));
  fs::rename(path("loop"), path("shelf/moved"));
  const auto moved = refine("shelf/moved", "2", {"--resume"});
  ASSERT_EQ(moved.exit_code, 0) << moved.err;
  EXPECT_THAT(moved.err, HasSubstr("round-1/training: done before"));
  EXPECT_EQ(numbers("shelf/moved"), numbers("whole"));

  // one from before paths were relative
  ASSERT_EQ(refine("old", "1").exit_code, 0);
  state = json::parse(slurp(path("old/state.json")));
  for (const char* stage : {"base/training", "round-1/training"})
    state["stages"][stage]["checkpoint"] =
        path("old/") + state["stages"][stage]["checkpoint"].get<std::string>();
  spit(path("old/state.json"), state.dump());
  fs::remove(path("old/apo-manifest.json"));
  fs::rename(path("old"), path("shelf/old"));
  expect_error(refine("shelf/old", "2", {"--overwrite"}), 2, HasSubstr("no apo-manifest.json"));
  const auto old = refine("shelf/old", "2", {"--resume"});
  ASSERT_EQ(old.exit_code, 0) << old.err;
  EXPECT_EQ(numbers("shelf/old"), numbers("whole"));
}

// zip, object stores and rsync without -l leave out links.
TEST_F(NothingLost, ALoopWithoutItsLinksKeepsItsCheckpoints) {
  const std::vector<std::string> only_base = {set("run.dir=" + path("loop")), set("refine.rounds=0"),
                                              "--resume"};
  ASSERT_EQ(run("apo-refine", only_base).exit_code, 0);
  // as killed after the last checkpoint of the training
  json state = json::parse(slurp(path("loop/state.json")));
  ASSERT_EQ(state["stages"].erase("base/training"), 1u);
  spit(path("loop/state.json"), state.dump());
  ASSERT_TRUE(fs::remove(path("loop/base/training/checkpoints/latest")));
  ASSERT_TRUE(fs::remove(path("loop/policy")));
  const auto written = fs::last_write_time(path("loop/base/training/checkpoints/step-4/state.json"));
  const auto resumed = run("apo-refine", only_base);
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("going on after step 4 of 4"));
  EXPECT_EQ(fs::last_write_time(path("loop/base/training/checkpoints/step-4/state.json")), written);
}

TEST_F(NothingLost, ALoopIsOverwrittenOnlyWhereItWrote) {
  const std::vector<std::string> small = {set("run.dir=" + path("loop")), set("refine.rounds=0"),
                                          "--overwrite"};
  ASSERT_EQ(run("apo-refine", {small[0], small[1]}).exit_code, 0);
  for (const char* mine : {"base/notes.txt", "base/training/checkpoints/best/weights", "animations/mine.webp",
                           "round-7/data.hdf5"}) {
    fs::create_directories(fs::path(path("loop/" + std::string(mine))).parent_path());
    spit(path("loop/" + std::string(mine)), "mine");
    expect_error(run("apo-refine", small), 2,
                 AllOf(HasSubstr("in the way: " + std::string(mine)), HasSubstr("nothing was removed")));
    EXPECT_EQ(slurp(path("loop/" + std::string(mine))), "mine");
    EXPECT_TRUE(fs::exists(path("loop/state.json")));
    fs::remove(path("loop/" + std::string(mine)));
  }
  // reports drawn anew belong to it
  EXPECT_EQ(run_program("apo-data", {"report", path("loop")}).exit_code, 0);
  EXPECT_EQ(run_program("apo-data", {"report", path("loop/base/training")}).exit_code, 0);
  const auto again = run("apo-refine", small);
  EXPECT_EQ(again.exit_code, 0) << again.err;
}

TEST_F(NothingLost, LimitsOnWhatAConfigAsksFor) {
  expect_error(run("apo-train", sft("run", {set("run.threads=1000000")})), 2,
               AllOf(HasSubstr("run.threads"), HasSubstr("1024")));
  expect_error(run("apo-eval", {set("eval.threads=1000000")}), 2,
               AllOf(HasSubstr("eval.threads"), HasSubstr("1024")));
  expect_error(run("apo-eval", {set("eval.parallel=1000000")}), 2,
               AllOf(HasSubstr("eval.parallel"), HasSubstr("4096")));
  spit(path("huge.yaml"), "run: {seed: 1}\n#" + std::string(size_t{5} << 20, 'x'));
  expect_error(run_program("apo-train", {"--config", path("huge.yaml")}), 2,
               AllOf(HasSubstr("huge.yaml"), HasSubstr("4194304")));
}

}  // namespace
}  // namespace apo::testing
