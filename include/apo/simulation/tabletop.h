// A tabletop in MuJoCo: a two-fingered hand, a red and a blue block, one camera before it and one at the
// wrist, and a sentence that names a block and says what to do with it: pick it up, or push it into the zone
// in the middle.
//
//   simulation::Tabletop table({.task = simulation::TabletopTask::push}, {.lighting = {.probability = 1}});
//   table.reset(seed);
//   while (!table.done()) table.step(simulation::scripted_expert(table.state()));
//   table.outcome();  // "success"
//
// In demonstrations the red block may always lie on one side (`habit: 1`): what a policy then learns is the
// side and not the color, and a person who watches it has something to correct.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apo/base/types.h"
#include "apo/simulation/scene_disruptions.h"

namespace apo::config {
class Visitor;
}

namespace apo::simulation {

inline constexpr int64_t kActionSize = 7;        ///< x, y, z, three rotations, gripper
inline constexpr double kControlRateHz = 20;     ///< control steps a second of simulated time
inline constexpr double kMetresPerUnit = 0.015;  ///< hand motion of one unit of action in x, y, z
/// hand rotation of one unit of action, about the world's axes
inline constexpr double kRadiansPerUnit = 0.2;

/// What is asked for.
enum class TabletopTask {
  pick,  ///< "pick up the red block": lift it
  /// "push the red block into the zone": from its side, with the fingers closed, to the band in the middle
  push,
};
std::span<const std::pair<TabletopTask, std::string_view>> enum_names(TabletopTask);

struct TabletopOptions {
  TabletopTask task = TabletopTask::pick;
  /// pictures that are observed: "front", fixed before the tray; "wrist", which goes where the hand goes and
  /// sees its fingers; or both, in any order
  std::vector<std::string> cameras = {"front"};
  int64_t image_size = 64;         ///< pixels of a side of each picture
  int64_t max_steps = 40;          ///< control steps after which an episode is done
  double habit = 0.5;              ///< probability that the red block lies on the right
  double demonstration_habit = 1;  ///< in its place where an environment is made to record an expert
  double action_noise = 0;  ///< standard deviation of what is added to executed x, y, z, in units of action
  void visit(config::Visitor& v);
};

/// The ground truth; positions in metres, x towards the camera, y to the right of the picture, z up from the
/// table.
struct TabletopState {
  TabletopTask task = TabletopTask::pick;
  std::array<double, 3> hand{};  ///< between the finger tips
  /// between the fingers, m; 0.11 when open, 0.044 around a block
  double opening = 0;
  std::array<std::array<double, 3>, 2> blocks{};   ///< centres: red, blue
  int64_t target = 0;                              ///< the named block: 0 red, 1 blue
  int64_t num_steps = 0;                           ///< control steps since the reset
  bool habit = false;                              ///< red began on the right
  bool object_moved = false;                       ///< the disruption happened
  std::vector<std::array<double, 3>> distractors;  ///< centres of other objects

  const std::array<double, 3>& target_block() const { return blocks[target]; }
  const std::array<double, 3>& other_block() const { return blocks[1 - target]; }
};

/// One environment. Several may live in one thread or in several; one instance belongs to one thread at a
/// time.
/// Everything in an episode (layout, task, side, noise, disruption) depends on options, seed and actions
/// alone.
class Tabletop {
 public:
  /// False without MuJoCo (not installed, or a build with -DAPO_MUJOCO=OFF); the constructor then throws.
  static bool available();
  /// Why it is not available, as one sentence; empty if it is.
  static std::string problem();

  /// Ready to use, as after `reset(0)`. ConfigError for options out of range; RunError without MuJoCo.
  explicit Tabletop(const TabletopOptions& options = {}, const SceneDisruptionOptions& disruptions = {});
  ~Tabletop();
  Tabletop(Tabletop&&) noexcept;
  Tabletop& operator=(Tabletop&&) noexcept;

