// Every disruption changes what it says, by how much it says, and nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>
#include <string>
#include <vector>

#include "apo/base/error.h"
#include "apo/config/options.h"
#include "apo/simulation/tabletop.h"
#include "simulation/drawn_disruptions.h"
#include "support/message_of.h"

namespace apo::simulation {
namespace {

using apo::testing::message_of;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

at::Tensor picture(const Tabletop& table) { return table.observe().images.at("front"); }

double norm(const std::array<double, 3>& v) { return std::hypot(v[0], v[1], v[2]); }

SceneDisruptionOptions everything() {
  SceneDisruptionOptions options;
  options.for_each([](const char*, auto& section) { section.probability = 1; });
  return options;
}

class DisruptionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Tabletop::available()) GTEST_SKIP() << "built without MuJoCo";
  }
};

void expect_same_bodies(const TabletopState& a, const TabletopState& b) {
  EXPECT_EQ(a.hand, b.hand);
  EXPECT_EQ(a.opening, b.opening);
  EXPECT_EQ(a.blocks, b.blocks);
  EXPECT_EQ(a.target, b.target);
}

// Plays the expert of the undisrupted table in both: the bodies stay equal, the pictures do not.
void expect_only_pictures_change(const SceneDisruptionOptions& disruptions) {
  Tabletop plain, disrupted({}, disruptions);
  for (const uint64_t seed : {3, 4, 5}) {
    plain.reset(seed);
    disrupted.reset(seed);
    EXPECT_FALSE(at::equal(picture(plain), picture(disrupted))) << "seed " << seed;
    EXPECT_FALSE(at::equal(plain.render(64), disrupted.render(64))) << "people see it too";
    for (int i = 0; i < 20; i++) {
      expect_same_bodies(plain.state(), disrupted.state());
      const Action action = scripted_expert(plain.state());
      plain.step(action);
      disrupted.step(action);
    }
  }
}

// Where no channel is saturated before or after: after / before for each channel, averaged over the picture.
std::array<double, 3> channel_factors(const at::Tensor& before, const at::Tensor& after) {
  const at::Tensor usable =
      (before.amax(2) < 250).logical_and(after.amax(2) < 250).logical_and(before.amin(2) > 20);
  EXPECT_GT(usable.sum().item<int64_t>(), 100);
  std::array<double, 3> factors;
  for (int c = 0; c < 3; c++) {
    const auto sum = [&](const at::Tensor& p) {
      return p.select(2, c).masked_select(usable).to(torch::kFloat64).sum().item<double>();
    };
    factors[c] = sum(after) / sum(before);
  }
  return factors;
}

TEST_F(DisruptionTest, ProbabilityZeroIsAsIfThereWereNone) {
  SceneDisruptionOptions never = {.object_moved = {.distance_m = 0.1},
                                  .lighting = {.brightness = 0.9},
                                  .background = {.texture = TableTexture::checker},
                                  .distractors = {.count = 4},
                                  .camera_moved = {.distance_m = 0.2}};
  Tabletop plain, disrupted({}, never);
  for (uint64_t seed = 0; seed < 4; seed++) {
    plain.reset(seed);
    disrupted.reset(seed);
    for (int i = 0; i < 18; i++) {
      ASSERT_TRUE(at::equal(picture(plain), picture(disrupted))) << "seed " << seed << " step " << i;
      expect_same_bodies(plain.state(), disrupted.state());
      const Action action = scripted_expert(plain.state());
      plain.step(action);
      disrupted.step(action);
    }
    EXPECT_THAT(disrupted.disrupted_by(), ElementsAre());
  }
}

TEST_F(DisruptionTest, UndisruptedEpisodesKeepTheirNumbers) {
  // Recorded before there was any disruption but the moved object: seed 7919, the expert, until success.
  Tabletop table;
  table.reset(7919);
  const TabletopState begin = table.state();
  while (!table.done()) table.step(scripted_expert(table.state()));
  const TabletopState end = table.state();
  EXPECT_EQ(end.num_steps, 16);
  const std::array<double, 3> hand = {-0.013603385736, 0.013796580865, 0.140651333251},
                              lifted = {-0.069967977, 0.084120429, 0.076427182};
  for (int i = 0; i < 3; i++) {
    EXPECT_NEAR(begin.hand[i], hand[i], 1e-9);
    EXPECT_NEAR(end.target_block()[i], lifted[i], 1e-6);
  }
}

