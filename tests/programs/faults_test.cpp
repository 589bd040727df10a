// What goes wrong around the programs: they are killed, the disk is full, files rot under them, two want the
// same.
#include <gmock/gmock.h>
#include <sys/mount.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "apo/data/trajectory.h"
#include "data/hdf5.h"
#include "data/seal.h"
#include "programs/tiny_loop.h"

namespace apo::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class Faults : public TinyLoop {
 protected:
  static constexpr int kKills = 20;

  RunningProgram start(const std::string& program, std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"--config", config()});
    return RunningProgram(program, arguments, dir_.path());
  }
  static void expect_error(const ProgramResult& result, int exit_code,
                           const ::testing::Matcher<std::string>& message) {
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_THAT(result.err, message);
    EXPECT_THAT(result.err, AllOf(Not(HasSubstr("what():")), Not(HasSubstr("terminate"))));
  }
  // Polls without a pause worth speaking of, so that what follows happens at that very moment.
  static bool wait_until(RunningProgram& program, const std::function<bool()>& moment) {
    while (program.running()) {
      if (moment()) return true;
      ::usleep(200);
    }
    return false;
  }
  static int64_t num_lines(const fs::path& path) {
    const std::string text = slurp(path);
    return std::count(text.begin(), text.end(), '\n');
  }
  static int64_t last_step(const fs::path& run) {
    std::error_code error;
    const fs::path latest = fs::read_symlink(run / "checkpoints/latest", error);
    return error ? 0 : std::stoll(latest.string().substr(5));
  }
  /// Every number of a run that does not measure time or memory.
  static std::vector<json> numbers(const fs::path& run) {
    std::vector<json> all;
    std::istringstream in(slurp(run / "metrics.jsonl"));
    for (std::string line; std::getline(in, line);) {
      all.push_back(json::parse(line));
      for (const char* timing : {"samples_per_second", "step_seconds", "data_seconds", "memory_bytes"})
        all.back().erase(timing);
    }
    return all;
  }
  static void expect_same_run(const fs::path& one, const fs::path& other) {
    EXPECT_EQ(numbers(one), numbers(other));
    for (const char* file : {"policy/model.safetensors", "training_state.safetensors"}) {
      const std::string weights = slurp(one / "checkpoints/latest" / file);
      EXPECT_FALSE(weights.empty()) << file;
      EXPECT_TRUE(weights == slurp(other / "checkpoints/latest" / file)) << file << ": other bits";
    }
  }
  std::vector<std::string> record(const std::string& output, std::vector<std::string> more = {}) const {
    std::vector<std::string> all{"--demonstrations", "--output", output,
                                 set("deploy.demonstrations.existing=append")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  static int64_t episodes_in(const std::string& file) {
    const auto inspected = run_program("apo-data", {"inspect", file, "--json"});
    EXPECT_EQ(inspected.exit_code, 0) << inspected.err;
    return inspected.exit_code == 0 ? json::parse(inspected.out)["total"]["episodes"].get<int64_t>() : -1;
  }
  // Without one that was cut off, which the next recording plays again.
  static int64_t whole_episodes_in(const std::string& path) {
    const auto file = data::TrajectoryFile::open(path);
    int64_t whole = 0;
    for (int64_t i = 0; i < file->num_episodes(); ++i) whole += file->episode(i).outcome != "interrupted";
    return whole;
  }
  static int64_t promised_in(const std::string& file) {
    const json summary = json::parse(slurp(file + ".json"), nullptr, false);
    return summary.is_object() ? summary["recorded"].get<int64_t>() : 0;
  }
};

// A file system of a few megabytes.
class SmallDisk {
 public:
  SmallDisk(const fs::path& path, int64_t bytes) : path_(path) {
    fs::create_directories(path);
    mounted_ = ::mount("tmpfs", path.c_str(), "tmpfs", 0, size(bytes).c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool mounted() const { return mounted_; }
  void grow(int64_t bytes) const {
    ASSERT_EQ(::mount("tmpfs", path_.c_str(), "tmpfs", MS_REMOUNT, size(bytes).c_str()), 0);
  }

 private:
  static std::string size(int64_t bytes) { return "size=" + std::to_string(bytes); }
  fs::path path_;
  bool mounted_ = false;
};

#define APO_NEEDS(disk) \
  if (!(disk).mounted()) GTEST_SKIP() << "a small tmpfs cannot be mounted here (needs root)"

TEST_F(Faults, TrainingKilledTwentyTimesEqualsUninterrupted) {
  record_demonstrations();
  const std::vector<std::string> longer = {set("train.max_steps=200"), set("train.checkpoint_every=4"),
                                           set("train.keep=2"), set("data.loader.workers=1")};
  ASSERT_EQ(run("apo-train", sft("whole", longer)).exit_code, 0);
  auto resumed = longer;
  resumed.push_back("--resume");
  const fs::path killed = path("killed");
  std::mt19937_64 random(7);
  int kills = 0;
  for (int i = 0; i < kKills; ++i) {
    RunningProgram victim = start("apo-train", sft("killed", resumed));
    const int64_t begin = last_step(killed);
    if (i % 4 == 3) {  // while a checkpoint is being written
      kills += wait_until(victim, [&] {
        return fs::exists(killed /
                          ("checkpoints/step-" + std::to_string(last_step(killed) + 4) + ".partial"));
      });
    } else {  // a few steps on, first cut back to the checkpoint
      const auto target = begin + 1 + static_cast<int64_t>(random() % 12);
      bool cut = false;
      kills += wait_until(victim, [&] {
        const int64_t lines = num_lines(killed / "metrics.jsonl");
        cut = cut || lines <= begin + 1;
        return cut && lines >= target;
      });
    }
    victim.send(SIGKILL);
    const auto result = victim.wait();
    ASSERT_EQ(result.exit_code, 128 + SIGKILL)
        << "kill " << i << " after step " << begin << ": " << result.err;
  }
  EXPECT_EQ(kills, kKills);
  EXPECT_GT(last_step(killed), 20);
  EXPECT_LT(last_step(killed), 200);
  const auto finished = run("apo-train", sft("killed", resumed));
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  expect_same_run(path("whole"), killed);
}

TEST_F(Faults, RecordingKilledTwentyTimesLosesNoEpisode) {
  const std::string demos = path("demos.hdf5");
  const auto endless = record(demos, {set("deploy.demonstrations.episodes=100000")});
  std::mt19937_64 random(7);
  int64_t before = 0;
  for (int i = 0; i < kKills; ++i) {
    {
      RunningProgram victim = start("apo-collect", endless);
      // the n-th change of what is on the disk
      auto changes = static_cast<int64_t>(1 + random() % 8);
      uintmax_t seen = 0;
      wait_until(victim, [&] {
        std::error_code error;
        const uintmax_t now = fs::file_size(demos + ".journal", error);
        if (!error && now != seen && promised_in(demos) + 1 > before) {
          seen = now;
          --changes;
        }
        return changes == 0;
      });
      victim.send(SIGKILL);
      ASSERT_EQ(victim.wait().exit_code, 128 + SIGKILL) << victim.wait().err;
    }
    if (!fs::exists(demos)) continue;  // killed before it began
    const int64_t promised = promised_in(demos), found = whole_episodes_in(demos);
    EXPECT_GE(found, promised) << "kill " << i;
    EXPECT_GE(found, before) << "kill " << i;
    before = found;
  }
  EXPECT_GT(before, 5);
  const auto last = run("apo-collect",
                        record(demos, {set("deploy.demonstrations.episodes=" + std::to_string(before + 3))}));
  ASSERT_EQ(last.exit_code, 0) << last.err;
  EXPECT_EQ(episodes_in(demos), before + 3);
  EXPECT_FALSE(fs::exists(demos + ".journal"));
}

TEST_F(Faults, AFullDiskWhileSavingCostsNothingSaved) {
  record_demonstrations();
  const std::vector<std::string> longer = {set("train.max_steps=12"), set("train.keep=10")};
  ASSERT_EQ(run("apo-train", sft("whole", longer)).exit_code, 0);
  int64_t checkpoint = 0;
  for (const auto& entry : fs::recursive_directory_iterator(path("whole/checkpoints/step-2")))
    if (entry.is_regular_file()) checkpoint += (static_cast<int64_t>(entry.file_size()) + 4095) / 4096 * 4096;
  const SmallDisk disk(path("disk"), 7 * checkpoint / 2);
  APO_NEEDS(disk);
  auto resumed = longer;
  resumed.push_back("--resume");
  const auto failed = run("apo-train", sft("disk/run", longer));
  expect_error(failed, 4, AllOf(HasSubstr("disk/run/"), HasSubstr("No space left on device")));
  const int64_t saved = last_step(path("disk/run"));
  EXPECT_GE(saved, 2);
  EXPECT_LT(saved, 12);
  EXPECT_TRUE(fs::exists(path("disk/run/checkpoints/step-" + std::to_string(saved) + "/DONE")));
  for (const auto& entry : fs::directory_iterator(path("disk/run/checkpoints")))
    EXPECT_NE(entry.path().extension(), ".partial");
  // still full: the same message, and nothing is lost
  expect_error(run("apo-train", sft("disk/run", resumed)), 4, HasSubstr("No space left on device"));
  disk.grow(int64_t{1} << 28);
  const auto finished = run("apo-train", sft("disk/run", resumed));
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  expect_same_run(path("whole"), path("disk/run"));
}

TEST_F(Faults, AFullDiskWhileRecordingCostsNothingRecorded) {
  const SmallDisk disk(path("disk"), int64_t{3} << 20);
  APO_NEEDS(disk);
  const std::string demos = path("disk/demos.hdf5");
  const auto failed = run("apo-collect", record(demos, {set("deploy.demonstrations.episodes=100000")}));
  expect_error(failed, 4, AllOf(HasSubstr("demos.hdf5"), HasSubstr("No space left on device")));
  const int64_t kept = episodes_in(demos);
  EXPECT_GE(kept, promised_in(demos));
  EXPECT_GT(kept, 0);
  disk.grow(int64_t{1} << 28);
  const auto more =
      run("apo-collect", record(demos, {set("deploy.demonstrations.episodes=" + std::to_string(kept + 2))}));
  ASSERT_EQ(more.exit_code, 0) << more.err;
  EXPECT_EQ(episodes_in(demos), kept + 2);
}

// Neither a copy nor a conversion that did not fit is left as a file that somebody may trust.
TEST_F(Faults, AFullDiskWhileCopyingDataLeavesNoHalfFile) {
  const auto recorded =
      run("apo-collect", record(path("demos.hdf5"), {set("deploy.demonstrations.episodes=12")}));
  ASSERT_EQ(recorded.exit_code, 0) << recorded.err;
  const auto bytes = static_cast<int64_t>(fs::file_size(path("demos.hdf5")));
  for (const int eighths : {1, 4, 7}) {
    const SmallDisk disk(path("disk" + std::to_string(eighths)), bytes * eighths / 8);
    APO_NEEDS(disk);
    const fs::path where = path("disk" + std::to_string(eighths));
    for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
             {"convert", path("demos.hdf5"), "--output", where / "out.hdf5"},
             {"convert", path("demos.hdf5"), "--to", "robomimic", "--output", where / "out.hdf5"},
             {"convert", path("demos.hdf5"), "--to", "released-demo", "--output", where / "out.hdf5"},
             {"convert", path("demos.hdf5"), "--to", "released-interaction", "--output", where / "out"},
             {"label", path("demos.hdf5"), "--write", where / "out.hdf5"}}) {
      const auto failed = run_program("apo-data", arguments);
      SCOPED_TRACE(arguments[0] + " " + arguments[3] + ", " + std::to_string(eighths) + " eighths");
      expect_error(failed, 4,
                   AllOf(HasSubstr("disk"), HasSubstr("out"), HasSubstr("No space left on device")));
      for (const auto& entry : fs::recursive_directory_iterator(where))
        EXPECT_FALSE(entry.is_regular_file()) << entry.path();
    }
  }
}

TEST_F(Faults, ANumberThatIsNoneIsNamed) {
  record_demonstrations();
  const auto spoil = [&](const std::string& name, int64_t row, int64_t width) {
    fs::copy_file(path("demos.hdf5"), path(name + ".hdf5"));
    data::hdf5::Group demo =
        data::hdf5::Group::open_for_writing(path(name + ".hdf5")).group("data").group("demo_1");
    const std::string array = name == "action" ? "actions" : "eef_height";
    data::hdf5::Group observations = demo.group("obs");
    data::hdf5::Group& group = name == "action" ? demo : observations;
    const auto shape = group.array(array).shape();
    std::vector<float> values = group.array(array).floats();
    values.at(static_cast<size_t>(row * width)) = std::numeric_limits<float>::quiet_NaN();
    group.remove(array);
    group.write(array, values, shape);
    data::seal_episode(demo);
  };
  spoil("action", 4, 7);
  spoil("state", 3, 1);
  const auto train = [&](const std::string& name) {
    auto arguments = sft("run-" + name);
    arguments[0] = set("data.expert=[{path: " + path(name + ".hdf5") + "}]");
    return run("apo-train", arguments);
  };
  expect_error(train("action"), 3,
               HasSubstr("action.hdf5: action of demo_1 timestep 4: expected finite numbers, found NaN"));
  expect_error(train("state"), 3,
               AllOf(HasSubstr("state.hdf5: demo_1: does not suit the policy"), HasSubstr("obs/eef_height: "),
                     HasSubstr("row 3: expected finite numbers, found nan")));
  expect_error(run_program("apo-data", {"convert", path("action.hdf5"), "--output", path("out.hdf5")}), 3,
               HasSubstr("action.hdf5: action of demo_1 timestep 4: expected finite numbers, found NaN"));
  EXPECT_FALSE(fs::exists(path("out.hdf5")));
  const auto validated = run_program("apo-data", {"validate", path("action.hdf5")});
  EXPECT_EQ(validated.exit_code, 3);
  EXPECT_THAT(validated.out,
              HasSubstr("1 steps with NaN or infinite numbers (first: action.hdf5 demo_1 timestep 4)"));
}

// Pictures are read while training goes on, by threads that are ahead of it.
TEST_F(Faults, AFileThatIsCutWhileItIsReadIsNamed) {
  const auto recorded =
      run("apo-collect", record(path("demos.hdf5"), {set("deploy.demonstrations.episodes=40")}));
  ASSERT_EQ(recorded.exit_code, 0) << recorded.err;
  RunningProgram program =
      start("apo-train", sft("run", {set("train.max_steps=1000000"), set("train.checkpoint_every=1000000"),
                                     set("data.loader={workers: 2, prefetch: 4, cache: false}")}));
  ASSERT_TRUE(wait_until(program, [&] { return num_lines(path("run/metrics.jsonl")) > 1; }))
      << program.wait().err;
  fs::resize_file(path("demos.hdf5"), fs::file_size(path("demos.hdf5")) / 2);
  expect_error(program.wait(), 3,
               AllOf(HasSubstr("demos.hdf5: /data/demo_"), HasSubstr("_image: cannot read row ")));
}

TEST_F(Faults, ARunInUseIsToldAsSuch) {
  record_demonstrations();
  RunningProgram first =
      start("apo-train", sft("base", {set("train.max_steps=100000"), set("train.checkpoint_every=100000")}));
  ASSERT_TRUE(wait_until(first, [&] { return num_lines(path("base/metrics.jsonl")) > 0; }))
      << first.wait().err;
  const auto in_use = HasSubstr("base: in use by another process (pid " + std::to_string(first.pid()) + ")");
  for (const std::vector<std::string>& more : {std::vector<std::string>{}, {"--resume"}, {"--overwrite"}})
    expect_error(run("apo-train", sft("base", more)), 4, in_use);
  EXPECT_GT(num_lines(path("base/metrics.jsonl")), 0);  // --overwrite took nothing away
  ASSERT_TRUE(first.running());

  RunningProgram recorder =
      start("apo-collect", record(path("more.hdf5"), {set("deploy.demonstrations.episodes=100000")}));
  ASSERT_TRUE(wait_until(recorder, [&] { return promised_in(path("more.hdf5")) > 0; }))
      << recorder.wait().err;
  for (const char* existing : {"refuse", "append", "overwrite"})
    expect_error(
        run("apo-collect",
            record(path("more.hdf5"), {set(std::string("deploy.demonstrations.existing=") + existing)})),
        4, AllOf(HasSubstr("more.hdf5"), HasSubstr("another process is writing this trajectory file")));
  EXPECT_TRUE(recorder.running());
}

}  // namespace
}  // namespace apo::testing