  /// Starts the episode that belongs to `seed`.
  void reset(uint64_t seed);

  /// What the policy is given: an image [image_size, image_size, 3] of each of `cameras`; state "eef_pos" [3]
  /// m, "eef_height" [1] m, "gripper_opening" [1] m; instruction "pick up the red block", "push the blue
  /// block into the zone", ... RunError or ConfigError if nothing can draw, as renderer_name() of
  /// rendering.h.
  Observation observe() const;

  /// The front view for people, antialiased: [size, size, 3] uint8, row 0 at the top. Between 16 and 2048
  /// pixels.
  at::Tensor render(int size) const;

  /// Executes one action, [7] in units of [-1, 1]; gripper > 0 closes, otherwise opens. Values beyond are
  /// clamped, and the action counted in `clamped_actions`. Stepping on after `done` is allowed; the outcome
  /// then stays unless it was "timeout", which a late success or failure replaces.
  /// RunError for a wrong size, a value that is not finite, or a simulation that became unstable.
  void step(const Action& action);

  TabletopState state() const;

  /// pick: the named block is more than 7 cm high and in the hand (within 3.5 cm on each axis).
  /// push: its centre is within 2.5 cm of the middle line (y = 0) and less than 4 cm above the table.
  bool success() const;
  /// pick: the other block was lifted above 4.5 cm; push: it came into the zone. Either: a block fell off the
  /// table.
  bool failed() const;
  /// success, failed, or `max_steps` steps made.
  bool done() const;
  /// "success", "wrong object", "off the table", "timeout" or "running".
  std::string outcome() const;

  /// The hand is about to take the wrong block: within 5 cm of it, nearer to it than to the named one, and
  /// less than 9 cm above it. A person who watches would take over here.
  bool near_wrong_object() const;
  /// The same in any step since the reset; a success without it is an unaided one.
  bool ever_near_wrong() const;

  /// The disruptions that the running episode has met so far, by their names in `environment.disruptions`.
  std::vector<std::string> disrupted_by() const;

  /// Actions with a value beyond [-1, 1] since construction.
  int64_t clamped_actions() const;
  /// What MuJoCo warned of since construction.
  int64_t solver_warnings() const;

 private:
  struct Episode;
  std::unique_ptr<Episode> episode_;
};

/// The action of a patient person who sees the ground truth. pick: a smooth funnel over the named block,
/// close, lift. push: a funnel down to its outer side with the fingers closed, then towards the middle.
/// It depends on the state alone, so it can take over at any time. [7], within [-1, 1].
Action scripted_expert(const TabletopState& state);

/// When a person who watches would step in: "wrong object" as Tabletop::near_wrong_object; "off course" when
/// the hand came down to 4.5-7 cm (push: 4.5-6 cm) above the named block and is more than 5 cm beside the
/// place where it has to come down (the block, or for pushing its outer side). Both while the hand is still
/// high, where a sideways motion is the whole correction.
std::optional<std::string> tabletop_concern(const TabletopState& state);

/// For how many steps the hand has been stuck; 0: it is not. `states` are an episode's since its reset, with
/// the present one at the end. Stuck is a hand that stayed within 2 cm of where it is for 8 steps and moved
/// its fingers by less than 1.5 cm, or within 3.5 cm for 16 steps, while the named block was not moved by 5
/// mm.
int64_t steps_stuck(std::span<const TabletopState> states);

/// pick: the fingers are closer together than around a block (less than 2 cm apart).
bool grasped_air(const TabletopState& state);

/// pick: the hand was within 5 cm of where the named block lies now, seen from above, and is 4 cm farther
/// away from it again.
bool passed_by(std::span<const TabletopState> states);

/// The first that holds at the end of `states`: "wrong object", "grasped air", "passed by", "off course",
/// "stuck".
std::optional<std::string> tabletop_concern(std::span<const TabletopState> states);

}  // namespace apo::simulation