TEST_F(DisruptionTest, MagnitudeZeroChangesNoPixel) {
  Tabletop plain;
  Tabletop disrupted({}, {.lighting = {.probability = 1, .brightness = 0, .direction_deg = 0, .color = 0},
                          .background = {.probability = 1, .color = 0, .texture = TableTexture::plain},
                          .camera_moved = {.probability = 1, .distance_m = 0, .angle_deg = 0}});
  for (uint64_t seed = 0; seed < 3; seed++) {
    plain.reset(seed);
    disrupted.reset(seed);
    EXPECT_TRUE(at::equal(picture(plain), picture(disrupted)));
    EXPECT_THAT(disrupted.disrupted_by(), ElementsAre("lighting", "background", "camera_moved"));
  }
}

TEST_F(DisruptionTest, LightingIsSeenAndNotFelt) {
  expect_only_pictures_change({.lighting = {.probability = 1}});
}
TEST_F(DisruptionTest, BackgroundIsSeenAndNotFelt) {
  expect_only_pictures_change({.background = {.probability = 1}});
}
TEST_F(DisruptionTest, CameraIsSeenAndNotFelt) {
  expect_only_pictures_change({.camera_moved = {.probability = 1}});
}

TEST_F(DisruptionTest, BrightnessMultipliesEveryPixel) {
  Tabletop plain,
      disrupted({}, {.lighting = {.probability = 1, .brightness = 0.4, .direction_deg = 0, .color = 0}});
  std::set<bool> brighter;
  for (uint64_t seed = 0; seed < 12; seed++) {
    plain.reset(seed);
    disrupted.reset(seed);
    const auto factors = channel_factors(picture(plain), picture(disrupted));
    const double expected = factors[0] > 1 ? 1.4 : 0.6;
    brighter.insert(factors[0] > 1);
    for (const double factor : factors) EXPECT_NEAR(factor, expected, 0.02) << "seed " << seed;
  }
  EXPECT_EQ(brighter.size(), 2u) << "darker and brighter both occur";
}

TEST_F(DisruptionTest, ColorTakesFromTwoChannels) {
  Tabletop plain,
      disrupted({}, {.lighting = {.probability = 1, .brightness = 0, .direction_deg = 0, .color = 0.4}});
  for (uint64_t seed = 0; seed < 6; seed++) {
    plain.reset(seed);
    disrupted.reset(seed);
    auto factors = channel_factors(picture(plain), picture(disrupted));
    std::sort(factors.begin(), factors.end());
    EXPECT_NEAR(factors[0], 0.6, 0.02);  // 1 - 0.4
    EXPECT_NEAR(factors[1], 0.8, 0.02);  // 1 - 0.4 / 2
    EXPECT_NEAR(factors[2], 1.0, 0.02);
  }
}

TEST_F(DisruptionTest, TheTableIsAnotherAndTheBlocksAreNot) {
  Tabletop plain,
      disrupted({}, {.background = {.probability = 1, .color = 0.7, .texture = TableTexture::checker}});
  for (uint64_t seed = 0; seed < 6; seed++) {
    plain.reset(seed);
    disrupted.reset(seed);
    const at::Tensor before = picture(plain).to(torch::kInt32), after = picture(disrupted).to(torch::kInt32);
    const auto colored = [](const at::Tensor& p) { return (p.select(2, 0) - p.select(2, 2)).abs() > 100; };
    const at::Tensor blocks = colored(before), same = (before == after).all(2);
    EXPECT_GT(blocks.sum().item<int64_t>(), 60);
    EXPECT_TRUE(same.masked_select(blocks).all().item<bool>()) << "seed " << seed;
    EXPECT_LT(same.to(torch::kFloat32).mean().item<double>(), 0.5) << "most of the picture is table";
  }
}

TEST_F(DisruptionTest, TexturesDiffer) {
  std::vector<at::Tensor> seen;
  for (const TableTexture texture : {TableTexture::plain, TableTexture::checker, TableTexture::grid}) {
    Tabletop table({}, {.background = {.probability = 1, .color = 0, .texture = texture}});
    table.reset(1);
    for (const at::Tensor& other : seen) EXPECT_FALSE(at::equal(picture(table), other));
    seen.push_back(picture(table));
  }
  std::set<TableTexture> drawn;
  for (uint64_t seed = 0; seed < 40; seed++)
    drawn.insert(draw_scene_disruptions({.background = {.probability = 1}}, seed).table->texture);
  EXPECT_EQ(drawn, (std::set<TableTexture>{TableTexture::plain, TableTexture::checker, TableTexture::grid}));
}

