// apo-train on several ranks, started by the variables that a launcher sets: equal to one rank, whole after a
// rank's death, and short in what it says.
#include <gmock/gmock.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "programs/tiny_loop.h"
#include "support/listening_port.h"

namespace apo::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Variables = std::vector<std::pair<std::string, std::string>>;

constexpr double kTolerance = 1e-6;

// apo-train on each of some ranks.
class Job {
 public:
  Job(int size, const std::vector<std::string>& arguments, const fs::path& dir, int64_t port = free_port())
      : dir_(dir) {
    for (int rank = 0; rank < size; ++rank)
      start({{"RANK", std::to_string(rank)},
             {"WORLD_SIZE", std::to_string(size)},
             {"LOCAL_RANK", std::to_string(rank)},
             {"MASTER_ADDR", "127.0.0.1"},
             {"MASTER_PORT", std::to_string(port)}},
            arguments);
  }
  Job(const fs::path& dir) : dir_(dir) {}

  void start(const Variables& variables, const std::vector<std::string>& arguments) {
    const fs::path own = dir_ / ("rank" + std::to_string(ranks_.size()) + "-" + std::to_string(++started));
    fs::create_directories(own);
    for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
    ranks_.push_back(std::make_unique<RunningProgram>("apo-train", arguments, own));
    for (const auto& [name, value] : variables) ::unsetenv(name.c_str());
  }
  RunningProgram& rank(size_t r) { return *ranks_[r]; }
  std::vector<ProgramResult> wait() {
    std::vector<ProgramResult> results;
    for (const auto& rank : ranks_) results.push_back(rank->wait());
    return results;
  }

 private:
  inline static int started = 0;
  fs::path dir_;
  std::vector<std::unique_ptr<RunningProgram>> ranks_;
};

