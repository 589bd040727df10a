// What is in the pictures: projected by hand from the camera's numbers.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <array>
#include <cmath>
#include <numbers>

#include "apo/simulation/tabletop.h"

namespace apo::simulation {
namespace {

struct Pixel {
  double row, column;
};

/// The camera stands at (0.230, 0, 0.428), its picture's right is +y, its up (-0.866, 0, 0.5), so it looks
/// along right x up reversed: backward = (0.5, 0, 0.866). Half the field of view is 21 degrees.
Pixel project(const std::array<double, 3>& point, int size) {
  const double x = point[0] - 0.230, y = point[1], z = point[2] - 0.428;
  const double up = -0.866 * x + 0.5 * z, depth = -(0.5 * x + 0.866 * z);
  const double scale = 0.5 * size / std::tan(21 * std::numbers::pi / 180);
  return {0.5 * size - scale * up / depth, 0.5 * size + scale * y / depth};
}

/// How much red outweighs blue at the pixel and its four neighbours (so an edge does not decide).
double redness(const at::Tensor& picture, Pixel p) {
  double sum = 0;
  const auto values = picture.accessor<uint8_t, 3>();
  const int row = static_cast<int>(p.row), column = static_cast<int>(p.column);
  for (const auto& [dy, dx] : {std::pair{0, 0}, {1, 0}, {-1, 0}, {0, 1}, {0, -1}})
    sum += values[row + dy][column + dx][0] - values[row + dy][column + dx][2];
  return sum / 5;
}

class PictureTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Tabletop::available()) GTEST_SKIP() << "built without MuJoCo";
  }
  /// Lifts the hand out of the camera's sight of the blocks.
  static void clear_view(Tabletop& table) {
    for (int i = 0; i < 8; i++) table.step({-1, 0, 1, 0, 0, 0, -1});
  }
};

TEST_F(PictureTest, BlocksAreWhereTheCameraSeesThem) {
  Tabletop table;
  for (uint64_t seed = 0; seed < 20; seed++) {
    table.reset(seed);
    const TabletopState state = table.state();
    const at::Tensor picture = table.observe().images.at("front");
    const at::Tensor film = table.render(192);
    EXPECT_GT(redness(picture, project(state.blocks[0], 64)), 100) << "seed " << seed;
    EXPECT_LT(redness(picture, project(state.blocks[1], 64)), -100) << "seed " << seed;
    EXPECT_GT(redness(film, project(state.blocks[0], 192)), 100) << "seed " << seed;
    EXPECT_LT(redness(film, project(state.blocks[1], 192)), -100) << "seed " << seed;
  }
}

TEST_F(PictureTest, RowZeroIsTheFarEdgeAndColumnsGoToTheRight) {
  // Nearer to the camera (larger x) is further down; larger y is further right.
  EXPECT_LT(project({-0.07, 0, 0}, 64).row, project({0.07, 0, 0}, 64).row);
  EXPECT_LT(project({0, -0.07, 0}, 64).column, project({0, 0.07, 0}, 64).column);
  Tabletop table({.habit = 1});
  table.reset(2);
  clear_view(table);
  const at::Tensor picture = table.observe().images.at("front").to(torch::kInt32);
  const at::Tensor red = (picture.select(2, 0) - picture.select(2, 2)) > 100;
  const at::Tensor blue = (picture.select(2, 2) - picture.select(2, 0)) > 100;
  const auto mean_column = [](const at::Tensor& mask) {
    return mask.nonzero().select(1, 1).to(torch::kFloat64).mean().item<double>();
  };
  EXPECT_GT(mean_column(red), 32) << "the habit: red on the right";
  EXPECT_LT(mean_column(blue), 32);
}

TEST_F(PictureTest, PalmShowsThatTheGripperCloses) {
  Tabletop table;
  const auto green_pixels = [&] {
    const at::Tensor p = table.observe().images.at("front").to(torch::kInt32);
    return (p.select(2, 1) - p.select(2, 0) > 60).sum().item<int64_t>();
  };
  table.reset(1);
  EXPECT_EQ(green_pixels(), 0);
  table.step({0, 0, 0, 0, 0, 0, 1});
  EXPECT_GT(green_pixels(), 50);
  table.step({0, 0, 0, 0, 0, 0, -1});
  EXPECT_EQ(green_pixels(), 0);
  table.step({0, 0, 0, 0, 0, 0, 1});
  table.reset(1);
  EXPECT_EQ(green_pixels(), 0);
}

TEST_F(PictureTest, EnvironmentsOfOneThreadDoNotMix) {
  Tabletop first, second({.image_size = 96}), third;
  first.reset(1);
  second.reset(2);
  third.reset(3);
  const at::Tensor alone = first.observe().images.at("front");
  const at::Tensor wide = second.observe().images.at("front");
  third.step({0, 0, 0, 0, 0, 0, 1});
  third.observe();
  third.render(64);
  EXPECT_TRUE(at::equal(first.observe().images.at("front"), alone));
  EXPECT_TRUE(at::equal(second.observe().images.at("front"), wide));
  EXPECT_EQ(wide.size(0), 96);
  EXPECT_GT(redness(wide, project(second.state().blocks[0], 96)), 100);
}

TEST_F(PictureTest, HandCastsAShadow) {
  // Directly below the palm's overhang, 4.5 cm beside the hand, the table is darker than far from it.
  Tabletop table;
  table.reset(4);
  const auto hand = table.state().hand;
  const at::Tensor film = table.render(192);
  const auto brightness = [&](const std::array<double, 3>& point) {
    const Pixel p = project(point, 192);
    return film.select(0, static_cast<int64_t>(p.row))
        .select(0, static_cast<int64_t>(p.column))
        .to(torch::kFloat32)
        .mean()
        .item<double>();
  };
  const double shaded = brightness({hand[0] + 0.008, hand[1] + 0.03, 0}), lit = brightness({0.105, 0, 0});
  EXPECT_LT(shaded, lit - 30);
}

}  // namespace
}  // namespace apo::simulation
