#include "simulation/renderer.h"

#include <Eigen/Core>
#include <Eigen/Geometry>
#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "apo/base/error.h"
#include "simulation/gl_context.h"
#include "simulation/mujoco_library.h"

namespace apo::simulation {
namespace {

constexpr int kMaxGeoms = 64;
constexpr float kClosingColor[3] = {0.1f, 0.9f, 0.3f};

/// The scene with the picture's size and quality.
std::shared_ptr<const mjModel> with_look(const mjModel& model, int size, Look look) {
  mjModel* copy = mujoco().mj_copyModel(nullptr, &model);
  APO_CHECK(RunError, copy != nullptr, "MuJoCo: no memory for a copy of the scene");
  copy->vis.global.offwidth = size;
  copy->vis.global.offheight = size;
  if (look == Look::film) {
    copy->vis.quality.offsamples = 4;
    copy->vis.quality.shadowsize = 1024;
    copy->vis.quality.numslices = 48;
  }
  return {copy, [](const mjModel* m) { mujoco().mj_deleteModel(const_cast<mjModel*>(m)); }};
}

void relight(mjvScene& visual, const OtherLight& other) {
  constexpr float kLampDistance = 0.8f;  // from the tray's middle, where the shadow map is centred
  for (int i = 0; i < visual.nlight; i++) {
    mjvLight& light = visual.lights[i];
    for (int c = 0; c < 3; c++) {
      const auto factor = static_cast<float>(other.color[c]);
      light.ambient[c] *= factor;
      light.diffuse[c] *= factor;
      light.specular[c] *= factor;
      if (light.headlight) continue;  // it stays with the camera
      light.dir[c] = static_cast<float>(other.direction[c]);
      light.pos[c] = -kLampDistance * light.dir[c];
    }
  }
}

void move_camera(mjvScene& visual, const OtherView& other) {
  const Eigen::AngleAxisf turn(static_cast<float>(other.angle),
                               Eigen::Map<const Eigen::Vector3d>(other.axis.data()).cast<float>());
  for (mjvGLCamera& camera : visual.camera) {
    Eigen::Map<Eigen::Vector3f>{camera.pos} +=
        Eigen::Map<const Eigen::Vector3d>(other.shift.data()).cast<float>();
    for (float* direction : {camera.forward, camera.up}) {
      Eigen::Map<Eigen::Vector3f> mapped(direction);
      mapped = (turn * Eigen::Vector3f(mapped)).eval();
    }
  }
}

// MuJoCo looks up OpenGL's functions anew for each context, into variables that all threads share, and a
// driver's first and last steps are not safe beside each other: a context is made or given back while nobody
// draws. All may draw at a time, but for Mesa's software renderers: there each context asks all others of the
// process which textures their pictures in progress hold, without a lock (22.3: a segmentation fault within
// seconds to hours).
std::shared_mutex& making_or_drawing() {
  static auto* mutex = new std::shared_mutex;  // threads may outlive static objects
  return *mutex;
}

// A small picture takes less than falling asleep and waking; what takes longer is not worth a core.
bool tried_for_a_while(std::unique_lock<std::shared_mutex>& lock) {
  constexpr auto kWhile = std::chrono::milliseconds(2);
  const auto end = std::chrono::steady_clock::now() + kWhile;
  while (!lock.try_lock()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace

struct Renderer::Screen {
  Screen(std::shared_ptr<const Scene> scene, int size, Look look)
      : scene(std::move(scene)), model(with_look(*this->scene->model, size, look)), size(size) {
    mujoco().mjv_defaultScene(&visual);
    mujoco().mjr_defaultContext(&drawing);
    mujoco().mjv_defaultOption(&option);
    mujoco().mjv_defaultCamera(&camera);
    camera.type = mjCAMERA_FIXED;
    mujoco().mjv_makeScene(model.get(), &visual, kMaxGeoms);
    visual.flags[mjRND_SHADOW] = 1;
    visual.flags[mjRND_REFLECTION] = 0;
    visual.flags[mjRND_SKYBOX] = 0;
    try {
      mujoco().mjr_makeContext(model.get(), &drawing, mjFONTSCALE_50);
    } catch (...) {
      mujoco().mjv_freeScene(&visual);
      throw;
    }
    mujoco().mjr_setBuffer(mjFB_OFFSCREEN, &drawing);
    rows.resize(static_cast<size_t>(3) * size * size);
  }
  /// The drawn form of a geom of the model; null if it is not drawn.
  mjvGeom* drawn(int geom) {
    for (int i = 0; i < visual.ngeom; i++)
      if (visual.geoms[i].objtype == mjOBJ_GEOM && visual.geoms[i].objid == geom) return &visual.geoms[i];
    return nullptr;
  }
  void repaint(const OtherTable& other) {
    mjvGeom* table = drawn(scene->table_geom);
    if (!table) return;
    for (int c = 0; c < 3; c++)
      table->rgba[c] +=
          static_cast<float>(other.share) * (static_cast<float>(other.color[c]) - table->rgba[c]);
    if (other.texture == TableTexture::checker) table->matid = scene->materials[0];
    if (other.texture == TableTexture::grid) table->matid = scene->materials[1];
  }
  /// The scene into `rows`.
  void draw() {
    std::unique_lock alone(making_or_drawing(), std::defer_lock);
    std::shared_lock beside_others(making_or_drawing(), std::defer_lock);
    if (!draws_in_software())
      beside_others.lock();
    else if (!tried_for_a_while(alone))
      alone.lock();
    gl->activate();
    const mjrRect view{0, 0, size, size};
    mujoco().mjr_render(view, &visual, &drawing);
    mujoco().mjr_readPixels(rows.data(), nullptr, view, &drawing);
  }
  ~Screen() {
    try {
      if (!program_ends()) {
        gl->activate();
        mujoco().mjr_freeContext(&drawing);
      }
    } catch (const Error&) {
      // what it holds goes with the context
    }
    mujoco().mjv_freeScene(&visual);
  }

  std::shared_ptr<const Scene> scene;
  std::shared_ptr<const mjModel> model;
  int size;
  std::unique_ptr<GlContext> gl = make_gl_context();
  mjvScene visual;
  mjrContext drawing;
  mjvOption option;
  mjvCamera camera;
  std::vector<uint8_t> rows;
};

Renderer::Renderer(std::shared_ptr<const Scene> scene, int size, Look look) {
  const std::lock_guard lock(making_or_drawing());
  screen_ = std::make_unique<Screen>(std::move(scene), size, look);
}
Renderer::~Renderer() {
  const std::lock_guard lock(making_or_drawing());
  screen_.reset();
}

void Renderer::draw(mjData& data, Camera camera, bool closing, const SceneDisruptions& happening,
                    uint8_t* pixels) {
  Screen& s = *screen_;
  s.camera.fixedcamid = s.scene->cameras[static_cast<size_t>(camera)];
  mujoco().mjv_updateScene(s.model.get(), &data, &s.option, nullptr, &s.camera, mjCAT_ALL, &s.visual);
  if (closing) {
    if (mjvGeom* palm = s.drawn(s.scene->palm_geom))
      std::copy(std::begin(kClosingColor), std::end(kClosingColor), palm->rgba);
  }
  if (happening.light) relight(s.visual, *happening.light);
  if (happening.table) s.repaint(*happening.table);
  if (happening.view && camera == Camera::front) move_camera(s.visual, *happening.view);
  s.draw();
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
