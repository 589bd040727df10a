// The process's way to OpenGL contexts, chosen when the first picture is drawn.
#pragma once

#include <memory>

#include "simulation/gl_platform.h"

namespace apo::simulation {

/// A new context, current in the calling thread. The first call in the process chooses the platform, says
/// which in the log, and every later one stays with it: MUJOCO_GL = egl or osmesa; if it is unset, EGL where
/// it can be used, else OSMesa. Thread-safe.
/// RunError with what was looked for, why it cannot be used and what to install; ConfigError for another
/// MUJOCO_GL.
std::unique_ptr<GlContext> make_gl_context();

/// Are pictures drawn by Mesa on the CPU?
bool draws_in_software();

}  // namespace apo::simulation
