#include "apo/simulation/tabletop.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "apo/base/error.h"
#include "apo/config/options.h"
#include "support/message_of.h"

namespace apo::simulation {
namespace {

using apo::testing::message_of;
using ::testing::AllOf;
using ::testing::HasSubstr;

const Action kHover = {0, 0, 0, 0, 0, 0, -1};

class TabletopTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Tabletop::available()) GTEST_SKIP() << "built without MuJoCo";
  }
};

void expect_same_state(const TabletopState& a, const TabletopState& b) {
  EXPECT_EQ(a.hand, b.hand);
  EXPECT_EQ(a.opening, b.opening);
  EXPECT_EQ(a.blocks, b.blocks);
  EXPECT_EQ(a.target, b.target);
  EXPECT_EQ(a.num_steps, b.num_steps);
  EXPECT_EQ(a.habit, b.habit);
  EXPECT_EQ(a.object_moved, b.object_moved);
}

double horizontal(const std::array<double, 3>& a, const std::array<double, 3>& b) {
  return std::hypot(a[0] - b[0], a[1] - b[1]);
}

int64_t run_expert(Tabletop& table, uint64_t seed) {
  table.reset(seed);
  while (!table.done()) table.step(scripted_expert(table.state()));
  return table.state().num_steps;
}

/// Takes the block that was not named, as a policy that ignores the words would.
void take_other_block(Tabletop& table) {
  while (!table.done()) {
    TabletopState state = table.state();
    state.target = 1 - state.target;
    table.step(scripted_expert(state));
  }
}

TEST_F(TabletopTest, SeedDecidesEverything) {
  const TabletopOptions options{.action_noise = 0.2};
  const SceneDisruptionOptions disruptions{.object_moved = {.probability = 0.5}};
  Tabletop alone(options, disruptions), crowded(options, disruptions), neighbour(options, disruptions);
  run_expert(crowded, 99);  // another past must not matter
  for (const uint64_t seed : {3, 4}) {
    alone.reset(seed);
    crowded.reset(seed);
    for (int i = 0; i < 25; i++) {
      const Observation a = alone.observe(), b = crowded.observe();
      ASSERT_TRUE(at::equal(a.images.at("front"), b.images.at("front"))) << "seed " << seed << " step " << i;
      ASSERT_EQ(a.state, b.state);
      ASSERT_EQ(a.instruction, b.instruction);
      expect_same_state(alone.state(), crowded.state());
      const Action action = scripted_expert(alone.state());
      alone.step(action);
      neighbour.step(kHover);
      neighbour.observe();
      crowded.step(action);
    }
  }
}

TEST_F(TabletopTest, LookingChangesNothing) {
  Tabletop watched, unseen;
  watched.reset(8);
  unseen.reset(8);
  for (int i = 0; i < 20; i++) {
    watched.observe();
    watched.render(96);
    const Action action = scripted_expert(unseen.state());
    watched.step(action);
    unseen.step(action);
  }
  expect_same_state(watched.state(), unseen.state());
}

TEST_F(TabletopTest, SeedsDiffer) {
  Tabletop table;
  table.reset(1);
  const TabletopState one = table.state();
  const at::Tensor picture = table.observe().images.at("front");
  table.reset(2);
  EXPECT_NE(one.blocks, table.state().blocks);
  EXPECT_NE(one.hand, table.state().hand);
  EXPECT_FALSE(at::equal(picture, table.observe().images.at("front")));
}

TEST_F(TabletopTest, NoiseBelongsToTheSeedAndMovesTheHand) {
  Tabletop clean, noisy({.action_noise = 0.2});
  std::vector<double> pushes;
  for (const uint64_t seed : {5, 6}) {
    clean.reset(seed);
    noisy.reset(seed);
    expect_same_state(clean.state(), noisy.state());  // the layout is a stream of its own
    clean.step(kHover);
    noisy.step(kHover);
    pushes.push_back(noisy.state().hand[1] - clean.state().hand[1]);
    EXPECT_GT(std::abs(pushes.back()), 1e-6);
  }
  EXPECT_GT(std::abs(pushes[0] - pushes[1]), 1e-6);
  EXPECT_EQ(noisy.clamped_actions(), 0);  // the noise is not the caller's
}

