// What training looks at before its first step: whether the recordings suit the checkpoint.
#include "training/setup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "support/message_of.h"
#include "training/recorded_runs.h"

namespace apo::training {
namespace {

using apo::testing::message_of;
using apo::testing::RecordedRuns;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// A small policy made for the recordings, whose gripper knows -1 and 1.
class BeforeTheFirstStep : public ::testing::Test {
 protected:
  BeforeTheFirstStep() : options_(runs_.options("run")) {
    options_.policy.type = "small";
    options_.policy.of<models::SmallOptions>().image_size = 16;
    options_.policy.of<models::SmallOptions>().width = 16;
    options_.policy.of<models::SmallOptions>().layers = 1;
    options_.policy.state_keys.clear();
    const auto dataset = open_data(options_);
    std::filesystem::create_directory(checkpoint());
    starting_policy(options_, *dataset, at::kCPU)->save(checkpoint());
    options_.policy.checkpoint = checkpoint();
  }
  std::string checkpoint() const { return (runs_ / "checkpoint").string(); }
  std::string complaint() {
    return message_of<DataError>([&] { open_data(options_); });
  }
  // Other statistics of the action's dimension `j` in the checkpoint.
  void set(size_t j, double q01, double q99, double mean, double std) {
    const std::filesystem::path path = runs_ / "checkpoint/dataset_statistics.json";
    nlohmann::json json = nlohmann::json::parse(read_file(path));
    nlohmann::json& action = json.begin().value()["action"];
    action["q01"][j] = action["min"][j] = q01;
    action["q99"][j] = action["max"][j] = q99;
    action["mean"][j] = mean;
    action["std"][j] = std;
    write_file_atomic(path, json.dump());
  }
  RecordedRuns runs_;
  TrainingOptions options_;
};

TEST_F(BeforeTheFirstStep, RecordingsLikeTheCheckpointsSuit) { EXPECT_EQ(complaint(), "(nothing thrown)"); }

TEST_F(BeforeTheFirstStep, AGripperOfAnotherRangeIsRefused) {
  set(1, 0, 1, 0.5, 0.5);
  EXPECT_THAT(complaint(),
              AllOf(HasSubstr("the recordings do not suit the policy " + checkpoint() +
                              ": dimension 1 (gripper): the "
                              "expert steps command -1..1, the checkpoint 0..1"),
                    HasSubstr("data.checks=warn trains on them as they are"), Not(HasSubstr("dimension 0"))));
  EXPECT_TRUE(open_data(options_, checkpoint()));  // a run that began so goes on
  options_.data.checks = data::DataChecks::warn;
  EXPECT_EQ(complaint(), "(nothing thrown)");
}

TEST_F(BeforeTheFirstStep, AGripperThatIsSaidIsMapped) {
  set(1, 0, 1, 0.5, 0.5);
  options_.policy.gripper = {.dimension = {}, .open = 1.0, .closed = 0.0};
  for (auto* sources : {&options_.data.expert, &options_.data.interactions})
    for (data::SourceOptions& source : *sources)
      source.gripper = {.dimension = {}, .open = -1.0, .closed = 1.0};
  const auto dataset = open_data(options_);
  for (const data::StepIndex& index : dataset->kept_steps()) {
    const float command = dataset->sample_without_observation(index).actions[0][1];
    EXPECT_TRUE(command == 0 || command == 1) << command;
  }
}

TEST_F(BeforeTheFirstStep, ActionsThatWouldMostlyBeClippedAreRefused) {
  set(0, -0.2, 0.2, 0, 0.1);
  EXPECT_THAT(complaint(), AllOf(HasSubstr("dimension 0: "), HasSubstr("expert steps ("),
                                 HasSubstr("lie outside the checkpoint's q01..q99 (-0.2..0.2)")));
}

}  // namespace
}  // namespace apo::training
