// Nothing is made of a damaged checkpoint, nor of a base that changes beneath a run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/models/policy.h"
#include "apo/models/safetensors.h"
#include "apo/training/trainer.h"
#include "models/checkpoints/checkpoint_files.h"
#include "support/byte_flips.h"
#include "support/message_of.h"
#include "training/checkpoint.h"
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

std::vector<std::string> files_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(directory))
    if (entry.is_regular_file() && entry.file_size() > 0 && entry.path().filename() != "DONE")
      names.push_back(entry.path().lexically_relative(directory).string());
  std::ranges::sort(names);
  return names;
}

// A small adapted policy, so that every kind of file is in its checkpoints: steps 2, 4 and 6.
TrainingOptions adapted(const RecordedRuns& runs, const char* name) {
  TrainingOptions options = runs.options(name);
  options.policy.type = "small";
  options.policy.of<models::SmallOptions>().image_size = 16;
  options.policy.of<models::SmallOptions>().width = 16;
  options.policy.of<models::SmallOptions>().layers = 1;
  options.policy.of<models::SmallOptions>().heads = 2;
  options.policy.of<models::SmallOptions>().channels = 4;
  options.policy.of<models::SmallOptions>().action_bins = 16;
  options.policy.state_keys = {"pose"};
  options.policy.lora = {.rank = 2};
  options.optimizer.learning_rate = 1e-3;
  options.train.checkpoint_every = 2;
  return options;
}

class Integrity : public ::testing::Test {
 protected:
  Integrity() { train(options); }
  std::string complaint_of_resuming() const {
    return message_of<DataError>([&] { train(options, ExistingRun::resume); });
  }
  static std::string complaint_of_loading(const fs::path& path) {
    return message_of<DataError>([&] { models::load_policy(path, at::kCPU); });
  }
  const RecordedRuns runs;
  const TrainingOptions options = adapted(runs, "run");
  const fs::path checkpoints = runs / "run/checkpoints", newest = checkpoints / "step-6";
};

TEST_F(Integrity, EveryFileOfACheckpointIsChecked) {
  const std::vector<std::string> files = files_in(newest);
  EXPECT_THAT(files, ::testing::IsSupersetOf({"config.yaml", "policy/adapter_config.json",
                                              "policy/adapter_model.safetensors", "policy/config.json",
                                              "policy/dataset_statistics.json", "policy/model.safetensors",
                                              "policy/preprocessor_config.json", "reference.safetensors",
                                              "state.json", "training_state.safetensors"}));
  for (const std::string& file : files) {
    SCOPED_TRACE(file);
    const fs::path path = newest / file;
    const std::string whole = read_file(path);
    for (const size_t at : {size_t{0}, whole.size() / 3, whole.size() / 2, whole.size() - 1}) {
      std::string flipped = whole;
      flipped[at] ^= 1;
      write_file_atomic(path, flipped);
      EXPECT_THAT(complaint_of_resuming(),
                  AllOf(HasSubstr(path.string()), HasSubstr("the checkpoint beside it is whole: " +
                                                            (checkpoints / "step-4").string())));
      if (file.starts_with("policy/")) {
        for (const fs::path& named : {newest / "policy", newest, runs / "run"})
          EXPECT_THAT(complaint_of_loading(named),
                      HasSubstr(fs::path(file).filename().string() + ": damaged"));
      }
    }
    write_file_atomic(path, whole.substr(0, whole.size() / 2));
    EXPECT_THAT(complaint_of_resuming(), HasSubstr(path.string()));
    fs::remove(path);
    EXPECT_THAT(complaint_of_resuming(), HasSubstr(path.string()));
    write_file_atomic(path, whole);
  }
  EXPECT_EQ(complaint_of_resuming(), "(nothing thrown)");
  EXPECT_EQ(complaint_of_loading(runs / "run"), "(nothing thrown)");
}

// Any byte of any file, before anything is made of it.
TEST(ByteFlips, EachInACheckpointIsRefused) {
  const RecordedRuns runs;
  train(adapted(runs, "run"));
  const fs::path checkpoint = runs / "run/checkpoints/step-6";
  for (const std::string& file : files_in(checkpoint)) {
    const std::string whole = read_file(checkpoint / file);
    bool is_original = true;  // the first reading
    const testing::FlipCounts counts = testing::flip_bytes(
        checkpoint / file, checkpoint / file, 200,
        [&]() -> std::string {
          if (std::exchange(is_original, false)) return "whole";
          read_state(checkpoint);
          models::check_files(checkpoint);
          return "not noticed";
        },
        [&file](size_t byte, const std::string& what) {
          ADD_FAILURE() << file << ", byte " << byte << ": " << what;
        });
    EXPECT_GT(counts.refused, 0);
    write_file_atomic(checkpoint / file, whole);
  }
}

