// What the disruptions make of one episode: drawn from its seed, applied by the renderer and the tabletop.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "apo/simulation/scene_disruptions.h"

namespace apo::simulation {

struct OtherLight {
  std::array<double, 3> color{1, 1, 1};       ///< factor of every light's red, green, blue
  std::array<double, 3> direction{0, 0, -1};  ///< of the lamp's light, a unit vector
};

struct OtherTable {
  std::array<double, 3> color{};  ///< red, green, blue
  double share = 0;               ///< of that color in the table's
  TableTexture texture = TableTexture::plain;
};

struct OtherView {
  std::array<double, 3> shift{};  ///< of the camera, m, world axes
  std::array<double, 3> axis{};   ///< unit vector, world axes
  double angle = 0;               ///< rad, about `axis`
};

struct SceneDisruptions {
  std::optional<OtherLight> light;
  std::optional<OtherTable> table;
  std::optional<OtherView> view;
  int64_t distractors = 0;
};

/// What lasts for the whole episode of `seed`; the moved object is the tabletop's own affair.
SceneDisruptions draw_scene_disruptions(const SceneDisruptionOptions& options, uint64_t seed);

/// ConfigError naming the option that is out of range, for callers that fill the struct themselves.
void check_options(const SceneDisruptionOptions& options);

}  // namespace apo::simulation
