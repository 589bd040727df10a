// reference.mode cached is a run with a second policy, without the second policy.
#include "training/cached_reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "apo/base/error.h"
#include "apo/base/interrupt.h"
#include "support/message_of.h"
#include "training/recorded_runs.h"

namespace apo::training {
namespace {

namespace fs = std::filesystem;
using apo::testing::expect_near_metrics;
using apo::testing::LinearPolicy;
using apo::testing::message_of;
using apo::testing::metrics_of;
using apo::testing::RecordedRuns;
using objective::ObjectiveType;
using objective::Z0Estimator;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kFile = "cached_reference.safetensors";

TrainingOptions cached(TrainingOptions options) {
  options.reference.mode = models::ReferenceMode::cached;
  options.objective.reference_kl_weight = 0;
  return options;
}

// Augmentation, prefetching threads, micro-batches and pairs: whatever makes a batch what it is. (Dropout
// cannot be: a second policy drops what the policy drops.)
TEST(CachedReference, EqualsASecondPolicy) {
  for (const auto& [type, z0] :
       std::vector<std::pair<ObjectiveType, Z0Estimator>>{{ObjectiveType::apo, Z0Estimator::shifted_labels},
                                                          {ObjectiveType::apo, Z0Estimator::none},
                                                          {ObjectiveType::kto, Z0Estimator::mismatched},
                                                          {ObjectiveType::tpo, Z0Estimator::none}})
    for (const int64_t micro_batch : {0, 3}) {
      SCOPED_TRACE(concat("objective ", static_cast<int>(type), ", z0 ", static_cast<int>(z0),
                          ", micro-batch ", micro_batch));
      const RecordedRuns runs;
      TrainingOptions options = runs.options("copy");
      options.objective.reference_kl_weight = 0;
      options.objective.type = type;
      options.objective.z0 = z0;
      options.data.augmentation = {.enabled = true, .shift_px = 1};
      options.data.loader = {.workers = 2, .prefetch = 2};
      options.train.micro_batch_size = micro_batch;
      options.reference.mode = models::ReferenceMode::copy;
      train(options);
      options.run.dir = (runs / "cached").string();
      train(cached(options));
      expect_near_metrics(runs / "copy", runs / "cached");
      EXPECT_TRUE(fs::exists(runs / "cached" / kFile));
      EXPECT_FALSE(fs::exists(runs / "cached/checkpoints/step-6/reference.safetensors"));
    }
}

TEST(CachedReference, RewardsAreZeroBeforeTheFirstUpdate) {
  const RecordedRuns runs;
  TrainingOptions options = cached(runs.options("run"));
  options.objective.z0 = Z0Estimator::mismatched;
  train(options);
  const auto first = metrics_of(runs / "run").front();
  EXPECT_EQ(first["reward_desirable"], 0.0);
  EXPECT_EQ(first["reward_undesirable"], 0.0);
  EXPECT_EQ(first["z0"], 0.0);
  EXPECT_EQ(first["unweighted_loss"], 0.5);
}

// A resumed run cannot compute it anew: the policy has moved.
TEST(CachedReference, ResumedEqualsNeverHavingStopped) {
  const RecordedRuns runs;
  train(cached(runs.options("whole")));
  TrainingOptions stopped = cached(runs.options("stopped"));
  stopped.train.eval_every = 3;
  const TrainHooks hooks = {.evaluate = [](models::Policy&, int64_t) -> std::map<std::string, double> {
                              throw Interrupted("in the middle of an episode");
                            },
                            .config_yaml = {}};
  EXPECT_THROW(train(stopped, ExistingRun::refuse, hooks), Interrupted);
  EXPECT_EQ(train(stopped, ExistingRun::resume).steps, 6);
  EXPECT_EQ(metrics_of(runs / "stopped"), metrics_of(runs / "whole"));

  std::string bytes = read_file(runs / "stopped" / kFile);
  bytes[bytes.size() - 3] ^= 1;
  write_file_atomic(runs / "stopped" / kFile, bytes);
  EXPECT_THAT(message_of<DataError>([&] { train(stopped, ExistingRun::resume); }),
              AllOf(HasSubstr(kFile), HasSubstr("damaged")));
  fs::remove(runs / "stopped" / kFile);
  EXPECT_THAT(message_of<DataError>([&] { train(stopped, ExistingRun::resume); }), HasSubstr(kFile));
}

TEST(CachedReference, ASpoiltFileIsNamed) {
  const apo::testing::TempDir directory;
  const fs::path file = directory / kFile;
  CachedReference cached;
  cached.add({at::full({2, 3}, std::nan("")), at::Tensor()});
  cached.write(file);
  EXPECT_THAT(message_of<DataError>([&] { CachedReference::read(file); }),
              AllOf(HasSubstr(file.string()), HasSubstr("0.tokens"), HasSubstr("not finite")));
}

TEST(CachedReference, ARunThatWasInterruptedWhileComputingItBeginsAnew) {
  const RecordedRuns runs;
  const TrainingOptions options = cached(runs.options("run"));
  set_interrupted(true);
  EXPECT_THAT(message_of<Interrupted>([&] { train(options); }), HasSubstr("nothing was trained"));
  set_interrupted(false);
  EXPECT_FALSE(fs::exists(runs / "run" / kFile));
  EXPECT_EQ(train(options, ExistingRun::resume).steps, 6);
}

TEST(CachedReference, SaysWhatItCannotDo) {
  const RecordedRuns runs;
  TrainingOptions options = cached(runs.options("run"));
  options.objective.z0 = Z0Estimator::exact;
  EXPECT_THAT(message_of<ConfigError>([&] { train(options); }), HasSubstr("reference.mode: cached"));
  EXPECT_FALSE(fs::exists(runs / "run"));

  options.objective.z0 = Z0Estimator::none;
  options.objective.reference_kl_weight = 0.5;
  EXPECT_THAT(message_of<ConfigError>([&] { train(options); }),
              AllOf(HasSubstr("reference.mode: cached"), HasSubstr("objective.reference_kl_weight"),
                    HasSubstr("found 0.5")));
  EXPECT_FALSE(fs::exists(runs / "run"));
  options.objective.reference_kl_weight = 0;
  options.policy.lora = {.rank = 2, .dropout = 0.1};
  EXPECT_THAT(
      message_of<ConfigError>([&] { train(options); }),
      AllOf(HasSubstr("policy.lora.dropout"), HasSubstr("reference.mode: cached"), HasSubstr("found 0.1")));
  EXPECT_FALSE(fs::exists(runs / "run"));
  options.policy.lora = {};

  options.schedule.type = "constant";
  train(options);
  options.train.max_steps = 9;
  EXPECT_THAT(message_of<DataError>([&] { train(options, ExistingRun::resume); }),
              HasSubstr("of 9 steps, found 6"));
}

}  // namespace
}  // namespace apo::training
