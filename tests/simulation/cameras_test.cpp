// The camera at the wrist, and that it changes nothing for those who look through the one before the tray.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <array>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "apo/base/error.h"
#include "apo/simulation/tabletop.h"
#include "support/message_of.h"

namespace apo::simulation {
namespace {

using apo::testing::message_of;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Key;

const std::vector<std::string> kBoth = {"front", "wrist"};

struct Pixel {
  double row, column;
};

/// The camera is at (0.065, 0, 0.065) from between the finger tips, turned as the front one: its right is +y,
/// its up (-0.866, 0, 0.5). Half its field of view is 42.5 degrees.
Pixel project(const std::array<double, 3>& point, const std::array<double, 3>& hand, int size) {
  const double x = point[0] - hand[0] - 0.065, y = point[1] - hand[1], z = point[2] - hand[2] - 0.065;
  const double up = -0.866 * x + 0.5 * z, depth = -(0.5 * x + 0.866 * z);
  const double scale = 0.5 * size / std::tan(42.5 * std::numbers::pi / 180);
  return {0.5 * size - scale * up / depth, 0.5 * size + scale * y / depth};
}

bool inside(Pixel p, int size) { return p.row >= 0 && p.row < size && p.column >= 0 && p.column < size; }

std::array<int, 3> color(const at::Tensor& picture, Pixel p) {
  const auto values = picture.accessor<uint8_t, 3>()[static_cast<int>(p.row)][static_cast<int>(p.column)];
  return {values[0], values[1], values[2]};
}

/// Where the fingers are: yellow, lit or in the palm's shadow.
at::Tensor yellow(const at::Tensor& picture) {
  const at::Tensor p = picture.to(torch::kInt32);
  return (p.select(2, 0) - p.select(2, 2) > 60).logical_and(p.select(2, 1) - p.select(2, 2) > 60);
}

class CamerasTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Tabletop::available()) GTEST_SKIP() << "built without MuJoCo";
  }
};

TEST_F(CamerasTest, OneThatIsNotAskedForIsNotThere) {
  EXPECT_THAT(Tabletop().observe().images, ElementsAre(Key("front")));
  EXPECT_THAT(Tabletop({.cameras = {"wrist"}}).observe().images, ElementsAre(Key("wrist")));
  EXPECT_THAT(Tabletop({.cameras = {"wrist", "front"}, .image_size = 48}).observe().images,
              ElementsAre(Key("front"), Key("wrist")));
}

TEST_F(CamerasTest, TheFrontAndTheWorldAreAsWithoutTheOther) {
  Tabletop alone, both({.cameras = kBoth}), turned({.cameras = {"wrist", "front"}});
  for (const uint64_t seed : {3, 4}) {
    alone.reset(seed);
    both.reset(seed);
    turned.reset(seed);
    for (int i = 0; i < 20; i++) {
      const Observation a = alone.observe(), b = both.observe(), c = turned.observe();
      ASSERT_TRUE(at::equal(a.images.at("front"), b.images.at("front"))) << "seed " << seed << " step " << i;
      ASSERT_TRUE(at::equal(b.images.at("front"), c.images.at("front"))) << "seed " << seed << " step " << i;
      ASSERT_TRUE(at::equal(b.images.at("wrist"), c.images.at("wrist"))) << "seed " << seed << " step " << i;
      ASSERT_FALSE(at::equal(b.images.at("front"), b.images.at("wrist")));
      ASSERT_EQ(a.state, b.state);
      const Action action = scripted_expert(alone.state());
      for (Tabletop* table : {&alone, &both, &turned}) table->step(action);
    }
    EXPECT_TRUE(at::equal(alone.render(64), both.render(64))) << "people see the front";
  }
}

TEST_F(CamerasTest, TheWristSeesTheNamedBlockUntilItHoldsIt) {
  constexpr int kSize = 96;
  Tabletop table({.cameras = kBoth, .image_size = kSize});
  int64_t seen = 0, steps = 0;
  for (uint64_t seed = 0; seed < 20; seed++) {
    table.reset(seed);
    while (!table.done()) {
      const TabletopState state = table.state();
      const Pixel place = project(state.target_block(), state.hand, kSize);
      steps++;
      if (inside(place, kSize)) {
        const auto [red, green, blue] = color(table.observe().images.at("wrist"), place);
        seen += state.target == 0 ? red - blue > 60 : blue - red > 60;
      }
      table.step(scripted_expert(state));
    }
    EXPECT_TRUE(table.success());
  }
  // a finger passes before it now and then
  EXPECT_GT(static_cast<double>(seen), 0.9 * static_cast<double>(steps)) << seen << " of " << steps;
}

