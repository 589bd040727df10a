// A tabletop in MuJoCo: a two-fingered hand, a red and a blue block, one camera, and a sentence that names a block.
//
//   simulation::Tabletop table({.action_noise = 0.2});
//   table.reset(seed);
//   while (!table.done()) table.step(simulation::scripted_expert(table.state()));
//   table.outcome();  // "success"
//
// In demonstrations the red block may always lie on one side (`habit`): what a policy then learns is the side and not
// the colour, and a person who watches it has something to correct.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "apo/base/types.h"

namespace apo::config {
class Visitor;
}

namespace apo::simulation {

inline constexpr int64_t kActionSize = 7;         ///< x, y, z, three rotations, gripper
inline constexpr double kControlRateHz = 20;      ///< control steps a second of simulated time
inline constexpr double kMetresPerUnit = 0.015;   ///< hand motion of one unit of action in x, y, z
inline constexpr double kRadiansPerUnit = 0.2;    ///< hand rotation of one unit of action, about the world's axes

/// The named block slips away once, in the moment in which the hand comes down on it.
struct ObjectMovedOptions {
  double probability = 0;    ///< of an episode being disturbed so; 0 = never, 1 = always
  double distance_m = 0.05;  ///< how far the block goes
  void visit(config::Visitor& v);
};

/// What may go wrong with the world during an episode.
struct DisruptionOptions {
  ObjectMovedOptions object_moved = {};
  void visit(config::Visitor& v);
};

struct TabletopOptions {
  int64_t image_size = 64;  ///< pixels of a side of the camera picture
  int64_t max_steps = 40;   ///< control steps after which an episode is done
  double habit = 0.5;       ///< probability that the red block lies on the right
  double action_noise = 0;  ///< standard deviation of what is added to executed x, y, z, in units of action
  DisruptionOptions disruption = {};
  void visit(config::Visitor& v);
};

/// The ground truth; positions in metres, x towards the camera, y to the right of the picture, z up from the table.
struct TabletopState {
  std::array<double, 3> hand{};                   ///< between the finger tips
  double opening = 0;                             ///< between the fingers, m; 0.11 when open, 0.044 around a block
  std::array<std::array<double, 3>, 2> blocks{};  ///< centres: red, blue
  int64_t target = 0;                             ///< the named block: 0 red, 1 blue
  int64_t num_steps = 0;                          ///< control steps since the reset
  bool habit = false;                             ///< red began on the right
  bool object_moved = false;                      ///< the disruption happened

  const std::array<double, 3>& target_block() const { return blocks[target]; }
  const std::array<double, 3>& other_block() const { return blocks[1 - target]; }
};

/// One environment. Several may live in one thread or in several; one instance belongs to one thread at a time.
/// Everything in an episode (layout, task, side, noise, disruption) depends on options, seed and actions alone.
class Tabletop {
 public:
  /// False in a build without MuJoCo (-DAPO_MUJOCO=OFF), where the constructor throws.
  static bool available();

  /// Ready to use, as after `reset(0)`. ConfigError for options out of range; RunError without MuJoCo.
  explicit Tabletop(const TabletopOptions& options = {});
  ~Tabletop();
  Tabletop(Tabletop&&) noexcept;
  Tabletop& operator=(Tabletop&&) noexcept;

  /// Starts the episode that belongs to `seed`.
  void reset(uint64_t seed);

  /// What the policy is given: images "front" [image_size, image_size, 3]; state "eef_pos" [3] m, "eef_height" [1] m,
  /// "gripper_opening" [1] m; instruction "pick up the red block" or "... blue block".
  /// RunError if no off-screen OpenGL context can be had.
  Observation observe() const;

  /// The same view for people, antialiased: [size, size, 3] uint8, row 0 at the top. Between 16 and 2048 pixels.
  at::Tensor render(int size) const;

  /// Executes one action, [7] in units of [-1, 1]; gripper > 0 closes, otherwise opens. Values beyond are clamped, and
  /// the action counted in `clamped_actions`. Stepping on after `done` is allowed; the outcome then stays unless it
  /// was "timeout", which a late success or failure replaces.
  /// RunError for a wrong size, a value that is not finite, or a simulation that became unstable.
  void step(const Action& action);

  TabletopState state() const;

  /// The named block is more than 7 cm high and in the hand (within 3.5 cm on each axis).
  bool success() const;
  /// The other block was lifted above 4.5 cm, or a block fell off the table.
  bool failed() const;
  /// success, failed, or `max_steps` steps made.
  bool done() const;
  /// "success", "wrong object", "off the table", "timeout" or "running".
  std::string outcome() const;

  /// The hand is about to take the wrong block: within 5 cm of it, nearer to it than to the named one, and less than
  /// 9 cm above it. A person who watches would take over here.
  bool near_wrong_object() const;
  /// The same in any step since the reset; a success without it is an unaided one.
  bool ever_near_wrong() const;

  /// Actions with a value beyond [-1, 1] since construction.
  int64_t clamped_actions() const;
  /// What MuJoCo warned of since construction.
  int64_t solver_warnings() const;

 private:
  struct Episode;
  std::unique_ptr<Episode> episode_;
};

/// The action of a patient person who sees the ground truth: a smooth funnel over the named block, close, lift.
/// It depends on the state alone, so it can take over at any time. [7], within [-1, 1].
Action scripted_expert(const TabletopState& state);

}  // namespace apo::simulation
