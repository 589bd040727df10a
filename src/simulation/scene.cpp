#include "simulation/scene.h"

#include <map>
#include <mutex>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "simulation/mujoco_library.h"

namespace apo::simulation {
namespace {

// Solver: with fewer iterations the block is shot through the table while the fingers close on it.
// Picture: flat faces lit by directional lights need no subdivision (numquads 1), and the shadow map covers
// the tray alone (extent), so that 64 texels a side are as sharp as the picture; both are worth a factor of
// five in speed.
constexpr const char* kTabletopScene = R"xml(
<mujoco model="tabletop">
  <compiler angle="radian"/>
  <option timestep="0.005" integrator="implicitfast" cone="elliptic" impratio="10" iterations="100" ls_iterations="50"/>
  <size memory="2M"/>
  <statistic extent="0.2" center="0 0 0.05"/>
  <visual>
    <global offwidth="64" offheight="64" fovy="42"/>
    <quality shadowsize="64" offsamples="0" numslices="16" numstacks="2" numquads="1"/>
    <map shadowclip="1"/>
    <headlight ambient="0.45 0.45 0.45" diffuse="0.5 0.5 0.5" specular="0 0 0"/>
  </visual>
  <default>
    <default class="rim">
      <geom type="box" rgba="0.55 0.50 0.45 1" contype="2" conaffinity="2"/>
    </default>
    <default class="hand">
      <geom rgba="0.25 0.25 0.28 1" contype="0" conaffinity="0"/>
    </default>
    <default class="finger">
      <joint type="slide" range="0 0.055" damping="1" armature="0.005"/>
      <geom type="box" size="0.018 0.006 0.030" rgba="0.95 0.85 0.15 1" mass="0.05" friction="2 0.05 0.001" condim="4"/>
      <position kp="400" kv="40" ctrlrange="0 0.055" forcerange="-5 5"/>
    </default>
    <default class="block">
      <geom type="box" size="0.022 0.022 0.022" mass="0.05" friction="1 0.02 0.001" condim="4" contype="3" conaffinity="3"/>
    </default>
  </default>
  <asset>
    <texture name="checker" type="2d" builtin="checker" width="64" height="64" rgb1="1 1 1" rgb2="0.55 0.55 0.55"/>
    <material name="checker" texture="checker" texuniform="true" texrepeat="12 12"/>
    <texture name="grid" type="2d" builtin="flat" mark="cross" width="64" height="64" rgb1="1 1 1" markrgb="0.2 0.2 0.2"/>
    <material name="grid" texture="grid" texuniform="true" texrepeat="20 20"/>
  </asset>
  <worldbody>
    <light pos="0 0 0.8" dir="0 0 -1" directional="true" castshadow="true" diffuse="0.35 0.35 0.35" specular="0 0 0"/>
    <camera name="front" fovy="42" pos="0.230 0 0.428" xyaxes="0 1 0 -0.866 0 0.500"/>
    <geom name="table" type="box" size="0.32 0.32 0.02" pos="0 0 -0.02" rgba="0.78 0.74 0.68 1" friction="1 0.01 0.001"/>
    <geom class="rim" size="0.005 0.185 0.012" pos="-0.135 0 0.012"/>
    <geom class="rim" size="0.005 0.185 0.012" pos="0.135 0 0.012"/>
    <geom class="rim" size="0.130 0.005 0.012" pos="0 -0.18 0.012"/>
    <geom class="rim" size="0.130 0.005 0.012" pos="0 0.18 0.012"/>
    <body name="goal" mocap="true" pos="0 0 0.2"/>
    <body name="hand" pos="0 0 0.2" gravcomp="1">
      <freejoint name="hand"/>
      <inertial pos="0 0 0.03" mass="1.0" diaginertia="0.004 0.004 0.004"/>
      <camera name="wrist" fovy="85" pos="0.065 0 0.065" xyaxes="0 1 0 -0.866 0 0.500"/>
      <geom name="palm" class="hand" type="box" size="0.018 0.072 0.015" pos="0 0 0.055"/>
      <geom name="wrist" class="hand" type="cylinder" size="0.014 0.05" pos="0 0 0.115"/>
      <body name="left_finger" gravcomp="1">
        <joint name="left_finger" class="finger" axis="0 1 0"/>
        <geom class="finger" pos="0 0.006 0.012"/>
      </body>
      <body name="right_finger" gravcomp="1">
        <joint name="right_finger" class="finger" axis="0 -1 0"/>
        <geom class="finger" pos="0 -0.006 0.012"/>
      </body>
    </body>
    <body name="red" pos="0.05 0.05 0.022">
      <freejoint name="red"/>
      <geom class="block" rgba="0.85 0.12 0.12 1"/>
    </body>
    <body name="blue" pos="-0.05 -0.05 0.022">
      <freejoint name="blue"/>
      <geom class="block" rgba="0.12 0.20 0.85 1"/>
    </body>
)xml";

// The zone of the push task is paint.
constexpr const char* kZone =
    R"xml(    <geom name="zone" type="box" size="0.13 0.03 0.0005" rgba="0.30 0.62 0.40 1" contype="0" conaffinity="0"/>
)xml";

