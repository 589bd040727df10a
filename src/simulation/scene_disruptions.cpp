#include <algorithm>
#include <cmath>
#include <numbers>

#include "apo/base/error.h"
#include "apo/base/random.h"
#include "apo/config/options.h"
#include "simulation/drawn_disruptions.h"

namespace apo::simulation {
namespace {

constexpr double kRadiansPerDegree = std::numbers::pi / 180;
constexpr int64_t kMaxDistractors = 4;

/// Uniform on the unit sphere.
std::array<double, 3> any_direction(Random& random) {
  const double z = random.uniform(-1, 1), angle = random.uniform(0, 2 * std::numbers::pi);
  const double radius = std::sqrt(1 - z * z);
  return {radius * std::cos(angle), radius * std::sin(angle), z};
}

OtherLight draw_light(const LightingOptions& options, Random& random) {
  OtherLight light;
  const double factor = random.below(2) == 0 ? 1 - options.brightness : 1 + options.brightness;
  const std::vector<uint32_t> order = random.permutation(3);
  for (int i = 0; i < 3; i++) light.color[order[i]] = factor * (1 - 0.5 * i * options.color);
  const double tilt = options.direction_deg * kRadiansPerDegree,
               side = random.uniform(0, 2 * std::numbers::pi);
  light.direction = {std::sin(tilt) * std::cos(side), std::sin(tilt) * std::sin(side), -std::cos(tilt)};
  return light;
}

/// A hue of full saturation as red, green, blue; `degrees` within [0, 360).
std::array<double, 3> hue(double degrees) {
  const auto channel = [&](double center) {
    const double away = std::abs(std::remainder(degrees - center, 360));
    return std::clamp(2 - away / 60, 0.0, 1.0);
  };
  return {channel(0), channel(120), channel(240)};
}

OtherTable draw_table(const BackgroundOptions& options, Random& random) {
  OtherTable table;
  table.share = options.color;
  // orange to turquoise, or purple to pink: never the red or the blue of a block
  const double along = random.uniform(0, 170);
  const double value = random.uniform(0.4, 0.9);
  for (int i = 0; i < 3; i++)
    table.color[i] = value * (0.3 + 0.7 * hue(along < 140 ? 40 + along : 140 + along)[i]);
  const uint64_t drawn = random.below(3);
  table.texture =
      options.texture == TableTexture::random ? static_cast<TableTexture>(drawn) : options.texture;
  return table;
}

OtherView draw_view(const CameraMovedOptions& options, Random& random) {
  OtherView view;
  view.shift = any_direction(random);
  for (double& value : view.shift) value *= options.distance_m;
  view.axis = any_direction(random);
  view.angle = options.angle_deg * kRadiansPerDegree;
  return view;
}

}  // namespace

std::span<const std::pair<TableTexture, std::string_view>> enum_names(TableTexture) {
  static constexpr std::array<std::pair<TableTexture, std::string_view>, 4> kNames = {
      {{TableTexture::plain, "plain"},
       {TableTexture::checker, "checker"},
       {TableTexture::grid, "grid"},
       {TableTexture::random, "random"}}};
  return kNames;
}

void ObjectMovedOptions::visit(config::Visitor& v) {
  v("probability", probability,
    "of an episode in which the named block slips away as the hand comes down; 0 = never",
    config::between(0, 1));
  v("distance_m", distance_m, "how far it goes, m", config::between(0.01, 0.10));
}

void LightingOptions::visit(config::Visitor& v) {
  v("probability", probability, "of an episode under other light; 0 = never", config::between(0, 1));
  v("brightness", brightness, "all light is multiplied by 1 - this or 1 + this", config::between(0, 0.9));
  v("direction_deg", direction_deg, "tilt of the lamp, degrees, towards any side", config::between(0, 70));
  v("color", color, "tint: loss of the weakest of red, green, blue; the middle one loses half of it",
    config::between(0, 1));
}

void BackgroundOptions::visit(config::Visitor& v) {
  v("probability", probability, "of an episode on another table; 0 = never", config::between(0, 1));
  v("color", color, "share of a random color in the table's; 0 keeps its own", config::between(0, 1));
  v("texture", texture, "what is drawn on the table; random: any of the others");
}

void DistractorsOptions::visit(config::Visitor& v) {
  v("probability", probability, "of an episode with other objects on the tray; 0 = never",
    config::between(0, 1));
  v("count", count, "how many", config::between(1, kMaxDistractors));
}

void CameraMovedOptions::visit(config::Visitor& v) {
  v("probability", probability, "of an episode seen from elsewhere; 0 = never", config::between(0, 1));
  v("distance_m", distance_m, "how far the camera moves, m, in any direction", config::between(0, 0.2));
  v("angle_deg", angle_deg, "how far it turns, degrees, about any axis", config::between(0, 45));
}

void SceneDisruptionOptions::visit(config::Visitor& v) {
  v("object_moved", object_moved, "the named block is moved once in mid-episode");
  v("lighting", lighting, "the light's brightness, direction and color");
  v("background", background, "the table's color and texture");
  v("distractors", distractors, "other objects on the tray");
  v("camera_moved", camera_moved, "the camera's place and direction");
}

std::vector<std::string> scene_disruption_names() {
  std::vector<std::string> names;
  SceneDisruptionOptions().for_each([&](const char* name, const auto&) { names.push_back(name); });
  return names;
}

void check_options(const SceneDisruptionOptions& options) {
  const auto check = [](const std::string& name, double value, double min, double max) {
    APO_CHECK(ConfigError, value >= min && value <= max, "disruption option ", name, " is ", value,
              ", expected a number between ", min, " and ", max);
  };
  SceneDisruptionOptions copy = options;
  copy.for_each([&](const char* name, const auto& section) {
    check(concat(name, ".probability"), section.probability, 0, 1);
  });
  check("object_moved.distance_m", options.object_moved.distance_m, 0.01, 0.10);
  check("lighting.brightness", options.lighting.brightness, 0, 0.9);
  check("lighting.direction_deg", options.lighting.direction_deg, 0, 70);
  check("lighting.color", options.lighting.color, 0, 1);
  check("background.color", options.background.color, 0, 1);
  check("distractors.count", static_cast<double>(options.distractors.count), 1, kMaxDistractors);
  check("camera_moved.distance_m", options.camera_moved.distance_m, 0, 0.2);
  check("camera_moved.angle_deg", options.camera_moved.angle_deg, 0, 45);
}

SceneDisruptions draw_scene_disruptions(const SceneDisruptionOptions& options, uint64_t seed) {
  SceneDisruptions drawn;
  // A stream for each: switching one on does not change what another does.
  const auto when_drawn = [&](const char* stream, double probability, auto&& draw) {
    if (probability == 0) return;
    Random random(seed, stream);
    if (random.uniform() < probability) draw(random);
  };
  when_drawn("tabletop/lighting", options.lighting.probability,
             [&](Random& random) { drawn.light = draw_light(options.lighting, random); });
  when_drawn("tabletop/background", options.background.probability,
             [&](Random& random) { drawn.table = draw_table(options.background, random); });
  when_drawn("tabletop/distractors", options.distractors.probability,
             [&](Random&) { drawn.distractors = options.distractors.count; });
  when_drawn("tabletop/camera_moved", options.camera_moved.probability,
             [&](Random& random) { drawn.view = draw_view(options.camera_moved, random); });
  return drawn;
}

}  // namespace apo::simulation
