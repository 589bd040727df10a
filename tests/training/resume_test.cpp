// A stopped run goes on as if it had never stopped, wherever it was stopped.
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apo/base/error.h"
#include "apo/base/interrupt.h"
#include "apo/models/safetensors.h"
#include "apo/training/trainer.h"
#include "support/message_of.h"
#include "training/recorded_runs.h"

namespace apo::training {
namespace {

namespace fs = std::filesystem;
using apo::testing::json_lines;
using apo::testing::LinearPolicy;
using apo::testing::message_of;
using apo::testing::metrics_of;
using apo::testing::RecordedRuns;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using Evaluate = std::function<std::map<std::string, double>(models::Policy&, int64_t)>;

// Evaluates after every step; `act` is what happens there.
TrainHooks after_each_step(std::function<void(int64_t)> act) {
  return {.evaluate =
              [act](models::Policy&, int64_t step) {
                act(step);
                return std::map<std::string, double>{};
              },
          .config_yaml = {}};
}

// Trains until a signal arrives during `step`.
void train_interrupted_at(const TrainingOptions& options, int64_t step,
                          ExistingRun existing = ExistingRun::refuse) {
  TrainingOptions evaluated = options;
  evaluated.train.eval_every = 1;
  try {
    train(evaluated, existing, after_each_step([step](int64_t now) {
            if (now == step) set_interrupted(true);
          }));
    ADD_FAILURE() << "was not interrupted";
  } catch (const Interrupted& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::interrupted);
    EXPECT_THAT(error.what(), HasSubstr(concat("after step ", step, " of ")));
  }
  set_interrupted(false);
}

// All tensors and every number of two finished runs are the same bits.
void expect_same_run(const fs::path& one, const fs::path& other, const char* last) {
  EXPECT_EQ(metrics_of(one), metrics_of(other));
  EXPECT_EQ(json_lines(one / "samples.jsonl"), json_lines(other / "samples.jsonl"));
  for (const char* file :
       {"training_state.safetensors", "policy/model.safetensors", "reference.safetensors"}) {
    const fs::path a = one / "checkpoints" / last / file, b = other / "checkpoints" / last / file;
    ASSERT_EQ(fs::exists(a), fs::exists(b)) << file;
    if (!fs::exists(a)) continue;
    const models::SafetensorsReader first(a), second(b);
    ASSERT_EQ(first.names(), second.names());
    for (const std::string& name : first.names())
      EXPECT_TRUE(at::equal(first.tensor(name), second.tensor(name))) << file << " " << name;
  }
}

// Runs `body` in a child process; returns its wait status.
int in_child(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    int code = 0;
    try {
      body();
    } catch (const Error& error) {
      code = static_cast<int>(error.exit_code());
    } catch (...) {
      code = 99;
    }
    _exit(code);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

TEST(Resume, EqualsNeverHavingStopped) {
  for (const int64_t micro_batch : {0, 3}) {
    for (const double dropout : {0.0, 0.4}) {
      SCOPED_TRACE(concat("micro-batch ", micro_batch, ", dropout ", dropout));
      const RecordedRuns runs;
      LinearPolicy::dropout = dropout;
      TrainingOptions whole = runs.options("whole");
      whole.train.micro_batch_size = micro_batch;
      train(whole);
      TrainingOptions stopped = runs.options("stopped");
      stopped.train.micro_batch_size = micro_batch;
      train_interrupted_at(stopped, 3);
      EXPECT_EQ(metrics_of(runs / "stopped").size(), 3u);
      EXPECT_EQ(train(stopped, ExistingRun::resume).steps, 6);
      expect_same_run(runs / "whole", runs / "stopped", "step-6");
    }
  }
}

TEST(Resume, SavesTheStepWhoseEvaluationWasInterrupted) {
  const RecordedRuns runs;
  train(runs.options("whole"));
  TrainingOptions stopped = runs.options("stopped");
  stopped.train.eval_every = 4;
  const TrainHooks hooks = {.evaluate = [](models::Policy&, int64_t) -> std::map<std::string, double> {
                              throw Interrupted("in the middle of an episode");
                            },
                            .config_yaml = {}};
  EXPECT_THROW(train(stopped, ExistingRun::refuse, hooks), Interrupted);
  EXPECT_TRUE(fs::exists(runs / "stopped/checkpoints/step-4/DONE"));
  train(stopped, ExistingRun::resume);
  expect_same_run(runs / "whole", runs / "stopped", "step-6");
}

TEST(Resume, EqualsForEveryObjective) {
  for (const auto& [type, z0] : std::vector<std::pair<objective::ObjectiveType, objective::Z0Estimator>>{
           {objective::ObjectiveType::sft, objective::Z0Estimator::none},
           {objective::ObjectiveType::kto, objective::Z0Estimator::mismatched},
           {objective::ObjectiveType::apo, objective::Z0Estimator::exact}}) {
    const RecordedRuns runs;
    TrainingOptions whole = runs.options("whole"), stopped = runs.options("stopped");
    for (TrainingOptions* options : {&whole, &stopped}) {
      options->objective.type = type;
      options->objective.z0 = z0;
    }
    train(whole);
    train_interrupted_at(stopped, 2);
    train_interrupted_at(stopped, 5, ExistingRun::resume);
    train(stopped, ExistingRun::resume);
    expect_same_run(runs / "whole", runs / "stopped", "step-6");
  }
}

TEST(Resume, GoesOnInTheMiddleOfAnEpochWithPrefetchingThreads) {
  const RecordedRuns runs;
  TrainingOptions whole = runs.options("whole"), stopped = runs.options("stopped");
  whole.train.max_steps = stopped.train.max_steps = 10;  // 6 steps an epoch: stopped in the second
  stopped.data.loader = {.workers = 2, .prefetch = 3};
  train(whole);
  train_interrupted_at(stopped, 8);
  train(stopped, ExistingRun::resume);
  expect_same_run(runs / "whole", runs / "stopped", "step-10");
}

TEST(Resume, ForgetsWhatAKilledProcessDidAfterItsLastCheckpoint) {
  const RecordedRuns runs;
  LinearPolicy::dropout = 0.4;
  at::set_num_threads(1);  // a forked child has no other threads
  TrainingOptions whole = runs.options("whole");
  train(whole);
  for (const int64_t killed_at : {1, 2, 3, 5}) {
    SCOPED_TRACE(concat("killed at step ", killed_at));
    const std::string name = concat("killed-", killed_at);
    TrainingOptions options = runs.options(name);
    options.train.checkpoint_every = 2;
    const int status = in_child([&] {
      TrainingOptions evaluated = options;
      evaluated.train.eval_every = 1;
      train(evaluated, ExistingRun::refuse, after_each_step([&](int64_t step) {
              if (step == killed_at) kill(getpid(), SIGKILL);
            }));
    });
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    train(options, ExistingRun::resume);
    expect_same_run(runs / "whole", runs / name, "step-6");
  }
}

TEST(Resume, SurvivesDeathInTheMiddleOfACheckpoint) {
  const RecordedRuns runs;
  at::set_num_threads(1);
  train(runs.options("whole"));
  TrainingOptions options = runs.options("killed");
  options.train.checkpoint_every = 2;
  const int status = in_child([&] {
    LinearPolicy::before_save = [](const fs::path& directory) {
      if (directory.string().find("step-4") == std::string::npos) return;
      write_file_atomic(directory / "half-written", "...");
      kill(getpid(), SIGKILL);
    };
    train(options);
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(fs::exists(runs / "killed/checkpoints/step-4.partial"));
  EXPECT_EQ(metrics_of(runs / "killed").size(), 4u);
  train(options, ExistingRun::resume);
  EXPECT_FALSE(fs::exists(runs / "killed/checkpoints/step-4.partial"));
  expect_same_run(runs / "whole", runs / "killed", "step-6");
}

TEST(Resume, AFullDiskLeavesNoPartialCheckpoint) {
  const RecordedRuns runs;
  at::set_num_threads(1);
  TrainingOptions options = runs.options("run");
  options.train.checkpoint_every = 2;
  const int status = in_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    LinearPolicy::before_save = [](const fs::path& directory) {
      if (directory.string().find("step-4") == std::string::npos) return;
      const rlimit limit = {.rlim_cur = 256, .rlim_max = 256};  // no file grows beyond this
      setrlimit(RLIMIT_FSIZE, &limit);
    };
    train(options);
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ExitCode::run));
  EXPECT_FALSE(fs::exists(runs / "run/checkpoints/step-4"));
  EXPECT_FALSE(fs::exists(runs / "run/checkpoints/step-4.partial"));
  EXPECT_EQ(fs::read_symlink(runs / "run/checkpoints/latest"), "step-2");
  EXPECT_EQ(train(options, ExistingRun::resume).steps, 6);
}

TEST(Resume, BeginsAnewWhereThereIsNoCheckpoint) {
  const RecordedRuns runs;
  at::set_num_threads(1);
  train(runs.options("whole"));
  TrainingOptions options = runs.options("killed");
  const int status = in_child([&] {
    TrainingOptions evaluated = options;
    evaluated.train.eval_every = 1;
    train(evaluated, ExistingRun::refuse, after_each_step([](int64_t step) {
            if (step == 3) kill(getpid(), SIGKILL);
          }));
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  const auto before = read_file(runs / "killed/metrics.jsonl");
  EXPECT_EQ(metrics_of(runs / "killed").size(), 2u);
  train(options, ExistingRun::resume);
  expect_same_run(runs / "whole", runs / "killed", "step-6");
  EXPECT_EQ(read_file(runs / "killed/before-resume-1/metrics.jsonl"), before);
  train(runs.options("fresh"), ExistingRun::resume);  // an unused directory
  expect_same_run(runs / "whole", runs / "fresh", "step-6");
}

TEST(Resume, AFinishedRunIsFinished) {
  const RecordedRuns runs;
  const TrainResult first = train(runs.options("run"));
  const auto written = fs::last_write_time(runs / "run/checkpoints/step-6/state.json");
  const TrainResult second = train(runs.options("run"), ExistingRun::resume);
  EXPECT_EQ(second.steps, 6);
  EXPECT_EQ(second.checkpoint, first.checkpoint);
  EXPECT_EQ(second.metrics.at("loss"), first.metrics.at("loss"));
  EXPECT_EQ(metrics_of(runs / "run").size(), 6u);
  EXPECT_EQ(fs::last_write_time(runs / "run/checkpoints/step-6/state.json"), written);
}

TEST(Resume, RefusesAnotherRunsOptions) {
  const RecordedRuns runs;
  const TrainingOptions options = runs.options("run");
  train_interrupted_at(options, 3);
  TrainingOptions other = options;
  other.objective.beta = 0.2;
  other.train.max_steps = 9;  // the cosine would have another end
  other.logging.every = 3;
  other.train.keep = 1;
  try {
    train(other, ExistingRun::resume);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("objective.beta: 0.1 -> 0.2"));
    EXPECT_THAT(error.what(), HasSubstr("train.max_steps: 6 -> 9"));
    EXPECT_THAT(error.what(), Not(HasSubstr("logging")));
    EXPECT_THAT(error.what(), Not(HasSubstr("train.keep")));
  }
  EXPECT_EQ(metrics_of(runs / "run").size(), 3u);
  other = options;
  other.logging.every = 3;
  other.train.checkpoint_every = 1;
  other.train.micro_batch_size = 4;
  EXPECT_EQ(train(other, ExistingRun::resume).steps, 6);
}

TEST(Resume, AConstantLearningRateMayTrainLonger) {
  const RecordedRuns runs;
  TrainingOptions whole = runs.options("whole"), longer = runs.options("longer");
  for (TrainingOptions* options : {&whole, &longer}) options->schedule.type = "constant";
  train(whole);
  longer.train.max_steps = 4;
  train(longer);
  longer.train.max_steps = 6;
  train(longer, ExistingRun::resume);
  expect_same_run(runs / "whole", runs / "longer", "step-6");
}

TEST(Resume, RefusesOtherData) {
  const RecordedRuns runs;
  const TrainingOptions options = runs.options("run");
  train_interrupted_at(options, 3);
  data::TrajectoryWriter writer(runs / "demos.hdf5", apo::testing::kRecordingInfo);
  writer.begin_episode("lift the block");
  writer.append(apo::testing::recorded_step(5, 0, ActionSource::expert));
  writer.end_episode(true, "success");
  try {
    train(options, ExistingRun::resume);
    FAIL();
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("the recorded steps differ"));
  }
}

TEST(Resume, NamesADamagedCheckpointsFile) {
  const RecordedRuns runs;
  const TrainingOptions options = runs.options("run");
  train_interrupted_at(options, 3);
  const fs::path checkpoint = runs / "run/checkpoints/step-3";
  const auto message = [&] {
    try {
      train(options, ExistingRun::resume);
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string("nothing was thrown");
  };
  const std::string state = read_file(checkpoint / "state.json");
  write_file_atomic(checkpoint / "state.json", state.substr(0, state.size() / 2));
  EXPECT_THAT(message(), HasSubstr((checkpoint / "state.json").string() + ":"));
  // of an older run: without hashes
  write_file_atomic(checkpoint / "state.json", R"({"version": 1, "step": "three"})");
  EXPECT_THAT(message(), HasSubstr("state.json: step: expected a whole number, found \"three\""));
  write_file_atomic(checkpoint / "state.json", state);
  for (const char* file :
       {"training_state.safetensors", "reference.safetensors", "policy/model.safetensors"}) {
    const std::string bytes = read_file(checkpoint / file);
    write_file_atomic(checkpoint / file, bytes.substr(0, bytes.size() - 5));
    EXPECT_THAT(message(), HasSubstr(fs::path(file).filename().string()));
    write_file_atomic(checkpoint / file, bytes);
  }
  EXPECT_EQ(train(options, ExistingRun::resume).steps, 6);
}

TEST(Resume, StartsFromACheckpointAndKeepsItsReference) {
  const RecordedRuns runs;
  train(runs.options("base"));
  TrainingOptions whole = runs.options("whole"), stopped = runs.options("stopped");
  for (TrainingOptions* options : {&whole, &stopped}) options->policy.checkpoint = (runs / "base").string();
  train(whole);
  EXPECT_EQ(metrics_of(runs / "whole")[0]["unweighted_loss"], 0.5);  // the reference is the base
  train_interrupted_at(stopped, 3);
  fs::remove_all(runs / "base");  // the checkpoint needs it no more
  fs::create_directory(runs / "base");
  train(stopped, ExistingRun::resume);
  expect_same_run(runs / "whole", runs / "stopped", "step-6");
}

// The built-in policy, whole and with an adapter, with picture augmentation.
TrainingOptions built_in(const RecordedRuns& runs, const char* name, int64_t rank) {
  TrainingOptions options = runs.options(name);
  options.policy.type = "small";
  options.policy.of<models::SmallOptions>().image_size = 16;
  options.policy.of<models::SmallOptions>().width = 16;
  options.policy.of<models::SmallOptions>().layers = 1;
  options.policy.of<models::SmallOptions>().heads = 2;
  options.policy.of<models::SmallOptions>().channels = 4;
  options.policy.of<models::SmallOptions>().action_bins = 16;
  options.policy.state_keys = {"pose"};
  options.policy.lora = {.rank = rank, .dropout = 0.2};
  options.data.augmentation = {.enabled = true, .shift_px = 1, .brightness = 0.1};
  options.data.loader = {.workers = 1, .prefetch = 2};
  options.optimizer.learning_rate = 1e-3;
  return options;
}

TEST(Resume, EqualsForTheBuiltInPolicy) {
  for (const int64_t rank : {0, 2}) {
    SCOPED_TRACE(concat("adapter rank ", rank));
    const RecordedRuns runs;
    const auto small = [&](const char* name) { return built_in(runs, name, rank); };
    train(small("whole"));
    train_interrupted_at(small("stopped"), 3);
    train(small("stopped"), ExistingRun::resume);
    expect_same_run(runs / "whole", runs / "stopped", "step-6");
    const auto metrics = metrics_of(runs / "whole");
    EXPECT_NE(metrics[5]["reward_margin"], 0);
    if (rank == 0) continue;
    // only the adapter is trained and kept twice; the policy in the checkpoint is whole
    EXPECT_TRUE(fs::exists(runs / "whole/checkpoints/step-6/policy/adapter_model.safetensors"));
    EXPECT_TRUE(fs::exists(runs / "whole/checkpoints/step-6/policy/model.safetensors"));
    const models::SafetensorsReader state(runs / "whole/checkpoints/step-6/training_state.safetensors");
    for (const std::string& name : state.names())
      EXPECT_TRUE(name.find(".lora_") != std::string::npos || name == "random.cpu") << name;
  }
}

// Without the key nothing was held: the run goes on as it was, or says which key is different now.
TEST(Resume, ARunFromBeforeThereWasAHoldHadNone) {
  const RecordedRuns runs;
  TrainingOptions options = runs.options("run");
  options.objective.reference_kl_weight = 0;
  train_interrupted_at(options, 3);
  const fs::path config = runs / "run/checkpoints/step-3/config.yaml";
  const std::string text = read_file(config);
  const size_t begin = text.find("  reference_kl_weight:");
  ASSERT_NE(begin, std::string::npos);
  write_file_atomic(config, std::string(text).erase(begin, text.find('\n', begin) + 1 - begin));
  const fs::path state_file = runs / "run/checkpoints/step-3/state.json";
  auto state = nlohmann::json::parse(read_file(state_file));
  state["version"] = 1;
  for (const char* key : {"hash", "files"}) state.erase(key);
  write_file_atomic(state_file, state.dump());
  TrainingOptions held = options;
  held.objective.reference_kl_weight = {};
  EXPECT_THAT(message_of<ConfigError>([&] { train(held, ExistingRun::resume); }),
              HasSubstr("objective.reference_kl_weight: 0 -> 3"));
  EXPECT_EQ(train(options, ExistingRun::resume).steps, 6);
}

// An adapter means nothing on other weights; the reference may come from the base (adapter) or from the past
// (cached).
TEST(Resume, RefusesAnotherBaseBeneathTheAdapter) {
  for (const auto mode : {models::ReferenceMode::adapter, models::ReferenceMode::cached}) {
    const RecordedRuns runs;
    TrainingOptions options = built_in(runs, "run", 2), other = built_in(runs, "other", 2);
    for (TrainingOptions* each : {&options, &other}) {
      each->reference.mode = mode;
      each->objective.reference_kl_weight = 0;
      each->policy.lora.dropout = 0;
    }
    other.run.seed = 8;
    train_interrupted_at(options, 3);
    train_interrupted_at(other, 3);
    const fs::path weights = "checkpoints/latest/policy/model.safetensors";
    fs::copy_file(runs / "other" / weights, runs / "run" / weights, fs::copy_options::overwrite_existing);
    const auto complaint = [&] {
      return message_of<DataError>([&] { train(options, ExistingRun::resume); });
    };
    EXPECT_THAT(complaint(), HasSubstr("model.safetensors: damaged"));
    // a checkpoint without hashes of its files
    const fs::path path = runs / "run/checkpoints/step-3/state.json";
    auto state = nlohmann::json::parse(read_file(path));
    state["version"] = 1;
    for (const char* key : {"hash", "files"}) state.erase(key);
    write_file_atomic(path, state.dump());
    EXPECT_THAT(complaint(), AllOf(HasSubstr("policy.checkpoint"), HasSubstr("cannot resume"),
                                   HasSubstr("frozen weights")));
  }
}

}  // namespace
}  // namespace apo::training