TEST_F(DisruptionTest, DistractorsLieFreeAndLeaveTheRestAlone) {
  for (const TabletopTask task : {TabletopTask::pick, TabletopTask::push}) {
    Tabletop plain({.task = task}),
        disrupted({.task = task}, {.distractors = {.probability = 1, .count = 4}});
    for (uint64_t seed = 0; seed < 30; seed++) {
      plain.reset(seed);
      disrupted.reset(seed);
      expect_same_bodies(plain.state(), disrupted.state());
      EXPECT_FALSE(at::equal(picture(plain), picture(disrupted)));
      const TabletopState state = disrupted.state();
      ASSERT_EQ(state.distractors.size(), 4u);
      for (const auto& distractor : state.distractors)
        for (const auto& block : state.blocks)
          EXPECT_GE(std::hypot(distractor[0] - block[0], distractor[1] - block[1]), 0.085) << "seed " << seed;
      while (!disrupted.done()) disrupted.step(scripted_expert(disrupted.state()));
      EXPECT_TRUE(disrupted.success()) << "seed " << seed;
    }
    EXPECT_EQ(disrupted.solver_warnings(), 0);
  }
}

TEST_F(DisruptionTest, DistractorsOfAnEarlierEpisodeAreGone) {
  Tabletop plain, sometimes({}, {.distractors = {.probability = 0.5}});
  int cluttered = 0;
  for (uint64_t seed = 0; seed < 40; seed++) {
    plain.reset(seed);
    sometimes.reset(seed);
    const bool has = !sometimes.state().distractors.empty();
    cluttered += has;
    for (int i = 0; i < 3; i++) {
      const Action action = scripted_expert(plain.state());
      plain.step(action);
      sometimes.step(action);
    }
    EXPECT_EQ(at::equal(picture(plain), picture(sometimes)), !has) << "seed " << seed;
    if (!has) expect_same_bodies(plain.state(), sometimes.state());
  }
  EXPECT_NEAR(cluttered, 20, 13);  // four standard deviations of 3.2
}

TEST_F(DisruptionTest, SeedDecidesEverything) {
  Tabletop alone({}, everything()), crowded({}, everything());
  crowded.reset(99);
  for (int i = 0; i < 5; i++) crowded.step(scripted_expert(crowded.state()));
  std::vector<at::Tensor> first;
  for (const uint64_t seed : {7, 8}) {
    alone.reset(seed);
    crowded.reset(seed);
    for (int i = 0; i < 12; i++) {
      ASSERT_TRUE(at::equal(picture(alone), picture(crowded))) << "seed " << seed << " step " << i;
      ASSERT_EQ(alone.state().distractors, crowded.state().distractors);
      if (i == 0) first.push_back(picture(alone));
      const Action action = scripted_expert(alone.state());
      alone.step(action);
      crowded.step(action);
    }
  }
  EXPECT_FALSE(at::equal(first[0], first[1]));
}

TEST(SceneDisruptions, MagnitudesAreMetExactly) {
  for (uint64_t seed = 0; seed < 50; seed++) {
    const SceneDisruptions d =
        draw_scene_disruptions({.lighting = {.probability = 1, .direction_deg = 35},
                                .camera_moved = {.probability = 1, .distance_m = 0.03, .angle_deg = 4}},
                               seed);
    EXPECT_NEAR(norm(d.light->direction), 1, 1e-12);
    EXPECT_NEAR(std::acos(-d.light->direction[2]), 35 * std::numbers::pi / 180, 1e-9);
    EXPECT_NEAR(norm(d.view->shift), 0.03, 1e-12);
    EXPECT_NEAR(norm(d.view->axis), 1, 1e-12);
    EXPECT_NEAR(d.view->angle, 4 * std::numbers::pi / 180, 1e-12);
    EXPECT_FALSE(d.table.has_value());
    EXPECT_EQ(d.distractors, 0);
  }
}

TEST(SceneDisruptions, OneDoesNotDependOnAnother) {
  for (uint64_t seed = 0; seed < 20; seed++) {
    const SceneDisruptions all = draw_scene_disruptions(everything(), seed);
    const SceneDisruptions light = draw_scene_disruptions({.lighting = {.probability = 1}}, seed);
    const SceneDisruptions view = draw_scene_disruptions({.camera_moved = {.probability = 1}}, seed);
    EXPECT_EQ(all.light->color, light.light->color);
    EXPECT_EQ(all.light->direction, light.light->direction);
    EXPECT_EQ(all.view->shift, view.view->shift);
  }
}

