// OSMesa's few functions, as <GL/osmesa.h> declares them.
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/location.h"
#include "simulation/gl_platform.h"

namespace apo::simulation {
namespace {

constexpr unsigned kRgba = 0x1908;          // OSMESA_RGBA
constexpr unsigned kUnsignedByte = 0x1401;  // GL_UNSIGNED_BYTE
constexpr int kDepthBits = 24;

struct OsMesa {
  using Context = void*;
  SharedLibrary library;
  Context (*create_context)(unsigned format, int depth_bits, int stencil_bits, int accum_bits, Context share);
  void (*destroy_context)(Context);
  unsigned char (*make_current)(Context, void* buffer, unsigned type, int width, int height);
  Context (*current_context)();
  AnyFunction (*function)(const char* name);

  explicit OsMesa(const std::string& name) : library(name) {
    library.find(create_context, "OSMesaCreateContextExt");
    library.find(destroy_context, "OSMesaDestroyContext");
    library.find(make_current, "OSMesaMakeCurrent");
    library.find(current_context, "OSMesaGetCurrentContext");
    library.find(function, "OSMesaGetProcAddress");
    library.keep();
  }
};

/// MuJoCo draws into a framebuffer of its own, so the context's buffer is a mere formality.
class OsMesaContext : public GlContext {
 public:
  explicit OsMesaContext(const OsMesa& mesa) : mesa_(mesa) {
    context_ = mesa.create_context(kRgba, kDepthBits, 0, 0, nullptr);
    APO_CHECK(RunError, context_, "it gives no OpenGL context; is it whole and memory left?");
    try {
      activate();
    } catch (...) {
      mesa.destroy_context(context_);
      throw;
    }
  }
  ~OsMesaContext() override {
    if (!program_ends()) mesa_.destroy_context(context_);
  }
  OsMesaContext(const OsMesaContext&) = delete;
  OsMesaContext& operator=(const OsMesaContext&) = delete;

  void activate() override {
    const bool active = mesa_.current_context() == context_ ||
                        mesa_.make_current(context_, buffer_.data(), kUnsignedByte, kSide, kSide);
    APO_CHECK(RunError, active, "OSMesa: the OpenGL context cannot be made current");
  }

 private:
  static constexpr int kSide = 16;
  const OsMesa& mesa_;
  OsMesa::Context context_ = nullptr;
  std::array<uint8_t, 4 * kSide * kSide> buffer_{};
};

class OsMesaPlatform : public GlPlatform {
 public:
  explicit OsMesaPlatform(const std::string& name) : mesa_(name) {
    const OsMesaContext probe(mesa_);
    renderer_ = check_opengl(mesa_.function("glGetString"));
  }
  std::unique_ptr<GlContext> make_context() override { return std::make_unique<OsMesaContext>(mesa_); }
  void show_to_mujoco() override { simulation::show_to_mujoco(mesa_.library, "OSMesaGetProcAddress"); }

 private:
  OsMesa mesa_;
};

std::vector<std::string> places() {
  std::vector<std::string> found;
  if (const auto copy = find_beside({"libOSMesa.so.8", "../lib/libOSMesa.so.8"})) found.push_back(*copy);
  for (const char* name : {"libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"}) found.emplace_back(name);
  return found;
}

}  // namespace

std::unique_ptr<GlPlatform> open_osmesa() {
  std::string reasons;
  for (const std::string& place : places()) {
    try {
      return std::make_unique<OsMesaPlatform>(place);
    } catch (const RunError& error) {
      const std::string reason = error.what();
      append_item(reasons, ", ", reason.starts_with(place) ? "" : place + ": ", reason);
    }
  }
  throw RunError(reasons);
}

}  // namespace apo::simulation