TEST_F(TabletopTest, LayoutStaysInItsRanges) {
  Tabletop table;
  for (uint64_t seed = 0; seed < 300; seed++) {
    table.reset(seed);
    const TabletopState state = table.state();
    for (const auto& block : state.blocks) {
      EXPECT_LE(std::abs(block[0]), 0.075);
      EXPECT_GE(std::abs(block[1]), 0.055);
      EXPECT_LE(std::abs(block[1]), 0.115);
    }
    EXPECT_EQ(state.habit, state.blocks[0][1] > 0);
    EXPECT_LT(state.blocks[0][1] * state.blocks[1][1], 0) << "one block on each side";
    EXPECT_LE(std::abs(state.hand[0]), 0.02);
    EXPECT_LE(std::abs(state.hand[1]), 0.02);
    EXPECT_GE(state.hand[2], 0.13);
    EXPECT_LE(state.hand[2], 0.15);
    EXPECT_EQ(state.num_steps, 0);
    EXPECT_FALSE(table.done());
    EXPECT_EQ(table.outcome(), "running");
  }
}

TEST_F(TabletopTest, HabitAndTaskFrequencies) {
  // 1000 draws of probability p: standard deviation sqrt(1000 p (1 - p)) <= 15.8; four of them are 63.
  for (const auto& [habit, expected] : {std::pair{0.0, 0.0}, {0.5, 500.0}, {0.9, 900.0}, {1.0, 1000.0}}) {
    Tabletop table({.habit = habit});
    int right = 0, red = 0, both = 0;
    for (uint64_t seed = 0; seed < 1000; seed++) {
      table.reset(seed);
      right += table.state().habit;
      red += table.state().target == 0;
      both += table.state().habit && table.state().target == 0;
    }
    const double tolerance = habit == 0 || habit == 1 ? 0 : 63;
    EXPECT_NEAR(right, expected, tolerance) << "habit " << habit;
    EXPECT_NEAR(red, 500, 63);
    EXPECT_NEAR(both, expected / 2, 63) << "side and task are independent";
  }
}

TEST_F(TabletopTest, InstructionNamesTheTarget) {
  Tabletop table({.image_size = 16});
  for (uint64_t seed = 0; seed < 8; seed++) {
    table.reset(seed);
    const std::string color = table.state().target == 0 ? "red" : "blue";
    EXPECT_EQ(table.observe().instruction, "pick up the " + color + " block");
  }
}

TEST_F(TabletopTest, ObservationCarriesPictureAndBody) {
  Tabletop table;
  table.reset(7);
  table.step({0, 0, 1, 0, 0, 0, -1});
  const Observation seen = table.observe();
  const TabletopState state = table.state();
  const at::Tensor picture = seen.images.at("front");
  EXPECT_EQ(picture.sizes(), (std::vector<int64_t>{64, 64, 3}));
  EXPECT_EQ(picture.scalar_type(), torch::kUInt8);
  ASSERT_EQ(seen.state.at("eef_pos").size(), 3u);
  for (int i = 0; i < 3; i++) EXPECT_FLOAT_EQ(seen.state.at("eef_pos")[i], state.hand[i]);
  EXPECT_EQ(seen.state.at("eef_height"), std::vector<float>{static_cast<float>(state.hand[2])});
  EXPECT_EQ(seen.state.at("gripper_opening"), std::vector<float>{static_cast<float>(state.opening)});
  EXPECT_NEAR(state.opening, 0.11, 0.005);
}

TEST_F(TabletopTest, ActionsMoveTheHandAsDocumented) {
  // Five steps of half a unit along each axis: 5 x 0.5 x 1.5 cm = 3.75 cm, less what the soft weld lags
  // behind.
  for (int axis = 0; axis < 3; axis++) {
    Tabletop table;
    table.reset(11);
    const auto before = table.state().hand;
    Action action = kHover;
    action[axis] = 0.5;
    for (int i = 0; i < 5; i++) table.step(action);
    for (int i = 0; i < 6; i++) table.step(kHover);
    const auto after = table.state().hand;
    for (int i = 0; i < 3; i++) EXPECT_NEAR(after[i] - before[i], i == axis ? 0.0375 : 0, 0.003) << axis << i;
  }
}