TEST(SceneDisruptions, HappensAsOftenAsItsProbability) {
  // 1000 draws of probability 0.3: standard deviation 14.5, four of them are 58
  int lights = 0, tables = 0, both = 0;
  for (uint64_t seed = 0; seed < 1000; seed++) {
    const SceneDisruptions d =
        draw_scene_disruptions({.lighting = {.probability = 0.3}, .background = {.probability = 0.3}}, seed);
    lights += d.light.has_value();
    tables += d.table.has_value();
    both += d.light && d.table;
  }
  EXPECT_NEAR(lights, 300, 58);
  EXPECT_NEAR(tables, 300, 58);
  EXPECT_NEAR(both, 90, 37) << "independent of each other";
}

TEST(SceneDisruptions, TableColorIsNoBlocks) {
  for (uint64_t seed = 0; seed < 300; seed++) {
    const auto color = draw_scene_disruptions({.background = {.probability = 1}}, seed).table->color;
    for (const double value : color) {
      EXPECT_GE(value, 0);
      EXPECT_LE(value, 1);
    }
    const bool red = color[0] > color[1] + 0.25 && color[0] > color[2] + 0.25;
    const bool blue = color[2] > color[0] + 0.25 && color[2] > color[1] + 0.25;
    EXPECT_FALSE(red || blue) << color[0] << " " << color[1] << " " << color[2];
  }
}

TEST(DisruptionOptionsTest, NamesAreThoseOfTheConfig) {
  EXPECT_THAT(scene_disruption_names(),
              ElementsAre("object_moved", "lighting", "background", "distractors", "camera_moved"));
  const std::string yaml = config::print(SceneDisruptionOptions());
  for (const std::string& name : scene_disruption_names()) EXPECT_THAT(yaml, HasSubstr(name + ":"));
}

TEST(DisruptionOptionsTest, ReadFromYaml) {
  const auto options = config::load<SceneDisruptionOptions>(
      config::Document::from_text("lighting: {probability: 1, direction_deg: 20}\nbackground: {texture: "
                                  "grid}\ndistractors: {count: 2}\n"));
  EXPECT_EQ(options.lighting.probability, 1);
  EXPECT_EQ(options.lighting.direction_deg, 20);
  EXPECT_EQ(options.background.texture, TableTexture::grid);
  EXPECT_EQ(options.distractors.count, 2);
  EXPECT_EQ(options.object_moved.distance_m, 0.05);
}

TEST(DisruptionOptionsTest, BadYamlIsNamed) {
  const auto read = [](const char* text) {
    return message_of<ConfigError>(
        [&] { config::load<SceneDisruptionOptions>(config::Document::from_text(text)); });
  };
  EXPECT_THAT(read("lightning: {probability: 1}\n"), AllOf(HasSubstr("lightning"), HasSubstr("lighting")));
  EXPECT_THAT(read("lighting: {brightness: 1}\n"), AllOf(HasSubstr("brightness"), HasSubstr("0.9")));
  EXPECT_THAT(read("background: {texture: chequer}\n"), AllOf(HasSubstr("chequer"), HasSubstr("checker")));
  EXPECT_THAT(read("distractors: {count: 5}\n"), HasSubstr("count"));
  EXPECT_THAT(read("camera_moved: {probability: 1.5}\n"), HasSubstr("probability"));
}

TEST(DisruptionOptionsTest, BadStructsAreNamed) {
  const auto make = [](const SceneDisruptionOptions& options) {
    return message_of<ConfigError>([&] { Tabletop({}, options); });
  };
  EXPECT_THAT(make({.object_moved = {.distance_m = 0.5}}),
              AllOf(HasSubstr("object_moved.distance_m is 0.5"), HasSubstr("between 0.01 and 0.1")));
  EXPECT_THAT(make({.lighting = {.probability = -1}}), HasSubstr("lighting.probability is -1"));
  EXPECT_THAT(make({.lighting = {.direction_deg = 90}}), HasSubstr("lighting.direction_deg is 90"));
  EXPECT_THAT(make({.background = {.color = std::nan("")}}), HasSubstr("background.color is nan"));
  EXPECT_THAT(make({.distractors = {.count = 0}}), HasSubstr("distractors.count is 0"));
  EXPECT_THAT(make({.camera_moved = {.angle_deg = 50}}), HasSubstr("camera_moved.angle_deg is 50"));
}

}  // namespace
}  // namespace apo::simulation
