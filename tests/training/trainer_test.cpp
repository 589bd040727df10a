#include "apo/training/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/interrupt.h"
#include "apo/base/metric_list.h"
#include "apo/config/options.h"
#include "apo/models/safetensors.h"
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
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory))
    names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

TEST(Train, WritesWhatARunPromises) {
  const RecordedRuns runs;
  TrainingOptions options = runs.options("run");
  options.train.checkpoint_every = 2;
  options.train.keep = 2;
  const TrainResult result = train(options);

  EXPECT_EQ(result.steps, 6);
  EXPECT_EQ(result.checkpoint, runs / "run/checkpoints/step-6");
  EXPECT_THAT(names_in(runs / "run"), ElementsAre(".lock", "apo-manifest.json", "checkpoints", "config.yaml",
                                                  "heaviest", "heaviest_samples.json", "labels.json",
                                                  "metrics.jsonl", "samples.jsonl", "tensorboard"));
  EXPECT_THAT(names_in(runs / "run/checkpoints"), ElementsAre("latest", "step-4", "step-6"));
  EXPECT_EQ(fs::read_symlink(runs / "run/checkpoints/latest"), "step-6");
  EXPECT_THAT(names_in(result.checkpoint),
              ElementsAre("DONE", "config.yaml", "policy", "reference.safetensors", "state.json",
                          "training_state.safetensors"));
  EXPECT_EQ(names_in(runs / "run/tensorboard").size(), 1u);

  const auto metrics = json_lines(runs / "run/metrics.jsonl");
  ASSERT_EQ(metrics.size(), 6u);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(metrics[i]["step"], i + 1);
    for (const char* key : {"epoch",
                            "loss",
                            "unweighted_loss",
                            "z0",
                            "reward_desirable",
                            "reward_undesirable",
                            "reward_margin",
                            "action_l1_desirable",
                            "action_l1_undesirable",
                            "lambda_desirable",
                            "lambda_undesirable",
                            "grad_norm",
                            "learning_rate",
                            "num_desirable",
                            "num_undesirable",
                            "samples_per_second",
                            "step_seconds",
                            "data_seconds",
                            "memory_bytes",
                            "z0_unclamped",
                            "z0_clamped",
                            "num_clipped_actions",
                            "num_clamped_tokens"})
      EXPECT_TRUE(metrics[i].contains(key) && metrics[i][key].is_number()) << key;
    EXPECT_DOUBLE_EQ(metrics[i]["learning_rate"],
                     learning_rate(options.optimizer, options.schedule, static_cast<int64_t>(i), 6));
    // 0.5 + 0.25 of 8 are desirable; 12 intervention steps in shares of 2 a batch are 6 steps an epoch
    EXPECT_EQ(metrics[i]["num_desirable"], 6);
    EXPECT_EQ(metrics[i]["num_undesirable"], 2);
    EXPECT_NEAR(metrics[i]["epoch"], static_cast<double>(i + 1) / 6, 1e-12);
  }
  // every name that the one list has, in its order, behind the step
  std::vector<std::string> names{"step"};
  for (const MetricInfo& metric : metric_list()) names.emplace_back(metric.name);
  std::vector<std::string> written;
  const auto first_line = nlohmann::ordered_json::parse(
      read_file(runs / "run/metrics.jsonl").substr(0, read_file(runs / "run/metrics.jsonl").find('\n')));
  for (const auto& [name, value] : first_line.items()) written.push_back(name);
  EXPECT_EQ(written, names);
  EXPECT_EQ(result.metrics.at("loss"), metrics[5]["loss"]);
  // the first step starts at the reference
  EXPECT_EQ(metrics[0]["unweighted_loss"], 0.5);
  EXPECT_EQ(metrics[0]["z0"], 0);
  EXPECT_NE(metrics[5]["z0"], 0);
}

