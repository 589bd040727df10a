// What may go wrong with the tabletop's world: an object that slips away, other light, another table,
// clutter, a camera that was bumped. Every disruption has a probability (of an episode being disrupted so)
// and magnitudes in units that a person can picture; which way it goes is drawn from the episode's seed, in a
// random stream of its own, so that switching one on changes nothing about the others or about the layout.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace apo::config {
class Visitor;
}

namespace apo::simulation {

/// The named block slips away once, in the moment in which the hand comes down on it.
struct ObjectMovedOptions {
  double probability = 0;    ///< of an episode being disrupted so; 0 = never, 1 = always
  double distance_m = 0.05;  ///< how far the block goes
  void visit(config::Visitor& v);
};

/// Other light during the whole episode. The magnitudes are met exactly; their directions are drawn.
struct LightingOptions {
  double probability = 0;
  double brightness = 0.4;    ///< all light is multiplied by 1 - brightness or by 1 + brightness
  double direction_deg = 35;  ///< tilt of the lamp above the table, towards any side
  double color = 0.4;         ///< loss of the weakest of red, green, blue; the middle one loses half of it
  void visit(config::Visitor& v);
};

/// What is drawn on the table; `random` is any of the others.
enum class TableTexture { plain, checker, grid, random };
std::span<const std::pair<TableTexture, std::string_view>> enum_names(TableTexture);

/// Another table top: a color that is no block's (orange to turquoise, purple to pink), and a texture.
struct BackgroundOptions {
  double probability = 0;
  double color = 0.7;  ///< share of the new color in the table's; 0 keeps its own
  TableTexture texture = TableTexture::random;
  void visit(config::Visitor& v);
};

/// Small objects of other colors on the tray, which can be pushed about like the blocks.
struct DistractorsOptions {
  double probability = 0;
  int64_t count = 3;  ///< 1 to 4
  void visit(config::Visitor& v);
};

/// The camera stands elsewhere and looks elsewhere during the whole episode.
struct CameraMovedOptions {
  double probability = 0;
  double distance_m = 0.03;  ///< in any direction
  double angle_deg = 4;      ///< about any axis
  void visit(config::Visitor& v);
};

struct SceneDisruptionOptions {
  ObjectMovedOptions object_moved = {};
  LightingOptions lighting = {};
  BackgroundOptions background = {};
  DistractorsOptions distractors = {};
  CameraMovedOptions camera_moved = {};

  /// Calls f(name, section) for each of them.
  template <class F>
  void for_each(F&& f) {
    f("object_moved", object_moved);
    f("lighting", lighting);
    f("background", background);
    f("distractors", distractors);
    f("camera_moved", camera_moved);
  }
  void visit(config::Visitor& v);
};

/// The names of the fields above, in that order.
std::vector<std::string> scene_disruption_names();

}  // namespace apo::simulation
