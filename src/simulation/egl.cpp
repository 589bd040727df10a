// EGL's few functions and constants, as <EGL/egl.h> and <EGL/eglext.h> declare them.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apo/base/error.h"
#include "simulation/gl_platform.h"

namespace apo::simulation {
namespace {

constexpr unsigned kOpenGlApi = 0x30A2, kPlatformDevice = 0x313F, kPlatformSurfaceless = 0x31DD;
constexpr int kExtensions = 0x3055, kNone = 0x3038, kWidth = 0x3057, kHeight = 0x3056;
constexpr int kRedSize = 0x3024, kGreenSize = 0x3023, kBlueSize = 0x3022;
constexpr int kSurfaceType = 0x3033, kPbufferBit = 0x0001, kRenderableType = 0x3040, kOpenGlBit = 0x0008;
constexpr int kSuccess = 0x3000;
constexpr std::array<const char*, 15> kErrors = {  // from kSuccess on
    "EGL_SUCCESS",       "EGL_NOT_INITIALIZED", "EGL_BAD_ACCESS",        "EGL_BAD_ALLOC",
    "EGL_BAD_ATTRIBUTE", "EGL_BAD_CONFIG",      "EGL_BAD_CONTEXT",       "EGL_BAD_CURRENT_SURFACE",
    "EGL_BAD_DISPLAY",   "EGL_BAD_MATCH",       "EGL_BAD_NATIVE_PIXMAP", "EGL_BAD_NATIVE_WINDOW",
    "EGL_BAD_PARAMETER", "EGL_BAD_SURFACE",     "EGL_CONTEXT_LOST"};

/// Is `word` one of the words of `text` (a list of extensions; null has none)?
bool has_word(const char* text, std::string_view word) {
  const std::string padded = concat(" ", text ? text : "", " ");
  return padded.find(concat(" ", word, " ")) != std::string::npos;
}

struct Egl {
  using Display = void*;
  using Device = void*;
  using Config = void*;
  using Context = void*;
  using Surface = void*;

  SharedLibrary library;
  AnyFunction (*function)(const char* name);
  int (*get_error)();
  const char* (*query_string)(Display, int name);
  Display (*get_display)(void* native);
  unsigned (*initialize)(Display, int* major, int* minor);
  unsigned (*bind_api)(unsigned api);
  unsigned (*choose_config)(Display, const int* attributes, Config*, int size, int* found);
  Context (*create_context)(Display, Config, Context share, const int* attributes);
  unsigned (*destroy_context)(Display, Context);
  Surface (*create_pbuffer)(Display, Config, const int* attributes);
  unsigned (*destroy_surface)(Display, Surface);
  unsigned (*make_current)(Display, Surface draw, Surface read, Context);
  Context (*current_context)();
  // extensions, null where they are missing
  unsigned (*query_devices)(int size, Device*, int* found) = nullptr;
  const char* (*query_device_string)(Device, int name) = nullptr;
  Display (*get_platform_display)(unsigned platform, void* native, const int* attributes) = nullptr;
  bool knows_devices = false, knows_surfaceless = false;

  explicit Egl(const char* name) : library(name) {
    library.find(function, "eglGetProcAddress");
    library.find(get_error, "eglGetError");
    library.find(query_string, "eglQueryString");
    library.find(get_display, "eglGetDisplay");
    library.find(initialize, "eglInitialize");
    library.find(bind_api, "eglBindAPI");
    library.find(choose_config, "eglChooseConfig");
    library.find(create_context, "eglCreateContext");
    library.find(destroy_context, "eglDestroyContext");
    library.find(create_pbuffer, "eglCreatePbufferSurface");
    library.find(destroy_surface, "eglDestroySurface");
    library.find(make_current, "eglMakeCurrent");
    library.find(current_context, "eglGetCurrentContext");
    library.keep();
    const char* extensions = query_string(/*no display*/ nullptr, kExtensions);
    get_error();  // an EGL without client extensions counts the question as an error
    const auto find = [&](auto& pointer, const char* extension) {
      pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(function(extension));
    };
    const bool base = has_word(extensions, "EGL_EXT_device_base");
    if (base || has_word(extensions, "EGL_EXT_device_enumeration")) find(query_devices, "eglQueryDevicesEXT");
    if (base || has_word(extensions, "EGL_EXT_device_query"))
      find(query_device_string, "eglQueryDeviceStringEXT");
    if (has_word(extensions, "EGL_EXT_platform_base")) find(get_platform_display, "eglGetPlatformDisplayEXT");
    knows_devices = query_devices && get_platform_display && has_word(extensions, "EGL_EXT_platform_device");
    knows_surfaceless = get_platform_display && has_word(extensions, "EGL_MESA_platform_surfaceless");
  }

  /// RunError with EGL's reason unless `fine`.
  void check(bool fine, const char* call) const {
    if (fine) return;
    const int code = get_error();
    const auto index = static_cast<size_t>(code - kSuccess);
    const std::string reason = index == 0               ? "no reason given"
                               : index < kErrors.size() ? kErrors[index]
                                                        : concat("error ", code);
    throw RunError(concat(call, ": ", reason));
  }

