#include "simulation/gl_context.h"

#include <dlfcn.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <string_view>

#include "apo/base/error.h"
#include "apo/base/location.h"
#include "apo/base/log.h"
#include "apo/simulation/rendering.h"

namespace apo::simulation {
namespace {

constexpr const char* kRemedy =
    "install a graphics card's driver with EGL, or one of Mesa's software renderers (Debian and Ubuntu: the "
    "package libosmesa6, or libegl1 with libegl-mesa0 and libgl1-mesa-dri)";

constexpr const char* kBlanks = " \t\r\n";

std::atomic<bool> ending = false;

struct Chosen {
  std::unique_ptr<GlPlatform> platform;
  std::string renderer;  ///< "OSMesa (llvmpipe (LLVM 15.0.6, 256 bits))"
  bool in_software = false;
};

struct Way {
  std::string_view value;  ///< of MUJOCO_GL
  const char* name;
  std::unique_ptr<GlPlatform> (*open)();
};
constexpr Way kWays[] = {{"egl", "EGL", open_egl}, {"osmesa", "OSMesa", open_osmesa}};

std::string environment(const char* variable) {
  const char* value = ::getenv(variable);
  return value ? value : "";
}

/// MUJOCO_GL as MuJoCo's Python reads it: any case, blanks around it do not count.
std::string wish() {
  const std::string found = environment("MUJOCO_GL");
  std::string text;
  if (const size_t first = found.find_first_not_of(kBlanks); first != std::string::npos)
    text = found.substr(first, found.find_last_not_of(kBlanks) + 1 - first);
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const bool known =
      text.empty() || std::ranges::any_of(kWays, [&](const Way& way) { return way.value == text; });
  APO_CHECK(ConfigError, known,
            "environment variable MUJOCO_GL: expected egl, osmesa or nothing (EGL where it can be ",
            "used, else OSMesa), found '", found, "'");
  return text;
}

Chosen open(const Way& way) {
  Chosen chosen{.platform = way.open(), .renderer = {}};
  chosen.platform->show_to_mujoco();
  chosen.renderer = concat(way.name, " (", chosen.platform->renderer(), ")");
  for (const char* name : {"llvmpipe", "softpipe", "swrast", "Software Rasterizer", "SWR"})
    chosen.in_software = chosen.in_software || chosen.renderer.find(name) != std::string::npos;
  return chosen;
}

Chosen choose() {
  // Mesa's software rasterizer: a 64-pixel picture is one tile, so handing it to a thread costs more than
  // drawing it.
  ::setenv("LP_NUM_THREADS", "0", /*overwrite=*/0);
  const std::string wished = wish(), device = environment("MUJOCO_EGL_DEVICE_ID");
  const std::string demand = !wished.empty()   ? concat("MUJOCO_GL=", wished)
                             : !device.empty() ? concat("MUJOCO_EGL_DEVICE_ID=", device)
                                               : "";
  const std::string_view only = !wished.empty() ? std::string_view(wished) : !device.empty() ? "egl" : "";
  // Without a demand, Mesa need not complain of a device that is then passed over; our error gives the
  // reasons.
  if (only.empty()) ::setenv("EGL_LOG_LEVEL", "fatal", /*overwrite=*/0);
  std::string reasons;
  for (const Way& way : kWays) {
    if (!only.empty() && way.value != only) continue;
    try {
      return open(way);
    } catch (const RunError& error) {
      append_item(reasons, "; ", way.name, ": ", error.what());
    }
  }
  throw RunError(concat("pictures cannot be drawn", demand.empty() ? "" : concat(" as ", demand, " demands"),
                        ": ", reasons, "; ", kRemedy, demand.empty() ? "" : ", or unset that variable"));
}

/// Never destroyed: threads may hold contexts until the very end.
const Chosen& chosen() {
  static const Chosen& instance = []() -> const Chosen& {
    const auto* made = new Chosen(choose());
    // Registered after the driver's own exit handlers, so it runs before them.
    ::atexit([] { ending = true; });
    log_info("pictures are drawn by ", made->renderer);
    return *made;
  }();
  return instance;
}

}  // namespace

bool program_ends() { return ending; }

std::string check_opengl(AnyFunction gl_get_string) {
  constexpr unsigned kRenderer = 0x1F01, kExtensions = 0x1F03;
  auto* get_string = reinterpret_cast<const char* (*)(unsigned)>(gl_get_string);
  const char* renderer = get_string ? get_string(kRenderer) : nullptr;
  const char* extensions = get_string ? get_string(kExtensions) : nullptr;
  APO_CHECK(RunError, renderer && extensions, "the context has no desktop OpenGL");
  for (const char* needed : {"GL_ARB_framebuffer_object", "GL_ARB_vertex_buffer_object"})
    APO_CHECK(RunError, std::string_view(extensions).find(needed) != std::string_view::npos, "the OpenGL of ",
              renderer, " has no ", needed);
  return renderer;
}

std::unique_ptr<GlContext> make_gl_context() { return chosen().platform->make_context(); }

void show_to_mujoco(const SharedLibrary& library, const char* get_proc_address) {
  APO_CHECK(RunError, ::dlopen(library.name().c_str(), RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD), loader_error());
  void* process = ::dlopen(nullptr, RTLD_NOW);
  APO_CHECK(RunError, process, loader_error());
  void* taken = nullptr;
  for (const char* name : {"eglGetProcAddress", "OSMesaGetProcAddress", "glXGetProcAddressARB"})
    if (!taken) taken = ::dlsym(process, name);
  ::dlclose(process);
  APO_CHECK(RunError, taken == library.address(get_proc_address), library.name(),
            ": MuJoCo would take its OpenGL functions from ",
            taken == nullptr ? "nowhere" : file_of(taken).string(), ", which this program has loaded before");
}

bool draws_in_software() { return chosen().in_software; }

std::string renderer_name() { return chosen().renderer; }

}  // namespace apo::simulation
