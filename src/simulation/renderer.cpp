#include "simulation/renderer.h"

#include <GL/osmesa.h>
#include <stdlib.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

#include "apo/base/error.h"

namespace apo::simulation {
namespace {

constexpr int kMaxGeoms = 64;
constexpr float kClosingColour[3] = {0.1f, 0.9f, 0.3f};

/// An OSMesa context. MuJoCo draws into a framebuffer of its own, so the context's buffer is a mere formality.
class GlContext {
 public:
  GlContext() {
    static std::once_flag once;
    // Mesa's software rasterizer: a 64-pixel picture is one tile, so handing it to a thread costs more than drawing it.
    std::call_once(once, [] { ::setenv("LP_NUM_THREADS", "0", /*overwrite=*/0); });
    context_ = OSMesaCreateContextExt(OSMESA_RGBA, 24, 0, 0, nullptr);
    APO_CHECK(RunError, context_ != nullptr, "OSMesa gives no OpenGL context; is libosmesa6 whole and memory left?");
    if (!activate()) {
      OSMesaDestroyContext(context_);
      throw RunError("OSMesa: the OpenGL context cannot be made current");
    }
  }
  ~GlContext() { OSMesaDestroyContext(context_); }
  GlContext(const GlContext&) = delete;
  GlContext& operator=(const GlContext&) = delete;

  bool activate() {
    return OSMesaGetCurrentContext() == context_ ||
           OSMesaMakeCurrent(context_, buffer_.data(), GL_UNSIGNED_BYTE, kSide, kSide) == GL_TRUE;
  }

 private:
  static constexpr int kSide = 16;
  OSMesaContext context_ = nullptr;
  std::vector<uint8_t> buffer_ = std::vector<uint8_t>(4 * kSide * kSide);
};

/// The scene with the picture's size and quality.
std::shared_ptr<const mjModel> with_look(const mjModel& model, int size, Look look) {
  mjModel* copy = mj_copyModel(nullptr, &model);
  APO_CHECK(RunError, copy != nullptr, "MuJoCo: no memory for a copy of the scene");
  copy->vis.global.offwidth = size;
  copy->vis.global.offheight = size;
  if (look == Look::film) {
    copy->vis.quality.offsamples = 4;
    copy->vis.quality.shadowsize = 1024;
    copy->vis.quality.numslices = 48;
  }
  return {copy, [](const mjModel* m) { mj_deleteModel(const_cast<mjModel*>(m)); }};
}

}  // namespace

struct Renderer::Screen {
  Screen(std::shared_ptr<const Scene> scene, int size, Look look)
      : scene(std::move(scene)), model(with_look(*this->scene->model, size, look)), size(size) {
    mjv_defaultScene(&visual);
    mjr_defaultContext(&drawing);
    mjv_defaultOption(&option);
    mjv_defaultCamera(&camera);
    camera.type = mjCAMERA_FIXED;
    camera.fixedcamid = this->scene->camera;
    mjv_makeScene(model.get(), &visual, kMaxGeoms);
    visual.flags[mjRND_SHADOW] = 1;
    visual.flags[mjRND_REFLECTION] = 0;
    visual.flags[mjRND_SKYBOX] = 0;
    try {
      mjr_makeContext(model.get(), &drawing, mjFONTSCALE_50);
    } catch (...) {
      mjv_freeScene(&visual);
      throw;
    }
    mjr_setBuffer(mjFB_OFFSCREEN, &drawing);
    rows.resize(static_cast<size_t>(3) * size * size);
  }
  ~Screen() {
    if (gl.activate()) mjr_freeContext(&drawing);
    mjv_freeScene(&visual);
  }

  std::shared_ptr<const Scene> scene;
  std::shared_ptr<const mjModel> model;
  int size;
  GlContext gl;
  mjvScene visual;
  mjrContext drawing;
  mjvOption option;
  mjvCamera camera;
  std::vector<uint8_t> rows;
};

Renderer::Renderer(std::shared_ptr<const Scene> scene, int size, Look look)
    : screen_(std::make_unique<Screen>(std::move(scene), size, look)) {}
Renderer::~Renderer() = default;

void Renderer::draw(mjData& data, bool closing, uint8_t* pixels) {
  Screen& s = *screen_;
  APO_CHECK(RunError, s.gl.activate(), "OSMesa: the OpenGL context cannot be made current");
  mjv_updateScene(s.model.get(), &data, &s.option, nullptr, &s.camera, mjCAT_ALL, &s.visual);
  if (closing) {
    for (int i = 0; i < s.visual.ngeom; i++) {
      mjvGeom& geom = s.visual.geoms[i];
      if (geom.objtype == mjOBJ_GEOM && geom.objid == s.scene->palm_geom)
        std::copy(std::begin(kClosingColour), std::end(kClosingColour), geom.rgba);
    }
  }
  const mjrRect view{0, 0, s.size, s.size};
  mjr_render(view, &s.visual, &s.drawing);
  mjr_readPixels(s.rows.data(), nullptr, view, &s.drawing);
  const size_t stride = static_cast<size_t>(3) * s.size;
  for (int y = 0; y < s.size; y++)  // OpenGL's row 0 is at the bottom
    std::memcpy(pixels + stride * y, s.rows.data() + stride * (s.size - 1 - y), stride);
}

Renderer& Renderer::of_this_thread(const std::shared_ptr<const Scene>& scene, int size, Look look) {
  thread_local std::map<std::tuple<const Scene*, int, Look>, std::unique_ptr<Renderer>> renderers;
  std::unique_ptr<Renderer>& renderer = renderers[{scene.get(), size, look}];
  if (!renderer) renderer = std::make_unique<Renderer>(scene, size, look);
  return *renderer;
}

}  // namespace apo::simulation
