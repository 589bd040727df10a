// Where the time of a step went, and that asking for it changes no number.
#include "training/profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/training/trainer.h"
#include "support/message_of.h"
#include "training/recorded_runs.h"

namespace apo::training {
namespace {

using apo::testing::message_of;
using apo::testing::RecordedRuns;
using ::testing::AllOf;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;

using Row = StepProfile::Row;

constexpr int64_t kMs = 1'000'000;

auto row(const std::string& name, double milliseconds, double calls) {
  return AllOf(Field(&Row::name, name), Field(&Row::seconds, DoubleNear(milliseconds * 1e-3, 1e-12)),
               Field(&Row::calls, DoubleNear(calls, 1e-12)));
}

// Two steps of 10 and 20 ms: a part with a product within an operator, and one called twice.
std::vector<ProfiledEvent> two_steps() {
  return {{"apo::step", 0, 10 * kMs},          {"apo::policy", 1 * kMs, 7 * kMs},
          {"aten::linear", 2 * kMs, 6 * kMs},  {"aten::mm", 3 * kMs, 5 * kMs, /*flop=*/8'000'000},
          {"apo::backward", 7 * kMs, 9 * kMs}, {"apo::step", 10 * kMs, 30 * kMs},
          {"apo::policy", 11 * kMs, 13 * kMs}, {"aten::mm", 11 * kMs, 13 * kMs, /*flop=*/8'000'000},
          {"apo::policy", 13 * kMs, 17 * kMs}};
}

TEST(StepProfile, PartsAndOperatorsAddUpToTheStep) {
  const StepProfile profile = step_profile(two_steps(), 2);
  EXPECT_DOUBLE_EQ(profile.seconds, 0.015);
  EXPECT_THAT(profile.parts,
              ElementsAre(row("policy", 6, 1.5), row("backward", 1, 0.5), row("everything else", 8, 1)));
  // by itself: linear 4 - 2 ms in one of two steps
  EXPECT_THAT(profile.operators, ElementsAre(row("aten::mm", 2, 1), row("aten::linear", 1, 0.5)));
  EXPECT_DOUBLE_EQ(profile.flop, 8e6);
  EXPECT_DOUBLE_EQ(profile.product_seconds, 0.002);
}

TEST(StepProfile, EventsMayComeInAnyOrder) {
  std::vector<ProfiledEvent> events = two_steps();
  std::ranges::reverse(events);
  EXPECT_EQ(step_profile(events, 2).markdown(), step_profile(two_steps(), 2).markdown());
}

TEST(StepProfile, CountsWhatTheProfilerDoesNot) {
  EXPECT_EQ(flop_of("aten::mm", {{2, 3}, {3, 4}}, 48), 48);
  EXPECT_EQ(flop_of("mkldnn::_linear_pointwise", {{2, 3, 4}, {5, 4}}, 0), 240);
  EXPECT_EQ(flop_of("aten::addmm_", {{2, 4}, {2, 3}, {3, 4}}, 0), 48);
  // 2 heads of 3 queries and 5 keys, 4 wide: two products, five going back
  const std::vector<std::vector<int64_t>> attention = {{1, 2, 3, 4}, {1, 2, 5, 4}, {1, 2, 5, 4}};
  EXPECT_EQ(flop_of("aten::_scaled_dot_product_flash_attention_for_cpu", attention, 0), 480);
  EXPECT_EQ(flop_of("aten::_scaled_dot_product_flash_attention_for_cpu_backward",
                    {{1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2, 5, 4}}, 0),
            1200);
  EXPECT_EQ(flop_of("aten::mul", {{2, 3}, {2, 3}}, 6), 0);
}

TEST(StepProfile, KernelsOfADeviceStandApart) {
  std::vector<ProfiledEvent> events = two_steps();
  events.push_back({"gemm", 4 * kMs, 24 * kMs, 0, /*on_device=*/true});
  const StepProfile profile = step_profile(events, 2);
  EXPECT_THAT(profile.kernels, ElementsAre(row("gemm", 10, 0.5)));
  EXPECT_THAT(profile.operators, ElementsAre(row("aten::mm", 2, 1), row("aten::linear", 1, 0.5)));
}

TEST(StepProfile, SaysTheShareOfWhatTheMachineCan) {
  StepProfile profile = step_profile(two_steps(), 2);
  profile.peak_flops = 10e9;
  profile.peak_of = "2048 x 2048 Float";
  // 8 MFLOP in 15 ms are 0.533 GFLOP/s, in 2 ms 4 GFLOP/s
  EXPECT_THAT(profile.markdown(), AllOf(HasSubstr("| policy | 6.00 | 40.0 % |"),
                                        HasSubstr("| `aten::mm` | 1.0 | 2.00 | 13.3 % | 0.01 |"),
                                        HasSubstr("0.5 GFLOP/s: **5.3 %**"), HasSubstr("alone 40.0 %")));
}

TEST(Train, AProfileIsWrittenAndChangesNoNumber) {
  const RecordedRuns runs;
  TrainingOptions options = runs.options("plain");
  const TrainResult plain = train(options);
  options = runs.options("profiled");
  const TrainResult profiled = train(options, ExistingRun::refuse, {.profile_steps = 2});
  EXPECT_EQ(plain.metrics.at("loss"), profiled.metrics.at("loss"));
  EXPECT_FALSE(std::filesystem::exists(runs / "plain/profile.md"));

  const std::string table = read_file(runs / "profiled/profile.md");
  for (const char* part : {"waiting for data", "observations and actions", "policy", "head and scores",
                           "reference", "objective", "backward", "optimizer", "everything else"})
    EXPECT_THAT(table, HasSubstr(std::string("\n| ") + part + " | "));
  EXPECT_THAT(table, AllOf(HasSubstr("Means of 2 steps"), HasSubstr("GFLOP/s"), HasSubstr("`aten::mm`")));
  const auto trace = nlohmann::json::parse(read_file(runs / "profiled/profile.trace.json"));
  int64_t steps = 0;
  for (const auto& event : trace["traceEvents"]) steps += event.value("name", "") == "apo::step";
  EXPECT_EQ(steps, 2);
  // these files are the run's, which may be begun anew
  EXPECT_EQ(train(options, ExistingRun::overwrite).steps, 6);
  EXPECT_FALSE(std::filesystem::exists(runs / "profiled/profile.trace.json"));
}

TEST(Train, AProfileOfMoreStepsThanThereAreIsRefused) {
  const RecordedRuns runs;
  const std::string message =
      message_of<ConfigError>([&] { train(runs.options("run"), ExistingRun::refuse, {.profile_steps = 4}); });
  EXPECT_EQ(
      message,
      "--profile: expected at most 3 of the 6 steps that are left (the first 3 are not recorded), found 4");
}

}  // namespace
}  // namespace apo::training
