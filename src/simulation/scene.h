// The tabletop's worlds as MuJoCo sees them: each compiled once a process, shared by every environment, never
// changed.
#pragma once

#include <mujoco/mujoco.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "apo/simulation/scene_disruptions.h"
#include "apo/simulation/tabletop.h"

namespace apo::simulation {

/// Compiles a scene text. RunError with MuJoCo's reason; `name` says which scene.
std::shared_ptr<const mjModel> compile_scene(const std::string& text, const std::string& name);

/// MuJoCo's fatal errors become RunError (its own default ends the process), its warnings log lines. Done
/// once.
void install_mujoco_handlers();

struct Scene {
  std::shared_ptr<const mjModel> model;
  int hand_body, palm_geom, table_geom;
  std::array<int, 2> cameras;                ///< by Camera
  int hand_qpos;                             ///< address of the hand's position and quaternion in qpos
  std::array<int, 2> finger_qpos;            ///< left, right
  std::array<int, 2> block_qpos, block_dof;  ///< red, blue
  std::vector<int> distractor_qpos;          ///< of the other objects, if the scene has any
  std::array<int, 2> materials;              ///< of the table: checker, grid
};

/// The scene for a task with so many distractors; the first call with these compiles it. Thread-safe.
std::shared_ptr<const Scene> tabletop_scene(TabletopTask task, int64_t distractors);

}  // namespace apo::simulation