TEST_F(TabletopTest, GripperClosesAboveZero) {
  Tabletop table;
  table.reset(11);
  for (int i = 0; i < 15; i++) table.step({0, 0, 0, 0, 0, 0, 0.01f});
  EXPECT_LT(table.state().opening, 0.01);
  for (int i = 0; i < 15; i++) table.step({0, 0, 0, 0, 0, 0, 0});
  EXPECT_GT(table.state().opening, 0.10);
}

TEST_F(TabletopTest, ExpertSucceeds) {
  for (const double noise : {0.0, 0.2}) {
    Tabletop table({.action_noise = noise});
    int successes = 0;
    double steps = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
      steps += run_expert(table, seed);
      successes += table.success();
      EXPECT_FALSE(table.ever_near_wrong()) << "seed " << seed;
    }
    RecordProperty("successes_of_100_noise_" + std::to_string(noise), successes);
    EXPECT_GE(successes, 99) << "noise " << noise;
    EXPECT_GE(steps / 100, 15.5) << "noise " << noise;
    EXPECT_LE(steps / 100, 18.0) << "noise " << noise;
    EXPECT_EQ(table.solver_warnings(), 0);
    EXPECT_EQ(table.clamped_actions(), 0);
  }
}

TEST_F(TabletopTest, SuccessHasTheBlockInTheAirAndInTheHand) {
  Tabletop table;
  run_expert(table, 21);
  const TabletopState state = table.state();
  ASSERT_EQ(table.outcome(), "success");
  EXPECT_FALSE(table.failed());
  EXPECT_GT(state.target_block()[2], 0.07);
  for (int i = 0; i < 3; i++) EXPECT_LT(std::abs(state.target_block()[i] - state.hand[i]), 0.035);
  table.step(kHover);  // dropped afterwards: the episode stays won
  table.step(kHover);
  EXPECT_TRUE(table.success());
}

TEST_F(TabletopTest, WrongBlockFails) {
  Tabletop table;
  for (uint64_t seed = 0; seed < 5; seed++) {
    table.reset(seed);
    EXPECT_FALSE(table.ever_near_wrong());
    take_other_block(table);
    EXPECT_EQ(table.outcome(), "wrong object");
    EXPECT_TRUE(table.failed());
    EXPECT_FALSE(table.success());
    EXPECT_TRUE(table.near_wrong_object());
    EXPECT_TRUE(table.ever_near_wrong());
    EXPECT_GT(table.state().other_block()[2], 0.045);
  }
  table.reset(0);
  EXPECT_FALSE(table.ever_near_wrong());
}

TEST_F(TabletopTest, DoingNothingTimesOut) {
  Tabletop table({.max_steps = 7});
  for (int i = 0; i < 7; i++) {
    EXPECT_EQ(table.outcome(), "running");
    table.step(kHover);
  }
  EXPECT_TRUE(table.done());
  EXPECT_EQ(table.outcome(), "timeout");
  EXPECT_FALSE(table.success());
  EXPECT_FALSE(table.failed());
  // a person may go on beyond the limit
  for (int i = 0; i < 30; i++) table.step(scripted_expert(table.state()));
  EXPECT_EQ(table.outcome(), "success");
}

TEST_F(TabletopTest, ObjectMovesOnceAndOnlyWhenEnabled) {
  Tabletop still, moving({}, {.object_moved = {.probability = 1, .distance_m = 0.05}});
  for (uint64_t seed = 0; seed < 20; seed++) {
    run_expert(still, seed);
    EXPECT_FALSE(still.state().object_moved);

    moving.reset(seed);
    int jumps = 0;
    while (!moving.done()) {
      const TabletopState before = moving.state();
      moving.step(scripted_expert(before));
      const TabletopState after = moving.state();
      const double way = horizontal(before.target_block(), after.target_block());
      if (!before.object_moved && after.object_moved) {
        jumps++;
        EXPECT_GT(way, 0.6 * 0.05 - 0.002);
        EXPECT_LT(way, 0.05 + 0.002);
        EXPECT_GT(horizontal(after.target_block(), after.other_block()), 0.10 - 0.002);
        EXPECT_LT(std::abs(after.hand[2] - before.target_block()[2]), 0.085 + 0.002);
        EXPECT_LT(horizontal(after.hand, before.target_block()), 0.04 + 0.002);
      } else {
        EXPECT_LT(way, 0.015) << "seed " << seed << ": only a hand moves it now";
      }
    }
    EXPECT_EQ(jumps, 1) << "seed " << seed;
    EXPECT_TRUE(moving.success()) << "seed " << seed << ": the expert follows it";
  }
}

