#include "apo/simulation/tabletop.h"

#include <torch/types.h>

#include <Eigen/Core>
#include <Eigen/Geometry>
#include <algorithm>
#include <cmath>
#include <numbers>

#include "apo/base/error.h"
#include "apo/base/random.h"
#include "simulation/mujoco_library.h"
#include "simulation/renderer.h"
#include "simulation/rules.h"
#include "simulation/scene.h"

namespace apo::simulation {
namespace {

constexpr int kPhysicsStepsPerControlStep = 10;  // of 5 ms: 20 Hz
constexpr double kBlockRest = 0.022;             // height of a block's centre on the table, m
constexpr double kFingerOpen = 0.055;            // travel of one finger, m
constexpr double kClearance = 0.10;              // between the centres of two blocks when one is put down, m
const Eigen::Vector3d kReachMin(-0.22, -0.24, 0.020), kReachMax(0.22, 0.24, 0.26);
const Eigen::Array2d kSlipMin(-0.10, -0.14), kSlipMax(0.10, 0.14);  // where a moved block may end
constexpr std::array<std::array<const char*, 2>, 2> kInstructions = {
    {{"pick up the red block", "pick up the blue block"},
     {"push the red block into the zone", "push the blue block into the zone"}}};

struct FreeData {
  void operator()(mjData* data) const { mujoco().mj_deleteData(data); }
};

/// A scene and the state of the things in it.
struct World {
  std::shared_ptr<const Scene> scene;
  std::unique_ptr<mjData, FreeData> data;

  explicit World(std::shared_ptr<const Scene> loaded)
      : scene(std::move(loaded)), data(mujoco().mj_makeData(scene->model.get())) {
    APO_CHECK(RunError, data, "MuJoCo: no memory for an environment");
  }
};

}  // namespace

struct Tabletop::Episode {
  enum class Outcome { running, success, wrong_object, off_table };

  Episode(const TabletopOptions& options, const SceneDisruptionOptions& disruptions)
      : options(options), disruptions(disruptions) {}

  void reset(uint64_t new_seed);
  void enter(std::unique_ptr<World>& world, int64_t distractors);
  void place_blocks(Random& layout);
  void place_block(int i, double x, double y);
  void place_distractors();
  void place_hand(const Eigen::Vector3d& hand);
  void move_goal(const Eigen::Vector<double, 7>& command);
  void advance();
  void move_named_block();
  at::Tensor draw(Camera camera, int size, Look look);
  TabletopState state() const;
  int64_t count_warnings() const;

  TabletopOptions options;
  SceneDisruptionOptions disruptions;
  std::unique_ptr<World> tidy, cluttered;  ///< without and with distractors; each made when first needed
  const Scene* scene = nullptr;            ///< of the running episode's world, as the next two
  const mjModel* model = nullptr;
  mjData* data = nullptr;

