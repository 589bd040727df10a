// The part of the tabletop that needs no MuJoCo: options, rules, expert.
#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "apo/base/error.h"
#include "apo/config/options.h"
#include "apo/simulation/tabletop.h"
#include "simulation/rules.h"

namespace apo::simulation {
namespace {

using Position = Eigen::Map<const Eigen::Vector3d>;

Position position(const std::array<double, 3>& p) { return Position(p.data()); }

/// 0 below zero, 1 above one, with a flat slope at both ends.
double smooth_step(double t) {
  t = std::clamp(t, 0.0, 1.0);
  return t * t * (3 - 2 * t);
}

}  // namespace

void ObjectMovedOptions::visit(config::Visitor& v) {
  v("probability", probability, "of an episode in which the named block slips away as the hand comes down; 0 = never",
    config::between(0, 1));
  v("distance_m", distance_m, "how far it goes, m", config::between(0.01, 0.10));
}

void DisruptionOptions::visit(config::Visitor& v) {
  v("object_moved", object_moved, "the named block is moved once in mid-episode");
}

void TabletopOptions::visit(config::Visitor& v) {
  v("image_size", image_size, "pixels of a side of the camera picture", config::between(16, 1024));
  v("max_steps", max_steps, "control steps (20 a second) after which an episode ends", config::at_least(1));
  v("habit", habit, "probability that the red block lies on the right; 1 in the demonstrations", config::between(0, 1));
  v("action_noise", action_noise,
    "standard deviation of the noise on executed x, y, z, in units of action; the recorded action stays clean",
    config::at_least(0));
  v("disruption", disruption, "what goes wrong with the world during an episode");
}

void check_options(const TabletopOptions& options) {
  const auto check = [](const char* name, double value, double min, double max) {
    APO_CHECK(ConfigError, value >= min && value <= max, "tabletop option ", name, " is ", value,
              ", expected a number between ", min, " and ", max);
  };
  check("image_size", static_cast<double>(options.image_size), 16, 1024);
  check("max_steps", static_cast<double>(options.max_steps), 1, 1e9);
  check("habit", options.habit, 0, 1);
  check("action_noise", options.action_noise, 0, 1e3);
  check("disruption.object_moved.probability", options.disruption.object_moved.probability, 0, 1);
  check("disruption.object_moved.distance_m", options.disruption.object_moved.distance_m, 0.01, 0.10);
}

bool holds_target(const TabletopState& state) {
  const Position block = position(state.target_block());
  return block.z() > 0.07 && (block - position(state.hand)).cwiseAbs().maxCoeff() < 0.035;
}

bool lifted_other(const TabletopState& state) { return state.other_block()[2] > 0.045; }

bool off_table(const TabletopState& state) { return std::min(state.blocks[0][2], state.blocks[1][2]) < -0.02; }

bool near_wrong(const TabletopState& state) {
  const Position hand = position(state.hand), other = position(state.other_block());
  const double to_target = (position(state.target_block()) - hand).head<2>().norm();
  const double to_other = (other - hand).head<2>().norm();
  return to_other < 0.05 && to_other < to_target && hand.z() - other.z() < 0.09;
}

Action scripted_expert(const TabletopState& state) {
  constexpr double kFullSpeedDistance = 1.6 * kMetresPerUnit;  // beyond it the hand moves at full speed
  const Position hand = position(state.hand), block = position(state.target_block());
  const Eigen::Vector2d offset = (block - hand).head<2>();
  const double distance = offset.norm();
  Eigen::Vector2d velocity = offset / kFullSpeedDistance;
  velocity /= std::max(1.0, velocity.norm());

  double rise, grip;
  if (distance < 0.026 && std::abs(hand.z() - block.z()) < 0.016) {
    // Around the block: close, centre while the fingers are still wide, rise as they get hold.
    rise = 0.8 * std::clamp((0.066 - state.opening) / 0.012, 0.0, 1.0);
    velocity *= 0.5 * std::clamp((state.opening - 0.05) / 0.02, 0.0, 1.0);
    grip = 1;
  } else {
    // A funnel: 7.5 cm above the block when beside it, on it when over it; slower sideways while still too low.
    const double gap = block.z() + 0.075 * smooth_step((distance - 0.020) / 0.032) - hand.z();
    rise = std::clamp(gap / kFullSpeedDistance, -1.0, 1.0);
    velocity *= std::clamp(1 - (gap - 0.015) / 0.03, 0.3, 1.0);
    grip = -1;
  }
  const auto f = [](double v) { return static_cast<float>(v); };
  return {f(velocity.x()), f(velocity.y()), f(rise), 0, 0, 0, f(grip)};
}

}  // namespace apo::simulation
