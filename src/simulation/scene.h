// The tabletop's world as MuJoCo sees it: compiled once a process, shared by every environment, never changed.
#pragma once

#include <mujoco/mujoco.h>

#include <array>
#include <memory>
#include <string>

namespace apo::simulation {

/// Compiles a scene text. RunError with MuJoCo's reason; `name` says which scene.
std::shared_ptr<const mjModel> compile_scene(const std::string& text, const std::string& name);

/// MuJoCo's fatal errors become RunError (its own default ends the process), its warnings log lines. Done once.
void install_mujoco_handlers();

struct Scene {
  std::shared_ptr<const mjModel> model;
  int hand_body, palm_geom, camera;
  int hand_qpos;                         ///< address of the hand's position and quaternion in qpos
  std::array<int, 2> finger_qpos;        ///< left, right
  std::array<int, 2> block_qpos, block_dof;  ///< red, blue
};

/// The scene of the first call, which compiles it.
std::shared_ptr<const Scene> tabletop_scene();

}  // namespace apo::simulation
