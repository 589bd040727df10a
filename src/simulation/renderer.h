// Off-screen pictures: one OpenGL context a thread and picture size, whatever the number of
// environments, since they share the scene.
#pragma once

#include <cstdint>
#include <memory>

#include "simulation/drawn_disruptions.h"
#include "simulation/scene.h"

namespace apo::simulation {

/// For whom a picture is made.
enum class Look {
  policy,  ///< what the policy sees: plain and fast
  film,    ///< for people: antialiased, sharp shadows
};

/// From where: both look down at the tray by 60 degrees, with +y to the right.
enum class Camera {
  front,  ///< fixed, before the tray
  wrist,  ///< beside the palm, it goes where the hand goes
};

class Renderer {
 public:
  /// The calling thread's renderer for that size, made when first asked for.
  static Renderer& of_this_thread(const std::shared_ptr<const Scene>& scene, int size, Look look);

  /// RunError or ConfigError if there is no OpenGL context to be had, as make_gl_context().
  Renderer(std::shared_ptr<const Scene> scene, int size, Look look);
  ~Renderer();
  Renderer(const Renderer&) = delete;
  Renderer& operator=(const Renderer&) = delete;

  /// Draws `data` as the camera sees it into `pixels` [size, size, 3], row 0 at the top.
  /// The palm glows green while `closing`; light, table and the front camera's view are what the disruptions
  /// make of them.
  void draw(mjData& data, Camera camera, bool closing, const SceneDisruptions& happening, uint8_t* pixels);

 private:
  struct Screen;
  std::unique_ptr<Screen> screen_;
};

}  // namespace apo::simulation