// Shapes and colors of up to four distractors: nothing that could be taken for a red or blue block by a
// person.
constexpr std::array<const char*, 4> kDistractors = {
    R"xml(type="cylinder" size="0.016 0.015" rgba="0.50 0.20 0.60 1")xml",
    R"xml(type="box" size="0.018 0.012 0.012" rgba="0.10 0.55 0.50 1")xml",
    R"xml(type="cylinder" size="0.012 0.020" rgba="0.90 0.55 0.10 1")xml",
    R"xml(type="box" size="0.014 0.014 0.018" rgba="0.45 0.50 0.10 1")xml"};

constexpr const char* kTabletopEnd = R"xml(
  </worldbody>
  <equality>
    <weld body1="goal" body2="hand" solref="0.02 1" solimp="0.95 0.99 0.001"/>
  </equality>
  <contact>
    <exclude body1="left_finger" body2="right_finger"/>
  </contact>
  <actuator>
    <position class="finger" joint="left_finger"/>
    <position class="finger" joint="right_finger"/>
  </actuator>
</mujoco>
)xml";

void on_error(const char* message) { throw RunError(concat("MuJoCo: ", message)); }
void on_warning(const char* message) { log_warn("MuJoCo: ", message); }

int find(const mjModel& model, mjtObj kind, const char* name) {
  const int id = mujoco().mj_name2id(&model, kind, name);
  APO_ASSERT(id >= 0);
  return id;
}

int joint_qpos(const mjModel& model, const char* name) {
  return model.jnt_qposadr[find(model, mjOBJ_JOINT, name)];
}
int joint_dof(const mjModel& model, const char* name) {
  return model.jnt_dofadr[find(model, mjOBJ_JOINT, name)];
}

std::string distractor_name(int64_t i) { return concat("distractor", i); }

std::string tabletop_text(TabletopTask task, int64_t distractors) {
  std::string text = kTabletopScene;
  if (task == TabletopTask::push) text += kZone;
  for (int64_t i = 0; i < distractors; i++) {
    const std::string name = distractor_name(i);
    text += concat("    <body name=\"", name, "\" pos=\"", 0.05 * static_cast<double>(i),
                   " 0 0.03\"><freejoint name=\"", name, "\"/><geom class=\"block\" mass=\"0.03\" ",
                   kDistractors.at(static_cast<size_t>(i)), "/></body>\n");
  }
  return text + kTabletopEnd;
}

std::shared_ptr<const Scene> load_tabletop(TabletopTask task, int64_t distractors) {
  auto model = compile_scene(tabletop_text(task, distractors), "tabletop");
  const mjModel& m = *model;
  std::vector<int> distractor_qpos;
  for (int64_t i = 0; i < distractors; i++)
    distractor_qpos.push_back(joint_qpos(m, distractor_name(i).c_str()));
  return std::make_shared<const Scene>(Scene{
      .model = model,
      .hand_body = find(m, mjOBJ_BODY, "hand"),
      .palm_geom = find(m, mjOBJ_GEOM, "palm"),
      .table_geom = find(m, mjOBJ_GEOM, "table"),
      .cameras = {find(m, mjOBJ_CAMERA, "front"), find(m, mjOBJ_CAMERA, "wrist")},
      .hand_qpos = joint_qpos(m, "hand"),
      .finger_qpos = {joint_qpos(m, "left_finger"), joint_qpos(m, "right_finger")},
      .block_qpos = {joint_qpos(m, "red"), joint_qpos(m, "blue")},
      .block_dof = {joint_dof(m, "red"), joint_dof(m, "blue")},
      .distractor_qpos = std::move(distractor_qpos),
      .materials = {find(m, mjOBJ_MATERIAL, "checker"), find(m, mjOBJ_MATERIAL, "grid")},
  });
}

}  // namespace

void install_mujoco_handlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    // A program that brought its own handlers keeps them.
    if (*mujoco().user_error == nullptr) *mujoco().user_error = on_error;
    if (*mujoco().user_warning == nullptr) *mujoco().user_warning = on_warning;
  });
}

std::shared_ptr<const mjModel> compile_scene(const std::string& text, const std::string& name) {
  install_mujoco_handlers();
  char reason[1000] = "";
  const std::unique_ptr<mjSpec, void (*)(mjSpec*)> spec(
      mujoco().mj_parseXMLString(text.c_str(), nullptr, reason, sizeof reason), mujoco().mj_deleteSpec);
  APO_CHECK(RunError, spec, "scene ", name, ": MuJoCo cannot read it: ", reason);
  mjModel* model = mujoco().mj_compile(spec.get(), nullptr);
  APO_CHECK(RunError, model, "scene ", name,
            ": MuJoCo cannot compile it: ", mujoco().mjs_getError(spec.get()));
  return {model, [](const mjModel* m) { mujoco().mj_deleteModel(const_cast<mjModel*>(m)); }};
}

std::shared_ptr<const Scene> tabletop_scene(TabletopTask task, int64_t distractors) {
  static std::mutex mutex;
  static std::map<std::pair<TabletopTask, int64_t>, std::shared_ptr<const Scene>> scenes;
  std::lock_guard lock(mutex);
  std::shared_ptr<const Scene>& scene = scenes[{task, distractors}];
  if (!scene) scene = load_tabletop(task, distractors);
  return scene;
}

}  // namespace apo::simulation