TEST_F(Integrity, AStateWithoutItsHashIsNoOlderState) {
  const std::string whole = read_file(newest / "state.json");
  for (const char* key : {"hash", "files"}) {
    std::string changed = whole;
    changed.replace(changed.find(concat("\"", key, "\"")) + 1, 4, "xxxx");
    write_file_atomic(newest / "state.json", changed);
    EXPECT_THAT(complaint_of_resuming(), HasSubstr("state.json"));
    EXPECT_THAT(message_of<DataError>([&] { read_state(newest); }), HasSubstr("state.json: damaged"));
  }
}

TEST_F(Integrity, NamesTheNewestThatIsWhole) {
  for (const char* step : {"step-6", "step-4"})
    write_file_atomic(checkpoints / step / "config.yaml", "run: {}\n");
  EXPECT_THAT(complaint_of_resuming(), AllOf(HasSubstr("step-6/config.yaml: damaged"),
                                             HasSubstr("is whole: " + (checkpoints / "step-2").string())));
  fs::remove_all(newest);
  fs::remove_all(checkpoints / "step-4");
  EXPECT_EQ(train(options, ExistingRun::resume).steps, 6);
  write_file_atomic(checkpoints / "step-2/config.yaml", "run: {}\n");
  write_file_atomic(checkpoints / "step-4/config.yaml", "run: {}\n");
  write_file_atomic(newest / "config.yaml", "run: {}\n");
  EXPECT_THAT(complaint_of_resuming(),
              AllOf(HasSubstr("step-6/config.yaml: damaged"), Not(HasSubstr("is whole"))));
}

// What a run of an earlier release left.
TEST_F(Integrity, OlderCheckpointsGoOn) {
  TrainingOptions stopped = adapted(runs, "older");
  train(stopped);
  for (const char* step : {"step-6", "step-4"}) fs::remove_all(runs / "older/checkpoints" / step);
  const fs::path path = runs / "older/checkpoints/step-2/state.json";
  auto state = nlohmann::ordered_json::parse(read_file(path));
  state["version"] = 1;
  for (const char* key : {"hash", "files", "cached_reference_hash"}) state.erase(key);
  write_file_atomic(path, state.dump());
  // the options of small and openvla stood in `policy` itself
  const fs::path config = path.parent_path() / "config.yaml";
  std::istringstream lines(read_file(config));
  std::string older;
  bool in_kind = false;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("    ")) in_kind = line.starts_with("  small:") || line.starts_with("  openvla:");
    const auto is_younger = [&line](const char* key) { return line.starts_with(concat("    ", key, ":")); };
    if (!in_kind)
      older += line + "\n";
    else if (line.starts_with("    ") &&
             std::ranges::none_of(std::array{"chunk_steps", "horizon", "quantization", "resize",
                                             "score_among", "speculative", "stop_token"},
                                  is_younger))
      older += line.substr(2) + "\n";
  }
  EXPECT_THAT(older, HasSubstr("\n  image_size: "));
  EXPECT_THAT(older, HasSubstr("\n  dtype: "));
  write_file_atomic(config, older);
  EXPECT_EQ(train(stopped, ExistingRun::resume).steps, 6);
  EXPECT_EQ(metrics_of(runs / "older"), metrics_of(runs / "run"));
}

// A config without groups is from before there were any: its weights were those of the whole batch.
TEST_F(Integrity, ARunFromBeforeGroupsGoesOnAsItWas) {
  TrainingOptions stopped = adapted(runs, "ungrouped");
  stopped.objective.preset = objective::Preset::paper;
  stopped.objective.weights.group_size = 0;
  train(stopped);
  for (const char* step : {"step-6", "step-4"}) fs::remove_all(runs / "ungrouped/checkpoints" / step);
  const fs::path directory = runs / "ungrouped/checkpoints/step-2";
  auto state = nlohmann::ordered_json::parse(read_file(directory / "state.json"));
  state["version"] = 1;
  for (const char* key : {"hash", "files"}) state.erase(key);
  write_file_atomic(directory / "state.json", state.dump());
  std::istringstream lines(read_file(directory / "config.yaml"));
  std::string older;
  for (std::string line; std::getline(lines, line);)
    if (line.find("group_size:") == std::string::npos && line.find("preset:") == std::string::npos)
      older += line + "\n";
  write_file_atomic(directory / "config.yaml", older);
  TrainingOptions grouped = stopped;
  grouped.objective.weights.group_size = 8;
  EXPECT_THAT(message_of<ConfigError>([&] { train(grouped, ExistingRun::resume); }),
              HasSubstr("objective.weights.group_size: 0 -> 8"));
  EXPECT_EQ(train(stopped, ExistingRun::resume).steps, 6);
}