TEST_F(CamerasTest, TheWristSeesItsFingersOpenAndClose) {
  Tabletop table({.cameras = {"wrist"}, .image_size = 96});
  table.reset(1);
  const auto between = [&] {  // columns between the fingers, in the row that is half-way down their tips
    const at::Tensor row = yellow(table.observe().images.at("wrist")).slice(0, 22, 26).any(0);
    const at::Tensor columns = row.nonzero().flatten();
    const at::Tensor left = columns.masked_select(columns < 48), right = columns.masked_select(columns >= 48);
    return left.numel() == 0 || right.numel() == 0 ? int64_t{-1}
                                                   : right.min().item<int64_t>() - left.max().item<int64_t>();
  };
  const int64_t open = between();
  EXPECT_GT(open, 40);
  for (int i = 0; i < 8; i++) table.step({0, 0, 0, 0, 0, 0, 1});
  EXPECT_LT(between(), 12);
  for (int i = 0; i < 8; i++) table.step({0, 0, 0, 0, 0, 0, -1});
  EXPECT_NEAR(static_cast<double>(between()), static_cast<double>(open), 2);
}

// A picture that lags behind the hand would show the fingers elsewhere while it moves: by four rows here.
TEST_F(CamerasTest, TheCameraIsWhereTheHandIsNow) {
  constexpr int kSize = 512;
  Tabletop table({.cameras = {"wrist"}, .image_size = kSize});
  table.reset(1);
  const auto lowest_row = [&] {
    return yellow(table.observe().images.at("wrist")).any(1).nonzero().max().item<int64_t>();
  };
  const int64_t at_rest = lowest_row();
  EXPECT_GT(at_rest, kSize / 8);
  EXPECT_LT(at_rest, 3 * kSize / 5);
  for (const float way : {1.0f, -1.0f}) {
    for (int i = 0; i < 4; i++) table.step({way, 0, 0, 0, 0, 0, -1});
    EXPECT_NEAR(static_cast<double>(lowest_row()), static_cast<double>(at_rest), 1) << way;
  }
}

TEST_F(CamerasTest, DisruptionsOfTheWorldActOnBothAndAMovedCameraIsTheFrontOne) {
  const TabletopOptions options{.cameras = kBoth};
  const auto changed = [&](const SceneDisruptionOptions& disruptions) {
    Tabletop plain(options), disrupted(options, disruptions);
    std::array<bool, 2> all = {true, true}, none = {true, true};
    for (const uint64_t seed : {3, 4, 5}) {
      plain.reset(seed);
      disrupted.reset(seed);
      for (int i = 0; i < 3; i++) {
        const Observation a = plain.observe(), b = disrupted.observe();
        for (size_t camera = 0; camera < 2; camera++) {
          const bool same = at::equal(a.images.at(kBoth[camera]), b.images.at(kBoth[camera]));
          (same ? all : none)[camera] = false;
        }
        for (Tabletop* table : {&plain, &disrupted}) table->step({0, 0, -1, 0, 0, 0, -1});
      }
    }
    return std::array{all[0]    ? "always"
                      : none[0] ? "never"
                                : "sometimes",
                      all[1]    ? "always"
                      : none[1] ? "never"
                                : "sometimes"};
  };
  EXPECT_THAT(changed({}), ElementsAre("never", "never"));
  EXPECT_THAT(changed({.lighting = {.probability = 1}}), ElementsAre("always", "always"));
  EXPECT_THAT(changed({.background = {.probability = 1}}), ElementsAre("always", "always"));
  EXPECT_THAT(changed({.distractors = {.probability = 1, .count = 4}}), ElementsAre("always", "always"));
  EXPECT_THAT(changed({.camera_moved = {.probability = 1}}), ElementsAre("always", "never"));
}

TEST_F(CamerasTest, OtherNamesAreRefused) {
  const auto complaint = [](const std::vector<std::string>& cameras) {
    return message_of<ConfigError>([&] { Tabletop({.cameras = cameras}); });
  };
  EXPECT_EQ(complaint({"front", "hand"}),
            "environment.tabletop.cameras: expected front, wrist or both, each once, found [front, hand]");
  EXPECT_THAT(complaint({"front", "front"}), HasSubstr("found [front, front]"));
  EXPECT_THAT(complaint({}), AllOf(HasSubstr("environment.tabletop.cameras"), HasSubstr("found []")));
}

}  // namespace
}  // namespace apo::simulation