  uint64_t seed = 0;
  Random noise{0}, to_move{0};
  SceneDisruptions happening;
  int64_t target = 0, num_steps = 0;
  bool habit = false, object_moved = false, move_pending = false, closing = false, ever_near_wrong = false;
  Outcome outcome = Outcome::running;
  int64_t clamped_actions = 0, past_warnings = 0;
};

void Tabletop::Episode::reset(uint64_t new_seed) {
  seed = new_seed;
  noise = Random(seed, "tabletop/noise");
  to_move = Random(seed, "tabletop/disruption");
  Random layout(seed, "tabletop/layout");
  happening = draw_scene_disruptions(disruptions, seed);
  if (data) past_warnings += count_warnings();
  if (data) mujoco().mj_resetData(model, data);
  enter(happening.distractors > 0 ? cluttered : tidy, happening.distractors);

  target = static_cast<int64_t>(layout.below(2));
  habit = layout.uniform() < options.habit;
  place_blocks(layout);
  place_distractors();
  const double z = layout.uniform(0.13, 0.15), y = layout.uniform(-0.02, 0.02),
               x = layout.uniform(-0.02, 0.02);
  place_hand({x, y, z});
  mujoco().mj_forward(model, data);

  move_pending = to_move.uniform() < disruptions.object_moved.probability;
  num_steps = 0;
  object_moved = closing = ever_near_wrong = false;
  outcome = Outcome::running;
}

/// Makes `world` the running episode's, at its beginning.
void Tabletop::Episode::enter(std::unique_ptr<World>& world, int64_t distractors) {
  if (!world) world = std::make_unique<World>(tabletop_scene(options.task, distractors));
  scene = world->scene.get();
  model = scene->model.get();
  data = world->data.get();
  mujoco().mj_resetData(model, data);
}

/// One block on each side; for pushing not quite so far out, so that the hand beyond them stays in sight.
void Tabletop::Episode::place_blocks(Random& layout) {
  const double red_side = habit ? 1 : -1;  // +y is the right of the picture
  const double farthest = options.task == TabletopTask::push ? 0.095 : 0.115;
  for (int i = 0; i < 2; i++) {
    const double x = layout.uniform(-0.075, 0.075), y = layout.uniform(0.055, farthest);
    place_block(i, x, (i == 0 ? red_side : -red_side) * y);
  }
}

void Tabletop::Episode::place_hand(const Eigen::Vector3d& hand) {
  mjtNum* q = data->qpos + scene->hand_qpos;
  Eigen::Map<Eigen::Vector3d>{q} = hand;
  Eigen::Map<Eigen::Vector4d>{q + 3} = Eigen::Vector4d(1, 0, 0, 0);
  Eigen::Map<Eigen::Vector3d>{data->mocap_pos} = hand;
  Eigen::Map<Eigen::Vector4d>{data->mocap_quat} = Eigen::Vector4d(1, 0, 0, 0);
  for (int finger = 0; finger < 2; finger++) {
    data->qpos[scene->finger_qpos[finger]] = 0.053;
    data->ctrl[finger] = kFingerOpen;
  }
}

/// Other objects at random places of the tray: clear of the fingers around a block, of a block's way to the
/// zone, and of each other. Where there is no room they lie beyond the tray's rim.
void Tabletop::Episode::place_distractors() {
  if (scene->distractor_qpos.empty()) return;
  constexpr double kFromBlock = 0.085, kFromAnother = 0.05, kFromWay = 0.055;
  Random random(seed, "tabletop/distractors", 1);
  const TabletopState now = state();
  std::vector<Eigen::Vector2d> taken;
  const auto free = [&](const Eigen::Vector2d& place) {
    for (const auto& block : now.blocks) {
      const Eigen::Vector2d away = place - Eigen::Vector2d(block[0], block[1]);
      if (away.norm() < kFromBlock) return false;
      if (options.task == TabletopTask::push && std::abs(away.x()) < kFromWay && place.y() * block[1] > -1e-3)
        return false;
    }
    return std::ranges::all_of(
        taken, [&](const Eigen::Vector2d& other) { return (place - other).norm() > kFromAnother; });
  };
  for (size_t i = 0; i < scene->distractor_qpos.size(); i++) {
    Eigen::Vector2d place(-0.17, -0.09 + 0.06 * static_cast<double>(i));
    for (int attempt = 0; attempt < 200; attempt++) {
      const double x = random.uniform(-0.11, 0.11), y = random.uniform(-0.15, 0.15);
      if (!free({x, y})) continue;
      place = {x, y};
      break;
    }
    taken.push_back(place);
    Eigen::Map<Eigen::Vector<double, 7>>{data->qpos + scene->distractor_qpos[i]} << place.x(), place.y(),
        kBlockRest, 1, 0, 0, 0;
  }
}

/// Puts a block upright and at rest on the table.
void Tabletop::Episode::place_block(int i, double x, double y) {
  Eigen::Map<Eigen::Vector<double, 7>>{data->qpos + scene->block_qpos[i]} << x, y, kBlockRest, 1, 0, 0, 0;
  Eigen::Map<Eigen::Vector<double, 6>>{data->qvel + scene->block_dof[i]}.setZero();
}

/// The hand is welded, softly, to a goal that the actions move; so a blocked hand does not wind up.
void Tabletop::Episode::move_goal(const Eigen::Vector<double, 7>& command) {
  Eigen::Map<Eigen::Vector3d> goal(data->mocap_pos);
  goal = (goal + kMetresPerUnit * command.head<3>()).cwiseMax(kReachMin).cwiseMin(kReachMax);
  const Eigen::Vector3d turn = kRadiansPerUnit * command.segment<3>(3);
  if (const double angle = turn.norm(); angle > 1e-9) {
    mjtNum* q = data->mocap_quat;  // w, x, y, z
    const Eigen::Quaterniond turned =
        (Eigen::AngleAxisd(angle, turn / angle) * Eigen::Quaterniond(q[0], q[1], q[2], q[3])).normalized();
    Eigen::Map<Eigen::Vector4d>{q} << turned.w(), turned.x(), turned.y(), turned.z();
  }
  closing = command[6] > 0;
  data->ctrl[0] = data->ctrl[1] = closing ? 0 : kFingerOpen;
}

void Tabletop::Episode::advance() {
  for (int i = 0; i < kPhysicsStepsPerControlStep; i++) mujoco().mj_step(model, data);
  num_steps++;
  for (const int kind : {mjWARN_BADQPOS, mjWARN_BADQVEL, mjWARN_BADQACC})
    APO_CHECK(RunError, data->warning[kind].number == 0, "the simulation became unstable (",
              mujoco().mju_warningText(kind, data->warning[kind].lastinfo), ") in step ", num_steps,
              " of seed ", seed);
  // mj_step leaves positions of bodies one physics step behind the joints; pictures show where things are
  // now.
  mujoco().mj_kinematics(model, data);
  mujoco().mj_camlight(model, data);

  const TabletopState now = state();
  const Eigen::Map<const Eigen::Vector3d> hand(now.hand.data()), block(now.target_block().data());
  if (move_pending && std::abs(hand.z() - block.z()) < 0.085 && (block - hand).head<2>().norm() < 0.04)
    move_named_block();
  const TabletopState after = state();
  ever_near_wrong |= near_wrong(after);
  if (outcome != Outcome::running) return;
  if (achieved_with_other(after))
    outcome = Outcome::wrong_object;
  else if (off_table(after))
    outcome = Outcome::off_table;
  else if (achieved(after))
    outcome = Outcome::success;
}

/// Moves the named block by `distance_m` in a random direction, within the tray and clear of the other block.
void Tabletop::Episode::move_named_block() {
  move_pending = false;
  const double distance = disruptions.object_moved.distance_m;
  const TabletopState now = state();
  const Eigen::Array2d from(now.target_block()[0], now.target_block()[1]);
  const Eigen::Array2d other(now.other_block()[0], now.other_block()[1]);
  for (int attempt = 0; attempt < 100; attempt++) {
    const double angle = to_move.uniform(0, 2 * std::numbers::pi);
    const Eigen::Array2d to =
        (from + distance * Eigen::Array2d(std::cos(angle), std::sin(angle))).max(kSlipMin).min(kSlipMax);
    if ((to - other).matrix().norm() <= kClearance || (to - from).matrix().norm() <= 0.6 * distance) continue;
    // it does not come into the zone
    if (options.task == TabletopTask::push && std::abs(to.y()) < 0.055) continue;
    place_block(static_cast<int>(target), to.x(), to.y());
    mujoco().mj_forward(model, data);
    object_moved = true;
    return;
  }
}

at::Tensor Tabletop::Episode::draw(Camera camera, int size, Look look) {
  at::Tensor picture = torch::empty({size, size, 3}, torch::kUInt8);
  const std::shared_ptr<const Scene>& drawn = happening.distractors > 0 ? cluttered->scene : tidy->scene;
  Renderer::of_this_thread(drawn, size, look)
      .draw(*data, camera, closing, happening, picture.data_ptr<uint8_t>());
  return picture;
}

TabletopState Tabletop::Episode::state() const {
  TabletopState s;
  s.task = options.task;
  std::copy_n(data->xpos + 3 * scene->hand_body, 3, s.hand.begin());
  s.opening = data->qpos[scene->finger_qpos[0]] + data->qpos[scene->finger_qpos[1]];
  for (int i = 0; i < 2; i++) std::copy_n(data->qpos + scene->block_qpos[i], 3, s.blocks[i].begin());
  s.target = target;
  s.num_steps = num_steps;
  s.habit = habit;
  s.object_moved = object_moved;
  for (const int q : scene->distractor_qpos)
    s.distractors.push_back({data->qpos[q], data->qpos[q + 1], data->qpos[q + 2]});
  return s;
}

int64_t Tabletop::Episode::count_warnings() const {
  int64_t count = 0;
  for (const mjWarningStat& warning : data->warning) count += warning.number;
  return count;
}

bool Tabletop::available() { return mujoco_problem().empty(); }
std::string Tabletop::problem() { return mujoco_problem(); }

Tabletop::Tabletop(const TabletopOptions& options, const SceneDisruptionOptions& disruptions) {
  check_options(options);
  check_options(disruptions);
  episode_ = std::make_unique<Episode>(options, disruptions);
  episode_->reset(0);
}
Tabletop::~Tabletop() = default;
Tabletop::Tabletop(Tabletop&&) noexcept = default;
Tabletop& Tabletop::operator=(Tabletop&&) noexcept = default;

void Tabletop::reset(uint64_t seed) { episode_->reset(seed); }

Observation Tabletop::observe() const {
  const TabletopState s = episode_->state();
  const std::vector<float> hand(s.hand.begin(), s.hand.end());
  Observation observation;
  const TabletopOptions& options = episode_->options;
  for (const std::string& name : options.cameras)
    observation.images[name] = episode_->draw(name == "front" ? Camera::front : Camera::wrist,
                                              static_cast<int>(options.image_size), Look::policy);
  observation.state["eef_pos"] = hand;
  observation.state["eef_height"] = {hand[2]};
  observation.state["gripper_opening"] = {static_cast<float>(s.opening)};
  observation.instruction = kInstructions[static_cast<size_t>(s.task)][s.target];
  return observation;
}

at::Tensor Tabletop::render(int size) const {
  APO_CHECK(RunError, size >= 16 && size <= 2048, "a picture of ", size, " pixels: expected 16 to 2048");
  return episode_->draw(Camera::front, size, Look::film);
}

void Tabletop::step(const Action& action) {
  Episode& e = *episode_;
  APO_CHECK(RunError, action.size() == kActionSize, "action has ", action.size(), " numbers, expected ",
            kActionSize, " (x, y, z, three rotations, gripper)");
  Eigen::Vector<double, 7> command;
  for (int i = 0; i < kActionSize; i++) {
    APO_CHECK(RunError, std::isfinite(action[i]), "action[", i, "] is ", action[i], " in step ",
              e.num_steps + 1, " of seed ", e.seed, ", expected a finite number");
    command[i] = action[i];
  }
  if (command.cwiseAbs().maxCoeff() > 1) {
    e.clamped_actions++;
    command = command.cwiseMax(-1).cwiseMin(1);
  }
  if (e.options.action_noise > 0) {
    for (int i = 0; i < 3; i++) command[i] += e.options.action_noise * e.noise.normal();
    command = command.cwiseMax(-1).cwiseMin(1);
  }
  e.move_goal(command);
  e.advance();
}

TabletopState Tabletop::state() const { return episode_->state(); }
bool Tabletop::success() const { return episode_->outcome == Episode::Outcome::success; }
bool Tabletop::failed() const { return episode_->outcome != Episode::Outcome::running && !success(); }
bool Tabletop::done() const {
  return episode_->outcome != Episode::Outcome::running || episode_->num_steps >= episode_->options.max_steps;
}

std::string Tabletop::outcome() const {
  switch (episode_->outcome) {
    case Episode::Outcome::success:
      return "success";
    case Episode::Outcome::wrong_object:
      return "wrong object";
    case Episode::Outcome::off_table:
      return "off the table";
    case Episode::Outcome::running:
      break;
  }
  return done() ? "timeout" : "running";
}

std::vector<std::string> Tabletop::disrupted_by() const {
  const SceneDisruptions& happening = episode_->happening;
  std::vector<std::string> names;
  if (episode_->object_moved) names.push_back("object_moved");
  if (happening.light) names.push_back("lighting");
  if (happening.table) names.push_back("background");
  if (happening.distractors > 0) names.push_back("distractors");
  if (happening.view) names.push_back("camera_moved");
  return names;
}

bool Tabletop::near_wrong_object() const { return near_wrong(episode_->state()); }
bool Tabletop::ever_near_wrong() const { return episode_->ever_near_wrong; }
int64_t Tabletop::clamped_actions() const { return episode_->clamped_actions; }
int64_t Tabletop::solver_warnings() const { return episode_->past_warnings + episode_->count_warnings(); }

}  // namespace apo::simulation
