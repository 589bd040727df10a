// The part of the tabletop that needs no MuJoCo: when it is won, lost or about to go wrong, its expert, its
// options.
#include "simulation/rules.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "apo/config/options.h"
#include "apo/simulation/tabletop.h"

namespace apo::simulation {
namespace {

using Position = Eigen::Map<const Eigen::Vector3d>;

Position position(const std::array<double, 3>& p) { return Position(p.data()); }

/// 0 below zero, 1 above one, with a flat slope at both ends.
double smooth_step(double t) {
  t = std::clamp(t, 0.0, 1.0);
  return t * t * (3 - 2 * t);
}

bool in_zone(const Position& block) {
  return std::abs(block.y()) < kZoneHalfWidth - 0.005 && block.z() > 0 && block.z() < 0.04;
}

/// Which way from the middle the named block lies: 1 or -1 along y.
double outward(const TabletopState& state) { return state.target_block()[1] < 0 ? -1 : 1; }

/// Where the hand has to come down: on the named block to pick it, beyond it to push it to the middle.
Eigen::Vector2d approach_point(const TabletopState& state) {
  constexpr double kBeyond = 0.055;  // block 2.2 cm, closed fingers 1.2 cm, and room to come down
  Eigen::Vector2d point = position(state.target_block()).head<2>();
  if (state.task == TabletopTask::push) point.y() += kBeyond * outward(state);
  return point;
}

constexpr double kFullSpeedDistance = 1.6 * kMetresPerUnit;  // beyond it the hand moves at full speed

/// Velocity over a gap, at full speed where it is wide.
Eigen::Vector2d approach(const Eigen::Vector2d& offset) {
  const Eigen::Vector2d velocity = offset / kFullSpeedDistance;
  return velocity / std::max(1.0, velocity.norm());
}

Action as_action(const Eigen::Vector2d& velocity, double rise, double grip) {
  const auto f = [](double v) { return static_cast<float>(v); };
  return {f(velocity.x()), f(velocity.y()), f(rise), 0, 0, 0, f(grip)};
}

Action pick_expert(const TabletopState& state) {
  const Position hand = position(state.hand), block = position(state.target_block());
  const Eigen::Vector2d offset = (block - hand).head<2>();
  const double distance = offset.norm();
  Eigen::Vector2d velocity = approach(offset);
  if (distance < 0.026 && std::abs(hand.z() - block.z()) < 0.016) {
    // Around the block: close, centre while the fingers are still wide, rise as they get hold.
    const double rise = 0.8 * std::clamp((0.066 - state.opening) / 0.012, 0.0, 1.0);
    velocity *= 0.5 * std::clamp((state.opening - 0.05) / 0.02, 0.0, 1.0);
    return as_action(velocity, rise, 1);
  }
  // A funnel: 7.5 cm above the block when beside it, on it when over it; slower sideways while still too low.
  const double gap = block.z() + 0.075 * smooth_step((distance - 0.020) / 0.032) - hand.z();
  velocity *= std::clamp(1 - (gap - 0.015) / 0.03, 0.3, 1.0);
  return as_action(velocity, std::clamp(gap / kFullSpeedDistance, -1.0, 1.0), -1);
}

Action push_expert(const TabletopState& state) {
  constexpr double kPushHeight = 0.022;  // of a block's centre
  const Position hand = position(state.hand), block = position(state.target_block());
  const Eigen::Vector2d to_block = (block - hand).head<2>();
  const double side = outward(state), beyond = -side * to_block.y();
  if (beyond > 0.025 && beyond < 0.085 && std::abs(to_block.x()) < 0.020 && hand.z() < kPushHeight + 0.020) {
    // Beyond the block and low: straight to the middle, kept in line with the block.
    const double rise = std::clamp((kPushHeight - hand.z()) / kFullSpeedDistance, -1.0, 1.0);
    return as_action({std::clamp(to_block.x() / kFullSpeedDistance, -0.5, 0.5), -side}, rise, 1);
  }
  // A funnel as for picking, but down to the block's outer side and past the block itself.
  const Eigen::Vector2d offset = approach_point(state) - hand.head<2>();
  const double gap = kPushHeight + 0.075 * smooth_step((offset.norm() - 0.014) / 0.030) - hand.z();
  const Eigen::Vector2d velocity = approach(offset) * std::clamp(1 - (gap - 0.015) / 0.03, 0.3, 1.0);
  return as_action(velocity, std::clamp(gap / kFullSpeedDistance, -1.0, 1.0), 1);
}

}  // namespace

std::span<const std::pair<TabletopTask, std::string_view>> enum_names(TabletopTask) {
  static constexpr std::array<std::pair<TabletopTask, std::string_view>, 2> kNames = {
      {{TabletopTask::pick, "pick"}, {TabletopTask::push, "push"}}};
  return kNames;
}

void TabletopOptions::visit(config::Visitor& v) {
  v("task", task, "pick: lift the named block; push: bring it into the zone in the middle");
  v("cameras", cameras,
    "pictures that are observed and recorded: front, fixed before the tray; wrist, which goes where the hand "
    "goes; or both. Each costs its drawing");
  v("image_size", image_size, "pixels of a side of each picture", config::between(16, 1024));
  v("max_steps", max_steps, "control steps (20 a second) after which an episode ends", config::at_least(1));
  v("habit", habit, "probability that the red block lies on the right", config::between(0, 1));
  v("demonstration_habit", demonstration_habit,
    "the same while demonstrations are recorded: 1 lets a policy learn the side in place of the color",
    config::between(0, 1));
  v("action_noise", action_noise,
    "standard deviation of the noise on executed x, y, z, in units of action; the recorded action stays "
    "clean",
    config::at_least(0));
}

void check_options(const TabletopOptions& options) {
  const auto& cameras = options.cameras;
  const bool good = std::ranges::all_of(cameras, [&cameras](const std::string& name) {
    return (name == "front" || name == "wrist") && std::ranges::count(cameras, name) == 1;
  });
  APO_CHECK(ConfigError, good && !cameras.empty(),
            "environment.tabletop.cameras: expected front, wrist or both, each once, found [", join(cameras),
            "]");
  const auto check = [](const char* name, double value, double min, double max) {
    APO_CHECK(ConfigError, value >= min && value <= max, "tabletop option ", name, " is ", value,
              ", expected a number between ", min, " and ", max);
  };
  check("image_size", static_cast<double>(options.image_size), 16, 1024);
  check("max_steps", static_cast<double>(options.max_steps), 1, 1e9);
  check("habit", options.habit, 0, 1);
  check("demonstration_habit", options.demonstration_habit, 0, 1);
  check("action_noise", options.action_noise, 0, 1e3);
}

bool achieved(const TabletopState& state) {
  const Position block = position(state.target_block());
  if (state.task == TabletopTask::push) return in_zone(block);
  return block.z() > 0.07 && (block - position(state.hand)).cwiseAbs().maxCoeff() < 0.035;
}

bool achieved_with_other(const TabletopState& state) {
  const Position other = position(state.other_block());
  return state.task == TabletopTask::push ? in_zone(other) : other.z() > 0.045;
}

bool off_table(const TabletopState& state) {
  return std::min(state.blocks[0][2], state.blocks[1][2]) < -0.02;
}

bool near_wrong(const TabletopState& state) {
  const Position hand = position(state.hand), other = position(state.other_block());
  const double to_target = (position(state.target_block()) - hand).head<2>().norm();
  const double to_other = (other - hand).head<2>().norm();
  return to_other < 0.05 && to_other < to_target && hand.z() - other.z() < 0.09;
}

std::optional<std::string> tabletop_concern(const TabletopState& state) {
  if (near_wrong(state)) return "wrong object";
  const Position hand = position(state.hand);
  const double above = hand.z() - state.target_block()[2];
  const double high = state.task == TabletopTask::push ? 0.06 : 0.07;  // a pushing hand comes along lower
  if (above > 0.045 && above < high && (approach_point(state) - hand.head<2>()).norm() > 0.05)
    return "off course";
  return std::nullopt;
}

int64_t steps_stuck(std::span<const TabletopState> states) {
  constexpr double kBlockUnmoved = 0.005;
  // For how many steps all was as it is now, but for so much.
  const auto steps_alike = [&states](double radius, double fingers) {
    const TabletopState& now = states.back();
    const auto alike = [&](const TabletopState& state) {
      return (position(state.hand) - position(now.hand)).norm() < radius &&
             (position(state.target_block()) - position(now.target_block())).norm() < kBlockUnmoved &&
             std::abs(state.opening - now.opening) < fingers;
    };
    int64_t steps = 0;
    while (steps + 1 < std::ssize(states) && alike(states[states.size() - 2 - static_cast<size_t>(steps)]))
      ++steps;
    return steps;
  };
  if (states.empty()) return 0;
  constexpr double kAnyFingers = 1;
  if (const int64_t long_since = steps_alike(0.035, kAnyFingers); long_since >= 16) return long_since;
  const int64_t at_rest = steps_alike(0.02, 0.015);
  return at_rest >= 8 ? at_rest : 0;
}

bool grasped_air(const TabletopState& state) {
  constexpr double kEmpty = 0.02;  // closing on a block they come to 3 cm for a moment, and end at 4.4
  return state.task == TabletopTask::pick && state.opening < kEmpty;
}

bool passed_by(std::span<const TabletopState> states) {
  constexpr double kNear = 0.05, kAway = 0.04;
  if (states.empty() || states.back().task != TabletopTask::pick) return false;
  const Eigen::Vector2d block = position(states.back().target_block()).head<2>();
  const auto distance = [&block](const TabletopState& state) {
    return (position(state.hand).head<2>() - block).norm();
  };
  double closest = kNear;
  for (const TabletopState& state : states) closest = std::min(closest, distance(state));
  return closest < kNear && distance(states.back()) > closest + kAway;
}

std::optional<std::string> tabletop_concern(std::span<const TabletopState> states) {
  if (states.empty()) return std::nullopt;
  const auto concern = tabletop_concern(states.back());
  if (concern == "wrong object") return concern;
  if (grasped_air(states.back())) return "grasped air";
  if (passed_by(states)) return "passed by";
  return !concern && steps_stuck(states) > 0 ? "stuck" : concern;
}

Action scripted_expert(const TabletopState& state) {
  return state.task == TabletopTask::push ? push_expert(state) : pick_expert(state);
}

}  // namespace apo::simulation