TEST_F(TabletopTest, DisruptionFrequency) {
  Tabletop table({}, {.object_moved = {.probability = 0.5}});
  int moved = 0;
  for (uint64_t seed = 0; seed < 100; seed++) {
    run_expert(table, seed);
    moved += table.state().object_moved;
  }
  EXPECT_NEAR(moved, 50, 20);  // four standard deviations
}

TEST_F(TabletopTest, ClampsAreCounted) {
  Tabletop far, limit;
  far.reset(3);
  limit.reset(3);
  far.step({5, -1.5f, 0, 0, 0, 0, -9});
  limit.step({1, -1, 0, 0, 0, 0, -1});
  expect_same_state(far.state(), limit.state());
  EXPECT_EQ(far.clamped_actions(), 1);
  EXPECT_EQ(limit.clamped_actions(), 0);
  far.step({0, 0, 0, 0, 0, 1.01f, 0});
  far.reset(4);
  EXPECT_EQ(far.clamped_actions(), 2) << "the count is the instance's, not the episode's";
}

TEST_F(TabletopTest, ReachIsBounded) {
  Tabletop table;
  for (int i = 0; i < 100; i++) table.step({1, 1, -1, 0, 0, 0, -1});
  const auto hand = table.state().hand;
  EXPECT_NEAR(hand[0], 0.22, 0.01);
  EXPECT_NEAR(hand[1], 0.24, 0.01);
  EXPECT_GT(hand[2], 0.0);
}

TEST_F(TabletopTest, WildActionsBreakNothing) {
  Tabletop table({.max_steps = 1000});
  uint64_t bits = 1;
  for (int i = 0; i < 600; i++) {
    Action action(7);
    for (float& value : action) {
      bits = bits * 6364136223846793005ull + 1442695040888963407ull;
      value = (bits >> 63) != 0 ? 1.0f : -1.0f;
    }
    table.step(action);
  }
  for (const double value : table.state().hand) EXPECT_TRUE(std::isfinite(value));
  EXPECT_EQ(table.observe().images.at("front").numel(), 64 * 64 * 3);
}

TEST_F(TabletopTest, BadActionsAreNamed) {
  Tabletop table;
  table.reset(12);
  EXPECT_THAT(message_of<RunError>([&] {
                table.step({0, 0, 0});
              }),
              AllOf(HasSubstr("action has 3 numbers"), HasSubstr("expected 7"), HasSubstr("gripper")));
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  EXPECT_THAT(message_of<RunError>([&] {
                table.step({0, 0, nan, 0, 0, 0, 0});
              }),
              AllOf(HasSubstr("action[2] is nan"), HasSubstr("step 1 of seed 12"), HasSubstr("finite")));
  EXPECT_THAT(message_of<RunError>([&] {
                table.step({0, 0, 0, 0, 0, 0, -inf});
              }),
              HasSubstr("action[6] is -inf"));
  EXPECT_EQ(table.state().num_steps, 0) << "a refused action moves nothing";
}

TEST_F(TabletopTest, BadOptionsAreNamed) {
  EXPECT_THAT(message_of<ConfigError>([] { Tabletop({.image_size = 4}); }),
              AllOf(HasSubstr("image_size is 4"), HasSubstr("between 16 and 1024")));
  EXPECT_THAT(message_of<ConfigError>([] { Tabletop({.max_steps = 0}); }), HasSubstr("max_steps is 0"));
  EXPECT_THAT(message_of<ConfigError>([] { Tabletop({.habit = 1.5}); }), HasSubstr("habit is 1.5"));
  EXPECT_THAT(message_of<ConfigError>([] { Tabletop({.action_noise = std::nan("")}); }),
              HasSubstr("action_noise is nan"));
  EXPECT_THAT(message_of<RunError>([] { Tabletop().render(5); }), HasSubstr("picture of 5 pixels"));
}

