// What draws the pictures. It is chosen when the first one is drawn, or its name is first asked for:
//
//   MUJOCO_GL=egl      EGL: a graphics card's driver, or Mesa's software
//   MUJOCO_GL=osmesa   OSMesa: Mesa's software alone
//   unset              EGL where it can be used, else OSMesa
//
// MUJOCO_EGL_DEVICE_ID picks EGL's device by its number.
#pragma once

#include <string>

namespace apo::simulation {

/// The way and the renderer, as the driver calls it: "EGL (NVIDIA H100 80GB HBM3/PCIe/SSE2)" or "OSMesa
/// (llvmpipe (LLVM 15.0.6, 256 bits))". Two renderers draw nearly the same pictures, not the same. Chooses if
/// no picture has been drawn yet. Thread-safe.
/// RunError if there is no renderer or no MuJoCo in this build; ConfigError if an environment variable asks
/// for what does not exist.
std::string renderer_name();

}  // namespace apo::simulation
