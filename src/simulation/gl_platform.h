// What can draw pictures without a screen: EGL (a graphics card's driver, or Mesa) and OSMesa (Mesa on the
// CPU). Both are loaded while the program runs, so that it starts and does everything else where neither is
// installed.
#pragma once

#include <memory>
#include <string>

#include "base/shared_library.h"

namespace apo::simulation {

/// An off-screen OpenGL context. It may be current in one thread at a time; a thread may own several.
class GlContext {
 public:
  virtual ~GlContext() = default;
  /// Makes it the calling thread's current one. RunError if the driver refuses.
  virtual void activate() = 0;
};

/// A way to OpenGL contexts that has drawn. Never destroyed once chosen; any thread may call it.
class GlPlatform {
 public:
  virtual ~GlPlatform() = default;
  /// A context that is current in the calling thread. RunError with the driver's reason.
  virtual std::unique_ptr<GlContext> make_context() = 0;
  /// Makes MuJoCo find this platform's functions. RunError if it would take another's.
  virtual void show_to_mujoco() = 0;
  /// What draws, as the driver calls it: "llvmpipe (LLVM 15.0.6, 256 bits)".
  const std::string& renderer() const { return renderer_; }

 protected:
  std::string renderer_;
};

/// EGL without a screen: the device that MUJOCO_EGL_DEVICE_ID numbers; if it is unset, the first that can
/// draw, graphics cards before Mesa's software, else Mesa without a device, else the default display.
/// RunError with the reasons of all of them; ConfigError if MUJOCO_EGL_DEVICE_ID is no device's number.
std::unique_ptr<GlPlatform> open_egl();

/// OSMesa: a copy beside the file that holds this code or in ../lib of it, else where the loader finds one.
/// RunError with the reasons of all of them.
std::unique_ptr<GlPlatform> open_osmesa();

using AnyFunction = void (*)();

/// The name (GL_RENDERER) of the current context, whose glGetString this is. RunError with what it lacks if
/// MuJoCo cannot draw with it.
std::string check_opengl(AnyFunction gl_get_string);

/// The program has begun to end, and the driver may be gone: no OpenGL call any more.
bool program_ends();

/// Makes the library's function of that name the one that MuJoCo takes all others from: it asks the process
/// for eglGetProcAddress, OSMesaGetProcAddress and glXGetProcAddressARB, in this order. RunError if it would
/// find another library's.
void show_to_mujoco(const SharedLibrary& library, const char* get_proc_address);

}  // namespace apo::simulation