TEST_F(TabletopTest, FatalErrorsOfMujocoAreErrorsOfOurs) {
  const Tabletop table;  // installs the handlers
  // MuJoCo's own way to report a fatal error, in the library that the simulation has loaded
  void* library = ::dlopen("libmujoco.so.3.3.7", RTLD_NOW | RTLD_NOLOAD);
  ASSERT_NE(library, nullptr) << ::dlerror();
  const auto mju_error = reinterpret_cast<void (*)(const char*, ...)>(::dlsym(library, "mju_error"));
  ASSERT_NE(mju_error, nullptr);
  EXPECT_THAT(message_of<RunError>([&] { mju_error("no room for %d contacts", 3); }),
              HasSubstr("MuJoCo: no room for 3 contacts"));
}

TEST_F(TabletopTest, HandleMoves) {
  Tabletop first;
  first.reset(6);
  const TabletopState state = first.state();
  Tabletop second(std::move(first));
  expect_same_state(second.state(), state);
  first = Tabletop();
  first.reset(6);
  expect_same_state(first.state(), second.state());
}

TEST_F(TabletopTest, ThreadsHaveTheirOwnPictures) {
  const auto film = [](uint64_t seed) {
    Tabletop table;
    table.reset(seed);
    std::vector<at::Tensor> pictures;
    for (int i = 0; i < 10; i++) {
      pictures.push_back(table.observe().images.at("front"));
      table.step(scripted_expert(table.state()));
    }
    return at::stack(pictures);
  };
  const at::Tensor one = film(1), two = film(2);
  at::Tensor first, second;
  std::thread a([&] { first = film(1); }), b([&] { second = film(2); });
  a.join();
  b.join();
  EXPECT_TRUE(at::equal(first, one));
  EXPECT_TRUE(at::equal(second, two));
}

double resident_mib() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return static_cast<double>(resident * ::sysconf(_SC_PAGESIZE)) / (1 << 20);
}

TEST_F(TabletopTest, NothingLeaks) {
  const auto use = [](int count) {
    for (int i = 0; i < count; i++) {
      Tabletop table;
      table.step(kHover);
      table.observe();
    }
  };
  use(20);
  const double before = resident_mib();
  use(200);
  EXPECT_LT(resident_mib() - before, 8) << "MiB after 200 environments";
}

TEST(TabletopOptionsTest, ReadFromYaml) {
  const auto options = config::load<TabletopOptions>(
      config::Document::from_text("habit: 1.0\naction_noise: 0.2\ntask: push\n", {"max_steps=60"}));
  EXPECT_EQ(options.task, TabletopTask::push);
  EXPECT_EQ(options.image_size, 64);
  EXPECT_EQ(options.max_steps, 60);
  EXPECT_EQ(options.habit, 1.0);
  EXPECT_EQ(options.action_noise, 0.2);
}

TEST(TabletopOptionsTest, BadYamlIsNamed) {
  const auto read = [](const char* text) {
    return message_of<ConfigError>([&] { config::load<TabletopOptions>(config::Document::from_text(text)); });
  };
  EXPECT_THAT(read("habitt: 1\n"), AllOf(HasSubstr("habitt"), HasSubstr("habit")));
  EXPECT_THAT(read("habit: 2\n"), HasSubstr("habit"));
  EXPECT_THAT(read("task: pushing\n"), AllOf(HasSubstr("pushing"), HasSubstr("pick, push")));
}

TEST(TabletopAbsenceTest, SaysHowToGetIt) {
  if (Tabletop::available()) GTEST_SKIP() << "built with MuJoCo";
  EXPECT_THAT(message_of<RunError>([] { Tabletop table; }),
              AllOf(HasSubstr("APO_MUJOCO"), HasSubstr("scripts/setup.sh")));
}

}  // namespace
}  // namespace apo::simulation