TEST(Train, SamplesAddUpToTheMetrics) {
  const RecordedRuns runs;
  TrainingOptions options = runs.options("run");
  options.objective.preset = objective::Preset::paper;
  train(options);
  const auto metrics = json_lines(runs / "run/metrics.jsonl");
  const auto samples = json_lines(runs / "run/samples.jsonl");
  ASSERT_EQ(samples.size(), 6u * 8u);
  for (size_t step = 0; step < 6; ++step) {
    double loss = 0, reward = 0;
    for (size_t i = 8 * step; i < 8 * step + 8; ++i) {
      const auto& s = samples[i];
      EXPECT_EQ(s["step"], step + 1);
      EXPECT_EQ(s["token_log_probs"].size(), 3u);
      double log_prob = 0;
      for (const double token : s["token_log_probs"]) log_prob += token;
      EXPECT_NEAR(s["log_prob"], log_prob, 1e-5);
      EXPECT_NEAR(s["reward"].get<double>(),
                  s["log_prob"].get<double>() - s["reference_log_prob"].get<double>(), 1e-5);
      EXPECT_NEAR(s["loss"].get<double>(), s["lambda"].get<double>() * s["unweighted_loss"].get<double>(),
                  1e-6);
      loss += s["loss"].get<double>();
      if (s["desirable"]) reward += s["reward"].get<double>() / 6;
      EXPECT_EQ(s["source"] == "policy" && fs::path(s["file"]).filename() == "demos.hdf5", false);
      EXPECT_THAT(s["episode"].get<std::string>(), ::testing::StartsWith("demo_"));
    }
    EXPECT_NEAR(metrics[step]["loss"], loss, 1e-6);
    EXPECT_NEAR(metrics[step]["reward_desirable"], reward, 1e-6);
  }
}

TEST(Train, SupervisedFineTuningNeedsNoReference) {
  const RecordedRuns runs;
  TrainingOptions options = runs.options("run");
  options.objective.type = objective::ObjectiveType::sft;
  options.data.interactions.clear();
  options.data.pools = {.desirable = 1, .intervention = 0, .undesirable = 0};
  options.schedule.type = "constant";
  options.train.max_steps = 40;
  const TrainResult result = train(options);
  EXPECT_FALSE(fs::exists(result.checkpoint / "reference.safetensors"));
  const auto metrics = json_lines(runs / "run/metrics.jsonl");
  for (const char* key : {"z0", "reward_desirable", "reward_undesirable", "reward_margin",
                          "action_l1_undesirable", "lambda_undesirable", "z0_clamped"})
    EXPECT_TRUE(metrics[0][key].is_null()) << key;
  EXPECT_EQ(metrics[0]["num_undesirable"], 0);
  // and it learns
  EXPECT_LT(metrics.back()["loss"].get<double>(), 0.6 * metrics[0]["loss"].get<double>());
}

TEST(Train, EpochsAreCountedOnTheInterventionPool) {
  const RecordedRuns runs;
  TrainingOptions options = runs.options("run");
  options.train.max_steps = 0;
  options.train.epochs = 1.5;  // 12 intervention steps, 2 a batch: 6 steps an epoch
  EXPECT_EQ(train(options).steps, 9);
}

TEST(Train, ItsConfigFileReproducesTheRun) {
  const RecordedRuns runs;
  LinearPolicy::dropout = 0.3;
  train(runs.options("first"));
  const auto config =
      config::Document::from_file(runs / "first/config.yaml", {"run.dir=" + (runs / "second").string()});
  train(config::load<TrainingOptions>(config));
  EXPECT_EQ(metrics_of(runs / "first"), metrics_of(runs / "second"));
  TrainingOptions other = runs.options("third");
  other.run.seed = 8;
  train(other);
  EXPECT_NE(metrics_of(runs / "first"), metrics_of(runs / "third"));
}

TEST(Train, MicroBatchesGiveTheSameRun) {
  const RecordedRuns runs;
  TrainingOptions options = runs.options("whole");
  train(options);
  options.run.dir = (runs / "parts").string();
  options.train.micro_batch_size = 3;
  train(options);
  const auto whole = metrics_of(runs / "whole"), parts = metrics_of(runs / "parts");
  for (size_t i = 0; i < 6; ++i)
    for (const char* key : {"loss", "z0", "reward_margin", "grad_norm", "lambda_undesirable"})
      EXPECT_NEAR(whole[i][key].get<double>(), parts[i][key].get<double>(), 1e-5)
          << key << " in step " << i + 1;
}

