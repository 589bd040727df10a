// MuJoCo's functions, loaded when the first scene is made: programs start without it, and only what simulates
// needs it.
#pragma once

#include <mujoco/mujoco.h>

#include <string>

namespace apo::simulation {

// clang-format off
#define APO_MUJOCO_FUNCTIONS(X)                                                                             \
  X(mj_version)                                                                                             \
  X(mj_parseXMLString) X(mj_compile) X(mjs_getError) X(mj_deleteSpec) X(mj_copyModel) X(mj_deleteModel)     \
      X(mj_makeData) X(mj_deleteData) X(mj_resetData) X(mj_forward) X(mj_kinematics) X(mj_camlight)         \
          X(mj_step) X(mj_name2id) X(mju_warningText) X(mjv_defaultScene) X(mjv_defaultOption)              \
              X(mjv_defaultCamera) X(mjv_makeScene) X(mjv_freeScene) X(mjv_updateScene)                     \
                  X(mjr_defaultContext) X(mjr_makeContext) X(mjr_freeContext) X(mjr_setBuffer)              \
                      X(mjr_render) X(mjr_readPixels)
// clang-format on

/// MuJoCo's functions by their own names, of the version whose headers we are compiled with.
struct MujocoLibrary {
#define APO_MUJOCO_MEMBER(name) decltype(&::name) name = nullptr;
  APO_MUJOCO_FUNCTIONS(APO_MUJOCO_MEMBER)
#undef APO_MUJOCO_MEMBER
  decltype(&::mju_user_error) user_error = nullptr;      ///< the library's variable: what it calls on errors
  decltype(&::mju_user_warning) user_warning = nullptr;  ///< likewise on warnings
};

/// The functions, loaded at the first call from the wheel beside ours in a Python environment, else by the
/// loader's search.
/// RunError saying which version is expected and what was found.
const MujocoLibrary& mujoco();

/// Why there is no MuJoCo; empty if there is.
std::string mujoco_problem();

}  // namespace apo::simulation