  std::vector<Device> devices() const {
    int count = 0;
    check(query_devices(0, nullptr, &count), "eglQueryDevicesEXT");
    std::vector<Device> all(static_cast<size_t>(std::max(count, 0)));
    if (!all.empty()) check(query_devices(count, all.data(), &count), "eglQueryDevicesEXT");
    all.resize(std::min(all.size(), static_cast<size_t>(std::max(count, 0))));
    return all;
  }
  bool is_software(Device device) const {
    return query_device_string &&
           has_word(query_device_string(device, kExtensions), "EGL_MESA_device_software");
  }
};

/// A display and how contexts are made on it.
struct Screenless {
  std::shared_ptr<const Egl> egl;
  Egl::Display display = nullptr;
  Egl::Config config = nullptr;
  bool needs_surface = false;  ///< a context cannot be current without one
};

class EglContext : public GlContext {
 public:
  explicit EglContext(const Screenless& place) : place_(place) {
    const Egl& egl = *place.egl;
    try {
      egl.check(egl.bind_api(kOpenGlApi), "eglBindAPI");  // each thread begins with OpenGL ES
      context_ = egl.create_context(place.display, place.config, nullptr, nullptr);
      egl.check(context_, "eglCreateContext");
      if (place.needs_surface) {
        constexpr int attributes[] = {kWidth, 16, kHeight, 16, kNone};  // MuJoCo draws elsewhere
        surface_ = egl.create_pbuffer(place.display, place.config, attributes);
        egl.check(surface_, "eglCreatePbufferSurface");
      }
      activate();
    } catch (...) {
      release();
      throw;
    }
  }
  ~EglContext() override {
    if (!program_ends()) release();
  }
  EglContext(const EglContext&) = delete;
  EglContext& operator=(const EglContext&) = delete;

  void activate() override {
    const Egl& egl = *place_.egl;
    egl.check(egl.bind_api(kOpenGlApi), "eglBindAPI");  // what is current is asked for each API by itself
    if (egl.current_context() == context_) return;
    egl.check(egl.make_current(place_.display, surface_, surface_, context_), "eglMakeCurrent");
  }

 private:
  void release() {
    const Egl& egl = *place_.egl;
    egl.bind_api(kOpenGlApi);
    if (context_ && egl.current_context() == context_)
      egl.make_current(place_.display, nullptr, nullptr, nullptr);
    if (surface_) egl.destroy_surface(place_.display, surface_);
    if (context_) egl.destroy_context(place_.display, context_);
  }

  const Screenless& place_;
  Egl::Context context_ = nullptr;
  Egl::Surface surface_ = nullptr;
};

class EglPlatform : public GlPlatform {
 public:
  EglPlatform(std::shared_ptr<const Egl> egl, Egl::Display display) {
    egl->check(display, "getting the display");
    egl->check(egl->initialize(display, nullptr, nullptr), "eglInitialize");
    const char* extensions = egl->query_string(display, kExtensions);
    const bool needs_surface = !has_word(extensions, "EGL_KHR_surfaceless_context");
    const int attributes[] = {kSurfaceType,
                              needs_surface ? kPbufferBit : 0,
                              kRenderableType,
                              kOpenGlBit,
                              kRedSize,
                              8,
                              kGreenSize,
                              8,
                              kBlueSize,
                              8,
                              kNone};
    Egl::Config config = nullptr;
    int found = 0;
    egl->check(egl->choose_config(display, attributes, &config, 1, &found), "eglChooseConfig");
    APO_CHECK(RunError, found > 0,
              "eglChooseConfig: expected a configuration for desktop OpenGL, found none");
    place_ = {.egl = std::move(egl), .display = display, .config = config, .needs_surface = needs_surface};
    const EglContext probe(place_);
    renderer_ = check_opengl(place_.egl->function("glGetString"));
  }
  std::unique_ptr<GlContext> make_context() override { return std::make_unique<EglContext>(place_); }
  void show_to_mujoco() override { simulation::show_to_mujoco(place_.egl->library, "eglGetProcAddress"); }

 private:
  Screenless place_;
};

/// MUJOCO_EGL_DEVICE_ID; nothing if it is unset.
std::optional<int64_t> wished_device(size_t num_devices) {
  const char* text = std::getenv("MUJOCO_EGL_DEVICE_ID");
  if (!text || !*text) return std::nullopt;
  int64_t index = -1;
  const std::string_view digits(text);
  const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  const bool fits = failed == std::errc() && end == digits.data() + digits.size() && index >= 0 &&
                    index < static_cast<int64_t>(num_devices);
  APO_CHECK(ConfigError, fits,
            "environment variable MUJOCO_EGL_DEVICE_ID: expected the number of an EGL device, ",
            num_devices == 0 ? std::string("but EGL lists none") : concat("0 to ", num_devices - 1),
            ", found '", text, "'");
  return index;
}

}  // namespace

std::unique_ptr<GlPlatform> open_egl() {
  const auto egl = std::make_shared<const Egl>("libEGL.so.1");
  const std::vector<Egl::Device> devices = egl->knows_devices ? egl->devices() : std::vector<Egl::Device>();
  const std::optional<int64_t> wished = wished_device(devices.size());

  std::vector<std::pair<std::string, std::function<Egl::Display()>>> displays;
  for (const bool software : {false, true}) {
    for (size_t i = 0; i < devices.size(); i++) {
      if (wished ? !software && *wished == static_cast<int64_t>(i) : egl->is_software(devices[i]) == software)
        displays.emplace_back(concat("device ", i), [&egl, device = devices[i]] {
          return egl->get_platform_display(kPlatformDevice, device, nullptr);
        });
    }
  }
  if (!wished && egl->knows_surfaceless)
    displays.emplace_back("without a device",
                          [&] { return egl->get_platform_display(kPlatformSurfaceless, nullptr, nullptr); });
  if (!wished) displays.emplace_back("default display", [&] { return egl->get_display(nullptr); });

  std::string reasons;
  for (const auto& [name, open] : displays) {
    try {
      return std::make_unique<EglPlatform>(egl, open());
    } catch (const RunError& error) {
      reasons += concat(reasons.empty() ? "libEGL.so.1: " : ", ", name, ": ", error.what());
    }
  }
  throw RunError(reasons);
}

}  // namespace apo::simulation