TEST(Train, EvaluationIsWrittenAndChangesNothing) {
  const RecordedRuns runs;
  LinearPolicy::dropout = 0.3;
  TrainingOptions options = runs.options("plain");
  train(options);
  std::vector<int64_t> steps;
  const TrainHooks hooks = {.evaluate =
                                [&steps](models::Policy& policy, int64_t step) {
                                  EXPECT_FALSE(policy.training());
                                  at::rand({10});  // an evaluation may draw as it likes
                                  steps.push_back(step);
                                  return std::map<std::string, double>{{"success_rate", 0.25}};
                                },
                            .config_yaml = {}};
  options.run.dir = (runs / "evaluated").string();
  options.train.eval_every = 4;
  train(options, ExistingRun::refuse, hooks);
  EXPECT_THAT(steps, ElementsAre(4, 6));
  auto plain = metrics_of(runs / "plain"), evaluated = metrics_of(runs / "evaluated");
  EXPECT_EQ(evaluated[3]["eval/success_rate"], 0.25);
  EXPECT_FALSE(evaluated[4].contains("eval/success_rate"));
  for (auto& line : evaluated) line.erase("eval/success_rate");
  EXPECT_EQ(plain, evaluated);
}

TEST(Train, RefusesAUsedDirectoryUntilToldOtherwise) {
  const RecordedRuns runs;
  const TrainingOptions options = runs.options("run");
  train(options);
  const auto before = metrics_of(runs / "run");
  const std::string message = message_of<ConfigError>([&] { train(options); });
  EXPECT_THAT(message, HasSubstr((runs / "run").string()));
  EXPECT_THAT(message, HasSubstr("--resume"));
  EXPECT_EQ(metrics_of(runs / "run"), before);

  write_file_atomic(runs / "run/notes.txt", "mine");
  TrainingOptions shorter = options;
  shorter.train.max_steps = 2;
  train(shorter, ExistingRun::overwrite);
  EXPECT_EQ(metrics_of(runs / "run").size(), 2u);
  EXPECT_THAT(names_in(runs / "run/checkpoints"), ElementsAre("latest", "step-2"));
  EXPECT_TRUE(fs::exists(runs / "run/notes.txt"));
}

TEST(Train, AFailedOverwriteLeavesTheEarlierRun) {
  const RecordedRuns runs;
  train(runs.options("run"));
  TrainingOptions wrong = runs.options("run");
  wrong.data.expert[0].path = (runs / "missing.hdf5").string();
  message_of<DataError>([&] { train(wrong, ExistingRun::overwrite); });
  EXPECT_EQ(metrics_of(runs / "run").size(), 6u);
}

TEST(Train, RefusesADirectoryThatIsInUse) {
  const RecordedRuns runs;
  const DirectoryLock other(runs / "run");
  const std::string message = message_of<RunError>([&] { train(runs.options("run")); });
  EXPECT_THAT(message, HasSubstr("in use by another process"));
}

TEST(Train, SaysWhichOptionsContradict) {
  const RecordedRuns runs;
  TrainingOptions options = runs.options("");
  options.run.dir.clear();
  EXPECT_THAT(message_of<ConfigError>([&] { train(options); }), HasSubstr("run.dir"));
  options = runs.options("run");
  options.train.micro_batch_size = 9;
  EXPECT_THAT(message_of<ConfigError>([&] { train(options); }), HasSubstr("train.micro_batch_size"));
  options = runs.options("run");
  options.run.device = "cuda:many";
  EXPECT_THAT(message_of<ConfigError>([&] { train(options); }),
              HasSubstr("expected auto, cpu, cuda or cuda:N"));
  options = runs.options("run");
  options.data.interactions.clear();
  EXPECT_THAT(message_of<ConfigError>([&] { train(options); }), HasSubstr("pool"));
  EXPECT_FALSE(fs::exists(runs / "run/config.yaml"));
}