// A policy that keeps its weights in the file, as large ones do.
class MappedPolicy : public apo::testing::LinearPolicy {
 public:
  MappedPolicy() : LinearPolicy(1) {}
  static inline fs::path file;
  static void enroll() {
    models::register_policy(
        "mapped", {.create =
                       [](const models::PolicyOptions&, const models::DataFacts&, uint64_t, at::Device) {
                         auto policy = std::make_unique<MappedPolicy>();
                         policy->frozen_ = models::SafetensorsReader(file).tensor("base");
                         return policy;
                       },
                   .load = nullptr});
  }
  // Equal, as every policy of seed 1 is before its first update, and too large a reference to be stored.
  std::unique_ptr<models::Policy> clone() const override {
    auto copy = std::make_unique<MappedPolicy>();
    copy->frozen_ = is_large ? at::zeros({1}).expand({kLargestStoredReferenceBytes}) : frozen_;
    return copy;
  }
  static inline bool is_large = false;
  models::NamedTensors named_parameters() const override {
    auto all = LinearPolicy::named_parameters();
    all.emplace_back("base", frozen_);
    return all;
  }

 private:
  at::Tensor frozen_;
};

class ChangingBase : public ::testing::Test {
 protected:
  ChangingBase() {
    MappedPolicy::enroll();
    models::write_safetensors(base, {{"base", at::zeros({5000})}});
    MappedPolicy::file = base;
    options.policy.type = "mapped";
    options.objective.type = objective::ObjectiveType::sft;
    options.train.checkpoint_every = 2;
    options.train.eval_every = 1;
  }
  std::string complaint(const std::function<void()>& during_step_3) {
    const TrainHooks hooks = {.evaluate =
                                  [&](models::Policy&, int64_t step) {
                                    if (step == 3) during_step_3();
                                    return std::map<std::string, double>{};
                                  },
                              .config_yaml = {}};
    return message_of<DataError>([&] { train(options, ExistingRun::refuse, hooks); });
  }
  const RecordedRuns runs;
  const fs::path base = runs / "base.safetensors";
  TrainingOptions options = runs.options("run");
};

TEST_F(ChangingBase, IsRefusedAtTheNextCheckpoint) {
  const std::string message = complaint([&] {
    std::fstream file(base, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(base)) - 100);
    file.put('x');
    file.close();
    fs::last_write_time(base, fs::last_write_time(base) + std::chrono::seconds(2));
  });
  EXPECT_THAT(message,
              AllOf(HasSubstr(base.string() + ": was written to while the run reads it"),
                    HasSubstr("nothing was saved after " + (runs / "run/checkpoints/step-2").string())));
  EXPECT_FALSE(fs::exists(runs / "run/checkpoints/step-4"));
}

TEST_F(ChangingBase, ATouchedOneIsTheSame) {
  EXPECT_EQ(
      complaint([&] { fs::last_write_time(base, fs::last_write_time(base) + std::chrono::seconds(2)); }),
      "(nothing thrown)");
  EXPECT_TRUE(fs::exists(runs / "run/checkpoints/step-6/DONE"));
}

TEST_F(ChangingBase, ATouchedOneIsTheSameBeneathAReferenceThatIsNotStored) {
  MappedPolicy::is_large = true;
  options.objective = runs.options("run").objective;
  EXPECT_EQ(
      complaint([&] { fs::last_write_time(base, fs::last_write_time(base) + std::chrono::seconds(2)); }),
      "(nothing thrown)");
  MappedPolicy::is_large = false;
  const TrainingState state = read_state(runs / "run/checkpoints/step-6");
  EXPECT_FALSE(state.reference_stored);
  EXPECT_NE(state.policy_hash, "");
  EXPECT_NE(state.frozen_hash, "");
}

TEST_F(ChangingBase, ATruncatedOrReplacedOneIsNamed) {
  EXPECT_THAT(complaint([&] { fs::resize_file(base, 100); }), HasSubstr("base.safetensors: was cut short"));
  models::write_safetensors(base, {{"base", at::zeros({5000})}});
  options.run.dir = (runs / "second").string();
  EXPECT_THAT(complaint([&] {
                models::write_safetensors(base, {{"base", at::ones({5000})}});
              }),
              HasSubstr("base.safetensors: was replaced by another file"));
}

}  // namespace
}  // namespace apo::training
