// The tabletop of a build without MuJoCo: options and expert are there, the world is not.
// This file is then the room's only source, so it takes the portable parts along.
#include "apo/simulation/rendering.h"
#include "simulation/rules.cpp"
#include "simulation/scene_disruptions.cpp"

namespace apo::simulation {

std::string renderer_name() { throw RunError(Tabletop::problem()); }

struct Tabletop::Episode {};

bool Tabletop::available() { return false; }
std::string Tabletop::problem() {
  return "the tabletop simulation is not in this build: it was configured with -DAPO_MUJOCO=OFF; run "
         "scripts/setup.sh (it installs the mujoco wheel) and configure with -DAPO_MUJOCO=ON";
}

Tabletop::Tabletop(const TabletopOptions& options, const SceneDisruptionOptions& disruptions) {
  check_options(options);
  check_options(disruptions);
  throw RunError(problem());
}
Tabletop::~Tabletop() = default;
Tabletop::Tabletop(Tabletop&&) noexcept = default;
Tabletop& Tabletop::operator=(Tabletop&&) noexcept = default;

// Nothing below can be reached: there is no instance.
void Tabletop::reset(uint64_t) { APO_ASSERT(false); }
Observation Tabletop::observe() const {
  APO_ASSERT(false);
  return {};
}
at::Tensor Tabletop::render(int) const {
  APO_ASSERT(false);
  return {};
}
void Tabletop::step(const Action&) { APO_ASSERT(false); }
TabletopState Tabletop::state() const {
  APO_ASSERT(false);
  return {};
}
bool Tabletop::success() const {
  APO_ASSERT(false);
  return false;
}
bool Tabletop::failed() const {
  APO_ASSERT(false);
  return false;
}
bool Tabletop::done() const {
  APO_ASSERT(false);
  return false;
}
std::string Tabletop::outcome() const {
  APO_ASSERT(false);
  return {};
}
bool Tabletop::near_wrong_object() const {
  APO_ASSERT(false);
  return false;
}
bool Tabletop::ever_near_wrong() const {
  APO_ASSERT(false);
  return false;
}
std::vector<std::string> Tabletop::disrupted_by() const {
  APO_ASSERT(false);
  return {};
}
int64_t Tabletop::clamped_actions() const {
  APO_ASSERT(false);
  return 0;
}
int64_t Tabletop::solver_warnings() const {
  APO_ASSERT(false);
  return 0;
}

}  // namespace apo::simulation