TEST(Train, StopsBeforeANonFiniteUpdateAndNamesTheSample) {
  const RecordedRuns runs;
  // a step whose state is finite but too large: its logits are NaN
  {
    data::TrajectoryWriter writer(runs / "broken.hdf5", apo::testing::kRecordingInfo);
    writer.begin_episode("lift the block");
    Step step = apo::testing::recorded_step(30, 0, ActionSource::expert);
    step.observation.state["pose"][1] = 1e30f;
    writer.append(step);
    writer.end_episode(true, "success");
  }
  TrainingOptions options = runs.options("run");
  options.train.checkpoint_every = 1;
  options.train.max_steps = 40;
  options.train.keep = 0;
  options.data.expert.push_back({.path = (runs / "broken.hdf5").string()});
  const std::string message = message_of<RunError>([&] { train(options); });
  EXPECT_THAT(message, HasSubstr("expected a finite loss and gradient, found loss nan"));
  EXPECT_THAT(message, HasSubstr("(1): " + (runs / "broken.hdf5").string() + " demo_0 timestep 0"));
  EXPECT_THAT(message, Not(HasSubstr("demos.hdf5")));
  // nothing of the failed step was written; the message names it and the checkpoint before it
  const auto done = metrics_of(runs / "run").size();
  EXPECT_THAT(message, HasSubstr(concat("step ", done + 1, ":")));
  if (done > 0) {
    EXPECT_THAT(message, HasSubstr((runs / concat("run/checkpoints/step-", done)).string()));
  }
  EXPECT_FALSE(fs::exists(runs / concat("run/checkpoints/step-", done + 1)));
}

TEST(Train, KeepsTheLastGoodCheckpointWhenWeightsBreak) {
  const RecordedRuns runs;
  TrainingOptions options = runs.options("run");
  options.train.checkpoint_every = 2;
  options.train.eval_every = 1;
  const TrainHooks hooks = {.evaluate =
                                [](models::Policy& policy, int64_t step) {
                                  if (step == 3) policy.named_parameters()[0].second.fill_(std::nan(""));
                                  return std::map<std::string, double>{};
                                },
                            .config_yaml = {}};
  const std::string message = message_of<RunError>([&] { train(options, ExistingRun::refuse, hooks); });
  EXPECT_THAT(message, HasSubstr("step 4:"));
  EXPECT_THAT(message, HasSubstr("(8):"));  // every sample shows it
  EXPECT_THAT(message, HasSubstr((runs / "run/checkpoints/step-2").string()));
  EXPECT_THAT(names_in(runs / "run/checkpoints"), ElementsAre("latest", "step-2"));
  // and one can go on from there
  EXPECT_EQ(train(options, ExistingRun::resume).steps, 6);
}

// A small policy that trains an adapter, as its options say.
TrainingOptions with_adapter(const RecordedRuns& runs, const char* name, const models::LoraOptions& lora) {
  TrainingOptions options = runs.options(name);
  options.policy.type = "small";
  options.policy.of<models::SmallOptions>().image_size = 16;
  options.policy.of<models::SmallOptions>().width = 16;
  options.policy.of<models::SmallOptions>().layers = 1;
  options.policy.of<models::SmallOptions>().heads = 2;
  options.policy.of<models::SmallOptions>().channels = 4;
  options.policy.of<models::SmallOptions>().action_bins = 16;
  options.policy.state_keys = {"pose"};
  options.policy.lora = lora;
  options.objective.z0 = objective::Z0Estimator::exact;
  options.train.max_steps = 2;
  return options;
}

// Whatever drops, drops in both: before the first update policy and reference are one.
TEST(Dropout, GivesNoRewardsToAPolicyThatIsItsReference) {
  const RecordedRuns runs;
  train(with_adapter(runs, "base", {.rank = 2, .dropout = 0.1}));
  for (const double dropout : {0.0, 0.3})
    for (const auto mode : {models::ReferenceMode::adapter, models::ReferenceMode::copy})
      for (const int64_t micro_batch : {0, 3}) {
        const std::string name = concat("run", dropout, static_cast<int>(mode), micro_batch);
        TrainingOptions options = with_adapter(runs, name.c_str(), {.dropout = dropout});
        options.policy.checkpoint = (runs / "base").string();  // its adapter was trained with dropout 0.1
        options.reference.mode = mode;
        options.train.micro_batch_size = micro_batch;
        ::testing::internal::CaptureStderr();
        train(options);
        const std::string said = ::testing::internal::GetCapturedStderr();
        const auto metrics = metrics_of(runs / name);
        for (const char* key : {"reward_desirable", "reward_undesirable", "reward_margin"})
          EXPECT_EQ(metrics[0][key], 0.0) << key << " " << name;
        EXPECT_NEAR(metrics[0]["z0"].get<double>(), 0, 1e-7) << name;
        EXPECT_NE(metrics[1]["reward_margin"], 0.0) << name;
        EXPECT_EQ(said.find("policy.lora.dropout: 0.3") != std::string::npos, dropout > 0) << said;
      }
}

