#include "training/heaviest.h"

#include <gmock/gmock.h>
#include <torch/types.h>
#include <webp/decode.h>

#include "apo/base/error.h"
#include "apo/base/interrupt.h"
#include "apo/base/random.h"
#include "training/checkpoint.h"
#include "training/recorded_runs.h"

namespace apo::training {
namespace {

namespace fs = std::filesystem;
using apo::testing::json_lines;
using apo::testing::RecordedRuns;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A batch of samples that are told apart by their timestep.
struct Visits {
  std::vector<data::Sample> samples;
  std::vector<double> lambda, action_l1;

  Visits& add(int32_t timestep, bool desirable, double weighs, double error) {
    data::Sample sample;
    sample.index.timestep = timestep;
    sample.desirable = desirable;
    samples.push_back(sample);
    lambda.push_back(weighs);
    action_l1.push_back(error);
    return *this;
  }
  BatchOutcome outcome() const {
    BatchOutcome out;
    out.lambda = at::tensor(lambda, at::kDouble);
    out.weight = out.lambda / 2;
    out.reward = out.lambda * 3;
    out.action_l1 = at::tensor(action_l1, at::kDouble);
    return out;
  }
};

std::vector<int32_t> timesteps(const HeaviestSamples& heaviest, bool desirable) {
  std::vector<int32_t> found;
  for (const WeighedSample& sample : heaviest.samples())
    if (sample.desirable == desirable) found.push_back(sample.index.timestep);
  return found;
}

TEST(HeaviestSamples, AreOrderedByLambdaInEachGroup) {
  HeaviestSamples heaviest;
  const Visits first = Visits().add(1, true, 0.3, 1).add(2, false, 0.9, 1).add(3, true, 0.5, 1);
  const Visits second = Visits().add(4, false, 0.95, 1).add(5, true, 0.4, 1).add(6, true, 0, 9);
  heaviest.add(1, 10, first.samples, first.outcome());
  heaviest.add(2, 10, second.samples, second.outcome());
  EXPECT_THAT(timesteps(heaviest, true), ElementsAre(3, 5, 1));  // 6 counts nothing
  EXPECT_THAT(timesteps(heaviest, false), ElementsAre(4, 2));
  const WeighedSample& top = heaviest.samples().front();
  EXPECT_EQ(top.lambda, 0.5);
  EXPECT_EQ(top.weight, 0.25);
  EXPECT_EQ(top.reward, 1.5);
  EXPECT_EQ(top.step, 1);
}

// Where all weigh the same: what should have been learned and is most wrong; what should be gone and is still
// predicted.
TEST(HeaviestSamples, OfEqualLambdaAreOrderedAsAdaptiveWeightsWould) {
  HeaviestSamples heaviest;
  const Visits batch =
      Visits().add(1, true, 1, 0.2).add(2, true, 1, 0.8).add(3, false, 1, 0.7).add(4, false, 1, 0.1);
  heaviest.add(1, 10, batch.samples, batch.outcome());
  EXPECT_THAT(timesteps(heaviest, true), ElementsAre(2, 1));
  EXPECT_THAT(timesteps(heaviest, false), ElementsAre(4, 3));
}

TEST(HeaviestSamples, ListARecordedStepOnceWithItsHeaviestVisit) {
  HeaviestSamples heaviest;
  const Visits early = Visits().add(1, true, 0.6, 1).add(2, true, 0.2, 1);
  const Visits late = Visits().add(1, true, 0.1, 1).add(2, true, 0.7, 1);
  heaviest.add(1, 10, early.samples, early.outcome());
  heaviest.add(2, 10, late.samples, late.outcome());
  ASSERT_THAT(timesteps(heaviest, true), ElementsAre(2, 1));
  EXPECT_EQ(heaviest.samples()[0].step, 2);
  EXPECT_EQ(heaviest.samples()[1].step, 1);
}

TEST(HeaviestSamples, BeginAnewInTheMiddleOfTheRun) {
  HeaviestSamples heaviest;
  for (int64_t step = 1; step <= 10; ++step) {
    const Visits batch = Visits().add(static_cast<int32_t>(step), true, 1.0 / static_cast<double>(step), 1);
    heaviest.add(step, 10, batch.samples, batch.outcome());
  }
  EXPECT_EQ(heaviest.from_step(), 6);
  EXPECT_THAT(timesteps(heaviest, true), ElementsAre(6, 7, 8, 9, 10));
}

// Against sorting everything.
TEST(HeaviestSamples, AreThoseThatSortingAllVisitsWouldFind) {
  Random random(5, "visits");
  HeaviestSamples heaviest;
  std::map<int32_t, double> best[2];
  for (int64_t step = 1; step <= 60; ++step) {
    Visits batch;
    for (int i = 0; i < 7; ++i) {
      const auto timestep = static_cast<int32_t>(random.below(41));
      const bool desirable = random.below(2) == 1;
      const double lambda = random.uniform();
      batch.add(timestep, desirable, lambda, 1);
      double& top = best[desirable][timestep];
      top = std::max(top, lambda);
    }
    heaviest.add(step, 1000, batch.samples, batch.outcome());
  }
  for (const bool desirable : {false, true}) {
    std::vector<std::pair<double, int32_t>> sorted;
    for (const auto& [timestep, lambda] : best[desirable]) sorted.emplace_back(-lambda, timestep);
    std::sort(sorted.begin(), sorted.end());
    std::vector<int32_t> expected;
    for (size_t i = 0; i < HeaviestSamples::kMost; ++i) expected.push_back(sorted[i].second);
    EXPECT_EQ(timesteps(heaviest, desirable), expected) << desirable;
  }
}

json read_json(const fs::path& path) { return json::parse(read_file(path)); }

TEST(HeaviestSamplesOfARun, AreThoseThatSamplesJsonlKnows) {
  const RecordedRuns runs;
  train(runs.options("run"));
  const json written = read_json(runs / "run/heaviest_samples.json");
  EXPECT_EQ(written["from_step"], 4);
  EXPECT_EQ(written["to_step"], 6);
  for (const bool desirable : {true, false}) {
    const json& group = written[desirable ? "desirable" : "undesirable"];
    double heaviest = 0;
    const auto lines = json_lines(runs / "run/samples.jsonl");
    for (const json& line : lines)
      if (line["step"] >= 4 && line["desirable"] == desirable)
        heaviest = std::max(heaviest, line["lambda"].get<double>());
    ASSERT_FALSE(group.empty());
    EXPECT_EQ(group[0]["lambda"], heaviest);
    for (const json& entry : group) {
      const auto same = std::find_if(lines.begin(), lines.end(), [&](const json& line) {
        return line["step"] == entry["step"] && line["file"] == entry["file"] &&
               line["episode"] == entry["episode"] && line["timestep"] == entry["timestep"];
      });
      ASSERT_NE(same, lines.end()) << entry.dump();
      for (const char* field : {"weight", "lambda", "reward", "action_l1", "source"})
        EXPECT_EQ((*same)[field], entry[field]) << field;
      const std::string picture = read_file(runs / "run" / entry["picture"].get<std::string>());
      int width = 0, height = 0;
      EXPECT_TRUE(
          WebPGetInfo(reinterpret_cast<const uint8_t*>(picture.data()), picture.size(), &width, &height));
      EXPECT_EQ(width, 4);
      EXPECT_EQ(height, 4);
    }
  }
}

TEST(HeaviestSamplesOfARun, AreTheSameAfterResuming) {
  for (const int64_t stop_after : {2, 3, 5}) {
    const RecordedRuns runs;
    train(runs.options("whole"));
    TrainingOptions stopped = runs.options("stopped");
    stopped.train.eval_every = 1;
    const TrainHooks hooks = {.evaluate =
                                  [&](models::Policy&, int64_t step) {
                                    if (step == stop_after) set_interrupted(true);
                                    return std::map<std::string, double>{};
                                  },
                              .config_yaml = {}};
    EXPECT_THROW(train(stopped, ExistingRun::refuse, hooks), Interrupted);
    set_interrupted(false);
    EXPECT_EQ(read_json(runs / "stopped/heaviest_samples.json")["to_step"], stop_after);
    train(stopped, ExistingRun::resume);
    for (const char* file : {"heaviest_samples.json", "labels.json", "heaviest/desirable-1.webp"})
      EXPECT_EQ(read_file(runs / concat("whole/", file)), read_file(runs / concat("stopped/", file))) << file;
  }
}

TEST(HeaviestSamplesOfARun, BeginAnewAfterACheckpointWithoutThem) {
  const RecordedRuns runs;
  TrainingOptions options = runs.options("run");
  options.schedule.type = "constant";
  train(options);
  const fs::path state = runs / "run/checkpoints/step-6/state.json";
  json old = read_json(state);
  old["version"] = 1;
  for (const char* key : {"heaviest", "files", "hash"}) old.erase(key);
  write_file_atomic(state, old.dump());
  options.train.max_steps = 8;
  EXPECT_EQ(train(options, ExistingRun::resume).steps, 8);
  const json written = read_json(runs / "run/heaviest_samples.json");
  for (const json& entry : written["desirable"]) EXPECT_GE(entry["step"], 7);

  old["heaviest"] = {{"from_step", 1}, {"samples", {{{"file", "x"}}}}};
  write_file_atomic(state, old.dump());
  try {
    read_state(state.parent_path());
    FAIL() << "no error";
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("heaviest.samples[0].file: expected a whole number, found \"x\""));
  }
}

TEST(HeaviestSamplesOfARun, MayNotStopIt) {
  const RecordedRuns runs;
  TrainingOptions options = runs.options("run");
  options.train.eval_every = 6;
  const TrainHooks hooks = {.evaluate =
                                [&](models::Policy&, int64_t) {
                                  fs::create_directories(runs / "run/heaviest_samples.json/in the way");
                                  return std::map<std::string, double>{};
                                },
                            .config_yaml = {}};
  EXPECT_EQ(train(options, ExistingRun::refuse, hooks).steps, 6);
  EXPECT_TRUE(fs::exists(runs / "run/checkpoints/step-6/DONE"));
  EXPECT_TRUE(fs::is_directory(runs / "run/heaviest_samples.json"));
}

TEST(LabelsOfARun, AreWrittenBeforeTheFirstStep) {
  const RecordedRuns runs;
  TrainingOptions options = runs.options("run");
  train(options);
  const json labels = read_json(runs / "run/labels.json");
  EXPECT_EQ(labels["files"], 2);
  EXPECT_EQ(labels["episodes"], 6);
  // three episodes of 8 policy steps, K = 4 of them before the take-over, and 4 human ones; 18 demonstrated
  // steps
  EXPECT_EQ(labels["pools"], (json{{"desirable", 18 + 12}, {"intervention", 12}, {"undesirable", 12}}));
  EXPECT_EQ(labels["batch"], (json{{"desirable", 4}, {"intervention", 2}, {"undesirable", 2}}));
  EXPECT_EQ(labels["labels"]["interactions/undesirable: before take-over"], 12);
}

}  // namespace
}  // namespace apo::training