class Ranks : public TinyLoop {
 protected:
  void SetUp() override {
    TinyLoop::SetUp();
    train_base();
    const auto result =
        run("apo-collect", {set("policy.checkpoint=" + path("base")), "--output", path("interactions.hdf5")});
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }
  std::vector<std::string> arguments(const std::string& run_dir, std::vector<std::string> more = {}) const {
    std::vector<std::string> all = {"--config",
                                    config(),
                                    expert(),
                                    set("data.interactions=[{path: " + path("interactions.hdf5") + "}]"),
                                    set("policy.checkpoint=" + path("base")),
                                    set("run.dir=" + path(run_dir)),
                                    set("distributed.timeout_seconds=60")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  void train(int size, const std::vector<std::string>& arguments) const {
    for (const ProgramResult& result : Job(size, arguments, dir_.path()).wait())
      ASSERT_EQ(result.exit_code, 0) << result.out << result.err;
  }
  // What a step came to, but for times and memory.
  void expect_same_metrics(const std::string& run_dir, const std::string& other) const {
    const std::vector<json> a = lines(path(run_dir) + "/metrics.jsonl"),
                            b = lines(path(other) + "/metrics.jsonl");
    ASSERT_EQ(a.size(), b.size());
    for (size_t step = 0; step < a.size(); ++step) {
      ASSERT_EQ(a[step].size(), b[step].size());
      for (const auto& [name, value] : a[step].items()) {
        if (name.find("second") != std::string::npos || name == "memory_bytes") continue;
        ASSERT_EQ(value.is_null(), b[step][name].is_null()) << name;
        if (value.is_null()) continue;
        const double expected = value.get<double>();
        EXPECT_NEAR(b[step][name].get<double>(), expected, kTolerance * std::max(1.0, std::abs(expected)))
            << other << ": step " << step + 1 << ": " << name;
      }
    }
  }
};

TEST_F(Ranks, EqualOneRankForEveryObjectiveAndReference) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> kinds = {
      {"apo", {}},
      {"kto", {set("objective.type=kto"), set("train.micro_batch_size=3")}},
      {"dpo", {set("objective.type=dpo")}},
      {"sft", {set("objective.type=sft")}},
      {"weighted-bc", {set("objective.type=weighted-bc")}},
      {"lora", {set("policy.lora={rank: 2}"), set("reference.mode=adapter")}},
      {"cached",
       {set("reference.mode=cached"), set("objective.z0=mismatched"),
        set("objective.reference_kl_weight=0")}}};
  for (const auto& [name, options] : kinds) {
    SCOPED_TRACE(name);
    train(1, arguments(name + "-1", options));
    train(2, arguments(name + "-2", options));
    expect_same_metrics(name + "-1", name + "-2");
  }
  train(4, arguments("apo-4"));
  expect_same_metrics("apo-1", "apo-4");
  train(3, arguments("apo-3", {set("logging.per_sample=true")}));  // shares of 3, 3 and 2
  expect_same_metrics("apo-1", "apo-3");
  EXPECT_EQ(lines(path("apo-3/samples.jsonl")).size(), 48u);
  EXPECT_TRUE(fs::exists(path("apo-4/report.html")));
}

TEST_F(Ranks, GoOnInAnotherNumberAsIfNothingHadHappened) {
  train(1, arguments("whole"));
  const auto until =
      [&](const std::string& step) {  // a run that a signal stops there: its later steps are cut
        fs::remove(path("parts/checkpoints/latest"));
        for (const auto& entry : fs::directory_iterator(path("parts/checkpoints")))
          if (entry.path().filename().string() > "step-" + step) fs::remove_all(entry.path());
      };
  train(2, arguments("parts"));
  until("2");
  train(1, arguments("parts", {"--resume"}));
  until("4");
  train(2, arguments("parts", {"--resume"}));
  expect_same_metrics("whole", "parts");
}

TEST_F(Ranks, ThatShareTheOptimizerAreTheSameRun) {
  const std::string shared = set("distributed.shard_optimizer=true");
  train(1, arguments("one"));
  train(2, arguments("two"));
  const auto moments = [&](const std::string& run_dir, std::vector<std::string> more) {
    more.push_back(set("logging.level=debug"));
    const ProgramResult first = Job(2, arguments(run_dir, more), dir_.path()).wait().front();
    EXPECT_EQ(first.exit_code, 0) << first.err;
    const size_t at = first.err.find("optimizer: ");
    return at == std::string::npos ? -1 : std::atol(first.err.c_str() + at + std::strlen("optimizer: "));
  };
  const long all = moments("all", {}), half = moments("shared", {shared});
  EXPECT_GT(half, 0);
  EXPECT_NEAR(static_cast<double>(half), static_cast<double>(all) / 2, 0.1 * static_cast<double>(all));
  expect_same_metrics("one", "shared");
  EXPECT_EQ(slurp(path("two/checkpoints/step-6/training_state.safetensors")),
            slurp(path("shared/checkpoints/step-6/training_state.safetensors")));
  fs::remove(path("shared/checkpoints/latest"));
  for (const char* step : {"step-4", "step-6"}) fs::remove_all(path("shared/checkpoints/") + step);
  train(3, arguments("shared", {shared, "--resume"}));  // others hold what was saved
  expect_same_metrics("one", "shared");
}

TEST_F(Ranks, AKilledRankEndsTheJobAndResumingIsEqual) {
  const std::vector<std::string> longer = {set("train.max_steps=40"), set("train.checkpoint_every=5"),
                                           set("distributed.timeout_seconds=20")};
  train(1, arguments("whole", longer));
  const char* asked = std::getenv("APO_KILLS");  // 20 by hand, few each time
  const int kills = asked != nullptr ? std::atoi(asked) : 3;
  std::mt19937 random(5);
  for (int kill = 0; kill < kills; ++kill) {
    SCOPED_TRACE("kill " + std::to_string(kill));
    const std::string run_dir = "killed-" + std::to_string(kill);
    Job job(2, arguments(run_dir, longer), dir_.path());
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 6000));
    const size_t victim = random() % 2;
    const bool too_late = !job.rank(victim).running();
    job.rank(victim).send(SIGKILL);
    const auto begin = std::chrono::steady_clock::now();
    const std::vector<ProgramResult> results = job.wait();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    EXPECT_LT(seconds, 20 + 25);
    const ProgramResult& other = results[1 - victim];
    if (!too_late && results[victim].exit_code == 128 + SIGKILL && other.exit_code != 0) {
      EXPECT_EQ(other.exit_code, 4) << other.err;
      EXPECT_THAT(other.err, HasSubstr("rank"));
    }
    std::vector<std::string> more = longer;
    more.push_back("--resume");
    train(2, arguments(run_dir, more));
    expect_same_metrics("whole", run_dir);
  }
}

