// "Refine now": what is started on what, and what a page is told of it, also where it fails.
#include "serving/refinement.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include "apo/base/files.h"
#include "apo/data/recorder.h"
#include "apo/data/trajectory.h"
#include "serving/world.h"

namespace apo::serving {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using namespace testing;
using ::testing::HasSubstr;

using Json = Refinement::Json;

// A program of a shell that gets what apo-train gets: --set data.interactions=.. --set run.dir=..
RefinePlan shell(const TempDir& dir, const std::string& script) {
  return {.command = {"/bin/sh", "-c", "last=$4; run=$(echo ${last#run.dir=} | tr -d '\"');" + script,
                      "apo-train"},
          .directory = dir / "refined",
          .updates = 3};
}

struct Heard {
  std::mutex mutex;
  std::vector<Json> all;
  void operator()(const Json& message) {
    const std::lock_guard lock(mutex);
    all.push_back(message);
  }
  Json last() {
    const std::lock_guard lock(mutex);
    return all.empty() ? Json() : all.back();
  }
};

Json run_to_its_end(const RefinePlan& plan, const Refinement::Copy& copy) {
  Heard heard;
  Refinement refinement(plan, copy, std::ref(heard));
  refinement.start();
  EXPECT_TRUE(eventually([&] { return refinement.message()["state"] != "running"; }));
  EXPECT_TRUE(eventually([&] { return heard.last() == refinement.message(); }));
  return heard.last();
}

TEST(RefineNow, TrainsOnACopyAndShowsTheCurves) {
  const TempDir dir;
  const auto copy = [](const fs::path& target) { write_file_atomic(target, "recorded"); };
  RefinePlan plan =
      shell(dir, R"(mkdir -p $run; echo "$2" > $run/seen; cp ${run%training}interactions.hdf5 $run/copy
      printf '{"step": 1, "loss": 0.5, "z0": 0}\n{"step": 2, "loss": 0.25}\nno json\n{"step": 3, "loss": null}\n{"ste' > $run/metrics.jsonl)");
  plan.next = "apo-eval";
  for (const std::string number : {"1", "2"}) {  // each in a directory of its own
    const Json told = run_to_its_end(plan, copy);
    const fs::path run = dir / "refined" / number / "training";
    EXPECT_EQ(told["state"], "done") << told;
    EXPECT_EQ(told["text"], "Refined. Next: apo-eval --set policy.checkpoint=" + run.string());
    EXPECT_EQ(told["step"], 3);
    EXPECT_EQ(told["of"], 3);
    EXPECT_EQ(told["curves"], Json({{"loss", {{1, 0.5}, {2, 0.25}}}}));
    EXPECT_EQ(read_file(run / "copy"), "recorded");
    EXPECT_EQ(read_file(run / "seen"), "data.interactions=[{path: \"" +
                                           (dir / "refined" / number / "interactions.hdf5").string() +
                                           "\"}]\n");
  }
}

TEST(RefineNow, SaysWhyItFailed) {
  const TempDir dir;
  const auto nothing = [](const fs::path&) {};
  EXPECT_EQ(run_to_its_end(shell(dir, "echo working; echo 'lift.hdf5: no corrections' >&2; exit 3"),
                           nothing)["text"],
            concat("apo-train ended with 3: lift.hdf5: no corrections (",
                   (dir / "refined/1/log.txt").string(), ")"));
  EXPECT_THAT(read_file(dir / "refined/1/log.txt"), ::testing::StartsWith("/bin/sh -c "));
  EXPECT_THAT(run_to_its_end(shell(dir, "kill -9 $$"), nothing)["text"].get<std::string>(),
              HasSubstr("apo-train ended with 137: "));
  EXPECT_EQ(run_to_its_end(shell(dir, ""),
                           [](const fs::path&) { throw DataError("nothing is recorded yet"); })["text"],
            "nothing is recorded yet");
  EXPECT_FALSE(fs::exists(dir / "refined/3"));
  const RefinePlan elsewhere{.command = {"/bin/true"}, .directory = dir / "never"};
  run_to_its_end(elsewhere, [](const fs::path&) { throw DataError("nothing is recorded yet"); });
  EXPECT_FALSE(fs::exists(dir / "never"));
  const RefinePlan absent{.command = {(dir / "no-program").string()}, .directory = dir / "refined"};
  EXPECT_THAT(run_to_its_end(absent, nothing)["text"].get<std::string>(),
              HasSubstr("no-program: cannot be started: No such file"));
  const RefinePlan nowhere{.command = {"/bin/true"}, .directory = "/proc/refined"};
  EXPECT_EQ(run_to_its_end(nowhere, nothing)["state"], "failed");
}

TEST(RefineNow, OneAtATimeAndTheServersEndEndsIt) {
  const TempDir dir;
  Heard heard;
  {
    Refinement refinement(
        shell(dir, "trap 'echo saved > $run-saved; exit 130' TERM; while :; do sleep 0.05; done"),
        [](const fs::path&) {}, std::ref(heard));
    refinement.start();
    refinement.start();
    EXPECT_TRUE(eventually([&] { return fs::exists(dir / "refined/1/log.txt"); }));
    std::this_thread::sleep_for(300ms);
    EXPECT_FALSE(fs::exists(dir / "refined/2"));
    EXPECT_EQ(refinement.message()["state"], "running");
  }
  EXPECT_TRUE(fs::exists(dir / "refined/1/training-saved"));
  EXPECT_EQ(heard.last()["state"], "failed");
}

TEST(RefineNow, CurvesOfLongRunsAreThinned) {
  const TempDir dir;
  std::string lines;
  for (int step = 1; step <= 5000; ++step) lines += concat("{\"step\": ", step, ", \"loss\": ", step, "}\n");
  write_file_atomic(dir / "metrics.jsonl", lines);
  Curves curves(dir / "metrics.jsonl");
  curves.read_on();
  const Json points = curves.json()["loss"];
  EXPECT_GT(points.size(), 150u);
  EXPECT_LE(points.size(), 400u);
  EXPECT_EQ(points.front(), Json({1, 1.0}));
  for (size_t i = 1; i < points.size(); ++i) EXPECT_GT(points[i][0], points[i - 1][0]);
  EXPECT_EQ(curves.step(), 5000);
}

// A port that stays open with the training would keep a server from coming back; Ctrl-C is the server's.
TEST(RefineNow, KeepsNothingOfTheServerOpenAndIsNoPartOfItsGroup) {
  const TempDir dir;
  net::io_context io;
  tcp::acceptor acceptor(io, {net::ip::make_address("127.0.0.1"), 0});
  const RefinePlan plan =
      shell(dir, "mkdir -p $run; ls -l /proc/$$/fd > $run/open; cut -d' ' -f5 /proc/$$/stat > $run/group");
  EXPECT_EQ(run_to_its_end(plan, [](const fs::path&) {})["state"], "done");
  const fs::path run = dir / "refined/1/training";
  EXPECT_THAT(read_file(run / "open"), ::testing::Not(HasSubstr("socket")));
  EXPECT_NE(std::stoll(read_file(run / "group")), ::getpgrp());
}

TEST(RefineNow, AServerThatStopsWhileTheRecordingIsCopiedTrainsNothing) {
  const TempDir dir;
  Heard heard;
  std::atomic<bool> copying = false;
  {
    Refinement refinement(
        shell(dir, "touch $run-begun"),
        [&](const fs::path&) {
          copying = true;
          std::this_thread::sleep_for(300ms);
        },
        std::ref(heard));
    refinement.start();
    EXPECT_TRUE(eventually([&] { return copying.load(); }));
  }
  EXPECT_EQ(heard.last()["text"], "the server stopped");
  EXPECT_FALSE(fs::exists(dir / "refined/1/training-begun"));
}

// What is recorded goes on while a copy is made of it.
TEST(RefineNow, ACopyIsAWholeRecordingOfWhatEnded) {
  const TempDir dir;
  data::EpisodeRecorder recorder(dir / "served.hdf5", {.environment_name = "robot"});
  Step step;
  step.action = {0.5f, 1};
  step.observation.images["front"] = at::zeros({4, 4, 3}, at::kByte);
  const int64_t first = recorder.begin("lift"), second = recorder.begin("lift");
  recorder.append(first, step);
  recorder.append(second, step);
  recorder.end(first, true, "success");
  recorder.copy_to(dir / "copy.hdf5");
  recorder.append(second, step);
  recorder.end(second, std::nullopt, "ended");
  recorder.wait();
  EXPECT_EQ(data::TrajectoryFile::open(dir / "copy.hdf5")->num_episodes(), 1);
  EXPECT_EQ(data::TrajectoryFile::open(dir / "served.hdf5")->num_episodes(), 2);
  EXPECT_THAT(message_of<RunError>([&] { recorder.copy_to(dir / "absent/copy.hdf5"); }),
              HasSubstr("cannot be copied"));
}

}  // namespace
}  // namespace apo::serving
