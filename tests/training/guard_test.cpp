// The guard on series of numbers, and in runs.
#include "training/guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/random.h"
#include "support/message_of.h"
#include "training/recorded_runs.h"

namespace apo::training {
namespace {

namespace fs = std::filesystem;
using apo::testing::metrics_of;
using apo::testing::RecordedRuns;
using apo::testing::TempDir;
using objective::ObjectiveOptions;
using objective::ObjectiveType;
using objective::Preset;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr double kTokens = 7;
const ObjectiveOptions kBare{.preset = Preset::paper};
const ObjectiveOptions kAnchored{.preset = Preset::robust};

struct Signs {
  double desirable = 0.5, undesirable = -5, z0 = 0.1;
  bool clamped = false;
};

Metrics metrics(int64_t step, const Signs& signs) {
  return {{"step", static_cast<double>(step)},
          {"loss", 0.3},
          {"z0", signs.z0},
          {"reward_desirable", signs.desirable},
          {"reward_undesirable", signs.undesirable},
          {"z0_clamped", signs.clamped ? 1.0 : 0.0}};
}

// Steps at which something is told, of a series that `at` gives.
template <class F>
std::vector<std::pair<int64_t, std::string>> told(const ObjectiveOptions& options, int64_t steps, F&& at) {
  Guard guard(options, kTokens);
  std::vector<std::pair<int64_t, std::string>> all;
  for (int64_t step = 1; step <= steps; ++step)
    for (const std::string& sign : guard.add(metrics(step, at(step)))) all.emplace_back(step, sign);
  return all;
}

TEST(Guard, SaysNothingOfARunThatHolds) {
  // the quickstart's: r_D around 0, r_U down to -12 nats, z0 now and then at its clamp
  for (const ObjectiveOptions& options : {kBare, kAnchored})
    EXPECT_THAT(told(options, 500,
                     [](int64_t step) {
                       const double x = static_cast<double>(step);
                       const bool clamped = step % 5 < 2;
                       return Signs{.desirable = 0.5 * std::sin(x) - 0.3,
                                    .undesirable = -12 * x / 500,
                                    .z0 = clamped ? -5.0 : -1.0,
                                    .clamped = clamped};
                     }),
                IsEmpty());
}

TEST(Guard, SeesThePreferredActionsFallWithoutAnAnchor) {
  // from step 100 on at -1.5: the mean of twenty is below -1 once 14 of them are there, 13 give -0.975
  const auto fallen = [](int64_t step) { return Signs{.desirable = step < 100 ? 0.0 : -1.5}; };
  const auto signs = told(kBare, 400, fallen);
  ASSERT_EQ(signs.size(), 1u);  // once
  EXPECT_EQ(signs[0].first, 113);
  EXPECT_THAT(signs[0].second,
              AllOf(HasSubstr("desirable actions become unlikely"), HasSubstr("1.1 nats"),
                    HasSubstr("objective.preset: robust or objective.reference_kl_weight: 3")));
  // with an anchor only where it goes on falling, below -0.15 a token: -1.05
  EXPECT_THAT(told(kAnchored, 90, [](int64_t) { return Signs{.desirable = -1.5}; }), IsEmpty());
  const auto falling = [](int64_t step) { return Signs{.desirable = -0.05 * static_cast<double>(step)}; };
  const auto anchored = told(kAnchored, 400, falling);
  ASSERT_EQ(anchored.size(), 1u);
  EXPECT_EQ(anchored[0].first, 31);  // the mean of steps 12 to 31 is -1.075
  EXPECT_THAT(anchored[0].second, HasSubstr("a larger objective.reference_kl_weight than 3"));
}

TEST(Guard, SeesTheRejectedActionsFallWithoutEnd) {
  // -4 nats a token, 7 of them: -28
  const auto falling = [](int64_t step) { return Signs{.undesirable = -static_cast<double>(step)}; };
  for (const ObjectiveOptions& options : {kBare, kAnchored, ObjectiveOptions{.type = ObjectiveType::dpo},
                                          ObjectiveOptions{.type = ObjectiveType::kto}}) {
    const auto signs = told(options, 200, falling);
    ASSERT_EQ(signs.size(), 1u);
    EXPECT_EQ(signs[0].first, 38);  // the mean of 19 to 38 is -28.5
    EXPECT_THAT(signs[0].second,
                AllOf(HasSubstr("undesirable actions are pushed down"), HasSubstr("4 a token"),
                      HasSubstr(options.hold() > 0      ? "a larger objective.reference_kl_weight than 3"
                                : options.needs_pairs() ? "objective.sft_weight: 1"
                                                        : "objective.preset: robust")));
  }
}

TEST(Guard, RecommendsNoHoldWhereTheReferenceIsCached) {
  for (const auto& [options, hint] : {std::pair{kBare, "objective.sft_weight: 1,"},
                                      std::pair{ObjectiveOptions{.sft_weight = 2, .reference_kl_weight = 0},
                                                "a larger objective.sft_weight than 2,"}}) {
    Guard guard(options, kTokens, /*can_hold=*/false);
    std::string all;
    for (int64_t step = 1; step <= 200; ++step)
      for (const std::string& sign : guard.add(metrics(step, {.undesirable = -static_cast<double>(step)})))
        all += sign;
    EXPECT_THAT(all, HasSubstr(hint));
    EXPECT_THAT(all, Not(HasSubstr("reference_kl_weight")));
  }
}

TEST(Guard, SeesZ0AtItsLowerClamp) {
  const auto share = [](int64_t of_twenty, double z0) {
    return [of_twenty, z0](int64_t step) {
      const bool clamped = step % 20 < of_twenty;
      return Signs{.z0 = clamped ? z0 : -1.0, .clamped = clamped};
    };
  };
  EXPECT_THAT(told(kBare, 100, share(10, -5)), IsEmpty());
  const auto signs = told(kBare, 100, share(11, -5));
  ASSERT_EQ(signs.size(), 1u);
  EXPECT_EQ(signs[0].first, 20);
  EXPECT_THAT(signs[0].second, AllOf(HasSubstr("z0 is at its lower clamp, objective.kl_min: -5")));
  // the upper clamp, and clamps at 0, say nothing
  EXPECT_THAT(told(kBare, 100, share(20, 5)), IsEmpty());
  EXPECT_THAT(told({.kl_min = 0}, 100, share(20, 0)), IsEmpty());
  EXPECT_THAT(told({.type = ObjectiveType::kto}, 100, share(20, 0)), IsEmpty());
}

TEST(Guard, LeavesOutWhatIsAbsent) {
  Guard guard(kBare, kTokens);
  const double absent = std::nan("");
  for (int64_t step = 1; step <= 100; ++step)
    EXPECT_THAT(guard.add(metrics(step, {.desirable = absent, .undesirable = absent, .z0 = absent})),
                IsEmpty());
  // nineteen values are no window, whatever lies between them
  for (int64_t step = 101; step <= 119; ++step) {
    EXPECT_THAT(guard.add(metrics(step, {.desirable = -9, .undesirable = absent})), IsEmpty());
    EXPECT_THAT(guard.add(metrics(step, {.desirable = absent, .undesirable = absent})), IsEmpty());
  }
  EXPECT_EQ(guard.add(metrics(120, {.desirable = -9, .undesirable = absent})).size(), 1u);
}

// Stopped after any step: what the rest tells is what it would have told.
TEST(Guard, ResumedEqualsUninterrupted) {
  const TempDir dir;
  Random random(5);
  std::vector<Metrics> run;
  double desirable = 0, undesirable = 0;
  for (int64_t step = 1; step <= 120; ++step) {
    desirable += 0.2 * random.normal() - 0.06, undesirable += 0.5 * random.normal() - 0.5;
    const bool clamped = random.uniform() < 0.02 * static_cast<double>(step);
    run.push_back(metrics(
        step, {desirable, step % 7 == 0 ? std::nan("") : undesirable, clamped ? -5.0 : 0.3, clamped}));
  }
  std::vector<std::vector<std::string>> whole;
  Guard guard(kBare, kTokens);
  size_t told = 0;
  for (const Metrics& step : run) told += whole.emplace_back(guard.add(step)).size();
  EXPECT_EQ(told, 3u);
  for (size_t stop = 0; stop <= run.size(); stop += 3) {
    std::string lines;
    for (size_t i = 0; i < stop; ++i) lines += metrics_line(run[i]) + "\n";
    write_file_atomic(dir / "metrics.jsonl", lines + "not a step\n");
    Guard resumed(kBare, kTokens);
    resumed.replay(dir / "metrics.jsonl");
    for (size_t i = stop; i < run.size(); ++i) EXPECT_EQ(resumed.add(run[i]), whole[i]) << stop << " " << i;
  }
  Guard(kBare, kTokens).replay(dir / "absent.jsonl");
}

TEST(Watch, NamesTheCheckpointFromBeforeItsWindow) {
  const TempDir dir;
  for (const char* step : {"step-5", "step-10", "step-30"})
    write_directory_atomic(dir / "checkpoints" / step, [](const fs::path&) {});
  TrainingOptions options;
  options.run.dir = dir.path().string();
  options.train.guard = "stop";
  // from step 20 on at -3: told at step 26, by a window that begins at step 7
  const auto alarm = [&options] {
    std::optional<Guard> guard(std::in_place, kBare, kTokens);
    std::string text;
    for (int64_t step = 1; step <= 60 && text.empty(); ++step)
      text = watch(guard, metrics(step, {.desirable = step < 20 ? 0.0 : -3.0}), options);
    return text;
  };
  EXPECT_THAT(alarm(), AllOf(HasSubstr("step 26: the desirable actions"),
                             HasSubstr("The last whole checkpoint before that is " +
                                       (dir / "checkpoints/step-5").string())));
  fs::remove_all(dir / "checkpoints/step-5");
  options.policy.checkpoint = "/models/base";
  EXPECT_THAT(alarm(), HasSubstr("No checkpoint was written before that; the run began from /models/base"));
  // nobody watches
  std::optional<Guard> none;
  EXPECT_EQ(watch(none, metrics(1, {}), options), "");
}

// A z0 that is held at −0.5 is at its lower clamp in every step but where it happens to be −0.5.
TrainingOptions always_clamped(const RecordedRuns& runs, const char* name) {
  TrainingOptions options = runs.options(name);
  options.objective.kl_min = options.objective.kl_max = -0.5;
  options.schedule.type = "constant";
  options.train.max_steps = 26;
  options.train.checkpoint_every = 5;
  options.train.keep = 1;
  options.optimizer.learning_rate = 1e-3;
  return options;
}

std::string errors_of(const std::function<void()>& run) {
  ::testing::internal::CaptureStderr();
  run();
  return ::testing::internal::GetCapturedStderr();
}

size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

TEST(GuardOfARun, WarnsOnceAlsoWhenResumed) {
  const RecordedRuns runs;
  TrainingOptions options = always_clamped(runs, "run");
  const char* sign = "z0 is at its lower clamp";
  EXPECT_EQ(count(errors_of([&] { train(options); }), sign), 1u);
  options.train.max_steps = 30;
  EXPECT_EQ(count(errors_of([&] { train(options, ExistingRun::resume); }), sign), 0u);
  options = always_clamped(runs, "halves");
  options.train.max_steps = 15;
  EXPECT_EQ(count(errors_of([&] { train(options); }), sign), 0u);
  options.train.max_steps = 26;
  EXPECT_THAT(errors_of([&] { train(options, ExistingRun::resume); }), HasSubstr(concat("step 20: ", sign)));
  options.run.dir = (runs / "off").string();
  options.train.guard = "off";
  EXPECT_EQ(count(errors_of([&] { train(options); }), sign), 0u);
  EXPECT_EQ(metrics_of(runs / "off"), metrics_of(runs / "halves"));
}

TEST(GuardOfARun, StopsWithACheckpointFromWhichOneCanGoOn) {
  const RecordedRuns runs;
  TrainingOptions options = always_clamped(runs, "stopped");
  options.train.guard = "stop";
  std::string message;
  try {
    train(options);
  } catch (const Stopped& stopped) {
    message = stopped.what();
    EXPECT_EQ(stopped.exit_code(), ExitCode::run);
  }
  EXPECT_THAT(message, AllOf(HasSubstr("step 20: z0 is at its lower clamp"),
                             HasSubstr("No checkpoint was written before"),
                             HasSubstr("saved " + (runs / "stopped/checkpoints/step-20").string())));
  EXPECT_EQ(metrics_of(runs / "stopped").size(), 20u);
  EXPECT_TRUE(
      fs::exists(runs / "stopped/checkpoints/step-15"));  // whatever keep says, none is removed for it
  EXPECT_EQ(train(options, ExistingRun::resume).steps, 26);
  TrainingOptions whole = always_clamped(runs, "whole");
  train(whole);
  EXPECT_EQ(metrics_of(runs / "stopped"), metrics_of(runs / "whole"));
}

TEST(Balance, IsToldBeforeTheFirstStep) {
  const RecordedRuns runs;
  TrainingOptions options = runs.options("run");
  std::ostringstream out;
  const std::string balanced = errors_of([&] { dry_run(options, out); });
  EXPECT_THAT(out.str(),
              AllOf(HasSubstr("objective    the undesirable samples weigh 1.32 times the desirable ones"),
                    HasSubstr("of 2 and 6 in a batch"), HasSubstr("anchor 1")));
  EXPECT_THAT(balanced, Not(HasSubstr("nothing holds")));
  EXPECT_THAT(errors_of([&] { train(options); }), HasSubstr("weigh 1.32 times"));
  // the published loss over whole batches of 48
  options.objective.preset = Preset::paper;
  options.objective.weights.group_size = 0;
  options.train.batch_size = 48;
  const auto warning =
      AllOf(HasSubstr("weigh 11.2 times"), HasSubstr("nothing holds what the policy can do"),
            HasSubstr("objective.preset: robust"), HasSubstr("objective.weights.group_size: 8"));
  EXPECT_THAT(errors_of([&] { dry_run(options, out); }), warning);
  options.run.dir = (runs / "paper").string();
  options.train.max_steps = 1;
  EXPECT_THAT(errors_of([&] { train(options); }), warning);
  options.objective.sft_weight = 0.2;
  EXPECT_THAT(errors_of([&] { dry_run(options, out); }), Not(HasSubstr("nothing holds")));
  // objectives without λ have no balance
  EXPECT_EQ(balance_text({.type = ObjectiveType::dpo}, {4, 2, 2}), "");
  EXPECT_EQ(balance_text({.type = ObjectiveType::sft}, {4, 2, 2}), "");
  EXPECT_EQ(balance_text({}, {4, 2, 0}), "");
}

}  // namespace
}  // namespace apo::training