TEST_F(Ranks, ASignalToOneOfThemSavesAndEndsAllAndResumingIsEqual) {
  const std::vector<std::string> longer = {set("train.max_steps=400"), set("train.checkpoint_every=400")};
  train(2, arguments("whole", longer));
  for (const size_t told : {0u, 1u}) {
    SCOPED_TRACE("rank " + std::to_string(told));
    const std::string run_dir = "told-" + std::to_string(told);
    Job job(2, arguments(run_dir, longer), dir_.path());
    while (job.rank(told).running() && slurp(path(run_dir + "/metrics.jsonl")).empty()) ::usleep(5000);
    job.rank(told).send(SIGTERM);
    for (const ProgramResult& result : job.wait()) EXPECT_EQ(result.exit_code, 130) << result.err;
    EXPECT_TRUE(fs::exists(path(run_dir + "/checkpoints/latest/DONE")));
    EXPECT_LT(lines(path(run_dir + "/metrics.jsonl")).size(), 400u);
    std::vector<std::string> more = longer;
    more.push_back("--resume");
    train(2, arguments(run_dir, more));
    expect_same_metrics("whole", run_dir);
  }
}

TEST_F(Ranks, DropTheSameUnitsAgainAfterResuming) {
  const std::vector<std::string> dropout = {set("policy.lora={rank: 2, dropout: 0.3}")};
  train(2, arguments("whole", dropout));
  train(2, arguments("parts", dropout));
  fs::remove(path("parts/checkpoints/latest"));
  for (const char* step : {"step-4", "step-6"}) fs::remove_all(path("parts/checkpoints/") + step);
  train(2, arguments("parts", {dropout.front(), "--resume"}));
  expect_same_metrics("whole", "parts");
  train(2, arguments("without", {set("policy.lora={rank: 2}")}));
  EXPECT_NE(lines(path("whole/metrics.jsonl")).back()["loss"],  // an adapter begins with nothing to drop
            lines(path("without/metrics.jsonl")).back()["loss"]);
}

TEST_F(Ranks, OtherOptionsOfOneAreRefusedByKey) {
  Job job(dir_.path());
  const std::string port = std::to_string(free_port());
  for (const char* rank : {"0", "1"})
    job.start({{"RANK", rank}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", port}},
              arguments("run", {set("objective.beta=0." + std::string(rank[0] == '0' ? "1" : "3"))}));
  for (const ProgramResult& result : job.wait()) {
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_THAT(result.err, AllOf(HasSubstr("rank 1"), HasSubstr("objective.beta")));
  }
  EXPECT_FALSE(fs::exists(path("run/metrics.jsonl")));
}

TEST_F(Ranks, MoreOfThemThanSamplesAreRefused) {
  std::vector<std::string> all = sft("run", {set("train.batch_size=2")});
  all.insert(all.begin(), {"--config", config()});
  for (const ProgramResult& result : Job(3, all, dir_.path()).wait()) {
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_THAT(result.err,
                HasSubstr("train.batch_size: expected at least a sample for each of the 3 ranks, found 2"));
  }
}

TEST_F(Ranks, WrongVariablesAndATakenPortAreOneSentence) {
  const auto refused = [&](const Variables& variables, int exit_code, const std::string& what) {
    Job job(dir_.path());
    job.start(variables, arguments("run", {set("distributed.timeout_seconds=3")}));
    const ProgramResult result = job.wait().front();
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_THAT(result.err, HasSubstr(what));
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
    EXPECT_FALSE(fs::exists(path("run/metrics.jsonl")));
  };
  refused({{"RANK", "0"}}, 2, "WORLD_SIZE is not");
  refused({{"RANK", "2"}, {"WORLD_SIZE", "2"}}, 2, "RANK: expected a whole number from 0 to 1");
  refused({{"RANK", "0"}, {"WORLD_SIZE", "2"}}, 2, "MASTER_ADDR");
  const ListeningPort port;
  const Variables taken = {{"RANK", "0"},
                           {"WORLD_SIZE", "2"},
                           {"MASTER_ADDR", "127.0.0.1"},
                           {"MASTER_PORT", std::to_string(port.number())}};
  refused(taken, 4, "is taken");
}

}  // namespace
}  // namespace apo::testing