// Rank, alpha and targets of a loaded adapter are its own, and it is what trains.
TEST(Train, GoesOnWithTheAdapterThatItIsGiven) {
  const RecordedRuns runs;
  train(with_adapter(runs, "base", {.rank = 2, .alpha = 3, .target_modules = "qkv,fc1"}));
  TrainingOptions options = with_adapter(runs, "more", {});
  options.policy.checkpoint = (runs / "base").string();
  train(options);
  const auto config =
      nlohmann::json::parse(read_file(runs / "more/checkpoints/latest/policy/adapter_config.json"));
  EXPECT_EQ(config["r"], 2);
  EXPECT_EQ(config["lora_alpha"], 3);
  EXPECT_EQ(config["target_modules"], (nlohmann::json{"fc1", "qkv"}));
  const models::SafetensorsReader before(runs / "base/checkpoints/latest/policy/model.safetensors"),
      after(runs / "more/checkpoints/latest/policy/model.safetensors");
  for (const std::string& name : before.names())
    EXPECT_TRUE(before.tensor(name).equal(after.tensor(name))) << name;
  // all weights train where the config says so
  options.run.dir = (runs / "merged").string();
  options.policy.lora.merge = true;
  train(options);
  EXPECT_FALSE(fs::exists(runs / "merged/checkpoints/latest/policy/adapter_config.json"));
  EXPECT_FALSE(models::SafetensorsReader(runs / "merged/checkpoints/latest/policy")
                   .tensor("head.weight")
                   .equal(before.tensor("head.weight")));
}

TEST(DryRun, SaysWhatWouldHappenAndTouchesNothing) {
  const RecordedRuns runs;
  std::ostringstream out;
  dry_run(runs.options("run"), out);
  // 3 · 6 expert + 3 · 4 policy steps desirable, 3 · 4 human, 3 · 4 before a take-over
  EXPECT_THAT(out.str(), HasSubstr("30  desirable pool, 4 of 8 samples of a batch"));
  EXPECT_THAT(out.str(), HasSubstr("12  intervention pool, 2 of 8"));
  EXPECT_THAT(out.str(), HasSubstr("12  undesirable pool, 2 of 8"));
  EXPECT_THAT(out.str(), HasSubstr("130 parameters, 130 trained, on cpu"));  // 5·3 + 10·5 + 3·5 + 10·5
  for (const char* part : {"weights", "reference", "gradients", "optimizer", "activations"})
    EXPECT_THAT(out.str(), HasSubstr(part));
  EXPECT_THAT(out.str(), HasSubstr("steps        6 of 8 samples; 1 epochs of 6 steps"));
  EXPECT_FALSE(fs::exists(runs / "run"));
}

TEST(DryRun, FindsWhatIsWrong) {
  const RecordedRuns runs;
  std::ostringstream out;
  TrainingOptions options = runs.options("run");
  options.reference.mode = models::ReferenceMode::adapter;
  EXPECT_THAT(message_of<ConfigError>([&] { dry_run(options, out); }), HasSubstr("reference.mode"));
  options = runs.options("run");
  options.policy.type = "linaer";
  EXPECT_THAT(message_of<ConfigError>([&] { dry_run(options, out); }), HasSubstr("did you mean \"linear\"?"));
  options = runs.options("run");
  options.data.filter.max_abs_action = 1e-6;
  EXPECT_THAT(message_of<DataError>([&] { dry_run(options, out); }), HasSubstr("filters leave out"));
  EXPECT_THAT(message_of<DataError>([&] { train(options); }), HasSubstr("filters leave out"));
}

}  // namespace
}  // namespace apo::training
