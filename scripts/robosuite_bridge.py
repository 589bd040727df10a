"""Serve a robosuite task to apo-collect, apo-eval and apo-refine (docs/robosuite.md).

    pip install robosuite==1.5.2 mujoco==3.3.7 websockets msgpack      # in an environment of their own
    python3 scripts/robosuite_bridge.py --env Lift --num-envs 2

Tasks with a scripted expert: Lift, Stack, PickPlaceCan, NutAssemblySquare. Any other registered robosuite environment
of one arm is served without one: `--env NAME --import MODULE` imports the module that registers it first.
"""

import argparse
import functools
import importlib
import importlib.util
import json
import os
import sys
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from remote_environment import Environment, Refused, add_arguments, serve  # noqa: E402

INSTRUCTIONS = {
    "Lift": "lift the cube",
    "Stack": "stack the red block on the green block",
    "PickPlaceCan": "put the can into its bin",
    "NutAssemblySquare": "put the square nut on the square peg",
}
MAX_STEPS = {"Lift": 100, "Stack": 200, "PickPlaceCan": 300, "NutAssemblySquare": 300}
CAMERAS = ("agentview", "robot0_eye_in_hand")
STATES = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
METERS = 0.05  # of a translation of 1: what OSC_POSE moves its goal by
RADIANS = 0.5  # of a rotation of 1
OPEN, CLOSE = -1.0, 1.0
STALLED_M, STALLED_STEPS = 0.004, 12  # the hand and what it holds moved less, in so many steps
ASTRAY_M = 0.08  # farther from a thing that is not held than the hand has been
DISRUPTIONS = ("object_moved", "lighting", "background", "distractors", "camera_moved")
DISTRACTORS = 4
HAND_STEPS = 10  # half a second after the last input the person still acts


# The scripted experts. Each looks at the simulation alone, so that it goes on from wherever somebody else has left it.


def toward(world, goal, gripper, yaw=0.0, speed=1.0):
    """An action that brings the hand to `goal` (m) and turns it by `yaw` (rad)."""
    action = np.zeros(7, np.float32)
    action[:3] = np.clip((goal - world.hand()) / METERS * speed, -1, 1)
    action[5] = np.clip(yaw / RADIANS, -1, 1)
    action[6] = gripper
    return action


def grasp(world, thing, above=0.09, yaw=0.0):
    """Over the thing, down, and close: a funnel that is wider the higher the hand is."""
    hand = world.hand()
    away = np.linalg.norm((thing - hand)[:2])
    height = hand[2] - thing[2]
    if away < 0.012 and abs(height) < 0.012 and abs(yaw) < 0.15:
        return toward(world, thing, CLOSE, yaw)
    if away > 0.01 + 0.25 * max(0.0, height - 0.01) or abs(yaw) > 0.3:
        # sideways only where nothing is in the way
        goal = np.array([*(thing[:2] if height > above - 0.03 else hand[:2]), thing[2] + above])
        if height > above - 0.03:
            goal[2] = max(thing[2] + above, hand[2] - 0.02)
        return toward(world, goal, OPEN, yaw)
    return toward(world, thing, OPEN, yaw)


def carry(world, thing, goal, clearance, release, near=0.012):
    """The held thing up to `clearance` above the goal, over it, down, and let go at `release` above it, or a little
    higher where the hand comes no lower."""
    hand = world.hand()
    to_goal = goal - thing
    away = np.linalg.norm(to_goal[:2])
    if away > near:
        if thing[2] < goal[2] + clearance - 0.02 and away > 0.03:
            return toward(world, hand + [0, 0, goal[2] + clearance - thing[2]], CLOSE)
        return toward(world, hand + [to_goal[0], to_goal[1], goal[2] + clearance - thing[2]], CLOSE)
    at_rest = world.hand_speed() < 0.005
    if thing[2] > goal[2] + release + (0.02 if at_rest else 0):
        return toward(world, hand + [to_goal[0], to_goal[1], goal[2] + release - 0.004 - thing[2]], CLOSE, 0.0, 0.6)
    return toward(world, hand, OPEN)


def away_from(world):
    return toward(world, world.hand() + [0, 0, 0.1], OPEN)


def lift_expert(world):
    cube = world.body("cube_main")
    if world.holds(world.env.cube):
        return toward(world, world.hand() + [0, 0, 0.1], CLOSE)
    return grasp(world, cube)


def stack_expert(world):
    env = world.env
    top, below = world.body("cubeA_main"), world.body("cubeB_main")
    height = (env.cubeA.size[2] if hasattr(env.cubeA, "size") else 0.02) + 0.025
    goal = below + [0, 0, height]
    if world.holds(env.cubeA):
        return carry(world, top, goal, 0.06, 0.006)
    if np.linalg.norm((top - goal)[:2]) < 0.03 and abs(top[2] - goal[2]) < 0.02:
        return away_from(world)
    return grasp(world, top)


def can_expert(world):
    env = world.env
    can = world.body(env.objects[env.object_id].name + "_main")
    goal = env.target_bin_placements[env.object_id] + [0, 0, 0.06]
    if world.holds(env.objects[env.object_id]):
        return carry(world, can, goal, 0.14, 0.03, near=0.03)
    if not env.not_in_bin(can, env.object_id):
        return away_from(world)
    return grasp(world, can + [0, 0, 0.01], above=0.13)


def wrapped(angle, period):
    return (angle + period / 2) % period - period / 2


def leveled(action, up):
    """The action, also turning what points `up` upright; both in the robot's frame, whose z is up."""
    action[3:5] = np.clip(np.cross(up, [0, 0, 1])[:2] / RADIANS, -0.5, 0.5)
    return action


def nut_expert(world):
    env = world.env
    nut = env.nuts[env.nut_id]
    center, up = world.body(nut.root_body), world.up_of_body(nut.root_body)
    peg = np.array(env.sim.data.body_xpos[env.peg1_body_id])
    handle, hand = world.site(nut.important_sites["handle"]), world.hand()
    yaw = np.arctan2(*(handle - center)[[1, 0]])
    if not world.holds(nut):
        if env.on_peg(center, env.nut_id):
            return away_from(world)
        # the fingers close across the handle, which points from the nut's center outwards, and reach below it
        return leveled(grasp(world, handle - [0, 0, 0.004], 0.08, wrapped(yaw - world.hand_yaw(), np.pi)), world.up_of_hand())
    # the handle to the left or right of the peg: beyond it, the arm does not reach far enough
    away, turn = (peg - center)[:2], wrapped(np.pi / 2 - yaw, np.pi)
    inside = center[2] < peg[2] + 0.09 and np.linalg.norm(away) < 0.01
    aligned = np.linalg.norm(away) < 0.0025 and abs(turn) < 0.04 and up[2] > 0.998
    over = peg[2] + 0.14
    if inside and center[2] < peg[2] + 0.025:
        return toward(world, hand, OPEN)
    if inside or aligned or (np.linalg.norm(away) < 0.006 and center[2] < over - 0.02):
        down = -0.03 if inside else -0.012
        return leveled(toward(world, hand + [*(2 * away), down], CLOSE, turn), up)
    if center[2] < over - 0.04 and np.linalg.norm(away) > 0.03:
        return toward(world, hand + [0, 0, over - center[2]], CLOSE)
    gain = 3 if np.linalg.norm(away) < 0.02 else 1
    return leveled(toward(world, hand + [*(gain * away), over - center[2]], CLOSE, turn), up)


EXPERTS = {"Lift": lift_expert, "Stack": stack_expert, "PickPlaceCan": can_expert, "NutAssemblySquare": nut_expert}


class World:
    """What experts and judges see of the simulation."""

    def __init__(self, env):
        self.env = env

    def hand(self):
        return np.array(self.env.sim.data.site_xpos[self.env.robots[0].eef_site_id["right"]])

    def hand_speed(self):
        """m/s"""
        return np.linalg.norm(self.env.sim.data.get_site_xvelp(self.env.sim.model.site_id2name(self.env.robots[0].eef_site_id["right"])))

    def hand_yaw(self):
        """Of the axis along which the hand does not close, rad."""
        turned = self.env.sim.data.site_xmat[self.env.robots[0].eef_site_id["right"]].reshape(3, 3)
        return np.arctan2(turned[1, 1], turned[0, 1])

    def up_of_hand(self):
        return -self.env.sim.data.site_xmat[self.env.robots[0].eef_site_id["right"]].reshape(3, 3)[:, 2]

    def up_of_body(self, name):
        return np.array(self.env.sim.data.body_xmat[self.env.sim.model.body_name2id(name)]).reshape(3, 3)[:, 2]

    def body(self, name):
        return np.array(self.env.sim.data.body_xpos[self.env.sim.model.body_name2id(name)])

    def site(self, name):
        return np.array(self.env.sim.data.site_xpos[self.env.sim.model.site_name2id(name)])

    def holds(self, thing):
        return bool(self.env._check_grasp(gripper=self.env.robots[0].gripper["right"], object_geoms=thing))

    def thing(self):
        """The object that the task is about: its body's name, and the object; None where nobody told."""
        env = self.env
        kind = type(env).__name__
        if kind == "Lift":
            return "cube_main", env.cube
        if kind == "Stack":
            return "cubeA_main", env.cubeA
        if kind == "PickPlaceCan":
            return env.objects[env.object_id].name + "_main", env.objects[env.object_id]
        if kind == "NutAssemblySquare":
            return env.nuts[env.nut_id].root_body, env.nuts[env.nut_id]
        return None


class Judge:
    """What would make a watching person step in."""

    def __init__(self):
        self.begin()

    def begin(self):
        self.path, self.held, self.touched, self.nearest, self.closed = [], False, False, np.inf, 0

    def look(self, world, action):
        """One word or two, and for how many steps it has held already; None while all is well."""
        told = world.thing()
        if told is None:
            return None, 0
        name, thing = told
        place, hand = world.body(name), world.hand()
        holds = world.holds(thing)
        away = np.linalg.norm(place - hand)
        self.path.append(np.concatenate([hand, place]))
        closing = action is not None and action[6] > 0
        self.closed = self.closed + 1 if closing and not holds else 0
        dropped, self.held = self.held and not holds and closing, holds
        self.touched |= holds  # what was carried may lie where it belongs
        self.nearest = min(self.nearest, away)
        if dropped:
            return "dropped", 0
        if self.closed > 8:
            return "grasped air", self.closed - 1
        if not holds and self.nearest < 0.06 and away > self.nearest + 0.06 and closing:
            return "passed by", 0
        if not holds and not self.touched and away > self.nearest + ASTRAY_M:
            return "off course", 0
        if len(self.path) > STALLED_STEPS:
            before, now = self.path[-1 - STALLED_STEPS], self.path[-1]
            if np.abs(now - before).max() < STALLED_M:
                return "stuck", STALLED_STEPS
        return None, 0


# What goes wrong with the world of an episode, by the names that environment.disruptions has.


def any_direction(random):
    direction = random.normal(size=3)
    return direction / np.linalg.norm(direction)


def dim_lights(model, random, brightness=0.4, direction_deg=35.0, color=0.4):
    factor = 1 - brightness if random.random() < 0.5 else 1 + brightness
    channels = np.ones(3)
    order = random.permutation(3)
    channels[order[2]] -= color
    channels[order[1]] -= color / 2
    model.light_diffuse[:] = np.clip(model.light_diffuse * factor * channels, 0, 1)
    headlight = model._model.vis.headlight
    headlight.diffuse[:] = np.clip(headlight.diffuse * factor * channels, 0, 1)
    headlight.ambient[:] = np.clip(headlight.ambient * factor * channels, 0, 1)
    tilt, side = np.radians(direction_deg), random.uniform(0, 2 * np.pi)
    model.light_dir[:] = [np.sin(tilt) * np.cos(side), np.sin(tilt) * np.sin(side), -np.cos(tilt)]


def other_background(model, random, color=0.7, texture="random"):
    """The table, the floor and the walls: a share of another color, and their own texture or none."""
    for word in ("table", "bin", "floor", "wall"):
        new, plain = random.uniform(0.15, 0.9, 3), texture == "plain" or (texture == "random" and random.random() < 0.5)
        for geom in range(model.ngeom):
            name = model.geom_id2name(geom) or ""
            if word not in name:
                continue
            model.geom_rgba[geom, :3] = (1 - color) * model.geom_rgba[geom, :3] + color * new
            material = model.geom_matid[geom]
            if material >= 0:
                model.mat_rgba[material, :3] = (1 - color) * model.mat_rgba[material, :3] + color * new
                if plain:
                    model.mat_texid[material] = -1


def move_camera(model, random, distance_m=0.03, angle_deg=4.0):
    import mujoco

    camera = model.camera_name2id(CAMERAS[0])
    model.cam_pos[camera] += distance_m * any_direction(random)
    turn, turned = np.zeros(4), np.zeros(4)
    mujoco.mju_axisAngle2Quat(turn, any_direction(random), np.radians(angle_deg))
    mujoco.mju_mulQuat(turned, turn, model.cam_quat[camera])
    model.cam_quat[camera] = turned


def with_distractors(xml, count):
    """Small free boxes far below; `lay_out` brings them onto the table."""
    colors = ("0.9 0.8 0.1 1", "0.5 0.1 0.6 1", "0.1 0.6 0.6 1", "0.9 0.5 0.6 1")
    boxes = "".join(
        f'<body name="distractor{i}" pos="{2 + i} 2 -2"><freejoint name="distractor{i}"/>'
        f'<inertial pos="0 0 0" mass="0.015" diaginertia="3e-6 3e-6 3e-6"/>'
        f'<geom type="box" size="0.018 0.018 0.018" group="0"/>'
        f'<geom type="box" size="0.018 0.018 0.018" rgba="{colors[i % len(colors)]}" group="1" contype="0" conaffinity="0"/>'
        "</body>"
        for i in range(count)
    )
    return xml.replace("</worldbody>", boxes + "</worldbody>")


def lay_out(world, random, count, center, height):
    """Around `center` on the table, clear of the task's own objects and of each other."""
    taken = [world.body(world.thing()[0])[:2]]
    if type(world.env).__name__ == "Stack":
        taken.append(world.body("cubeB_main")[:2])
    for i in range(count):
        for _ in range(200):
            place = center[:2] + random.uniform(-0.2, 0.2, 2)
            if all(np.linalg.norm(place - other) > 0.09 for other in taken):
                break
        taken.append(place)
        world.env.sim.data.set_joint_qpos(f"distractor{i}", [*place, height, 1, 0, 0, 0])
    world.env.sim.forward()


class Hand:
    """A person at one of robosuite's devices: acts from the first input on, and for half a second after the last."""

    def __init__(self, device, robot):
        self.device, self.robot = device, robot
        self.begin()

    def begin(self):
        self.device.start_control()
        self.left, self.closed = 0, False

    def act(self):
        """The person's action, None while the person does nothing, and whether the device's reset was pressed. The
        gripper stays as it is until the device's button is used."""
        told = self.device.input2action()
        if told is None:
            self.device.start_control()
            self.left = 0
            return None, True
        arm = self.robot.arms[0]
        pressed = bool(self.device.grasp) != self.closed
        move = np.asarray(told[f"{arm}_delta"], np.float64)
        if pressed or np.abs(move).max() > 1e-3:
            self.left = HAND_STEPS
        if self.left == 0:
            return None, False
        self.left -= 1
        self.closed = bool(self.device.grasp)
        parts = {arm: move, f"{arm}_gripper": np.atleast_1d(told[f"{arm}_gripper"])}
        return np.clip(self.robot.create_action_vector(parts), -1, 1).astype(np.float32), False

    def saw(self, action):
        """What was executed: whoever takes over goes on with this gripper."""
        self.closed = bool(action[-1] > 0)
        device = self.device
        device.grasp_states[device.active_robot][device.active_arm_index] = self.closed


def open_device(kind, env):
    """robosuite's device of that kind; ValueError, in one sentence, where there is none."""
    if kind == "keyboard" and not (os.environ.get("DISPLAY") or sys.platform == "darwin"):
        raise ValueError("--device keyboard: expected a display (DISPLAY) whose keys can be listened to, found none")
    try:
        module = importlib.import_module(f"robosuite.devices.{kind}")
        return getattr(module, {"keyboard": "Keyboard", "spacemouse": "SpaceMouse"}[kind])(env)
    except Exception as error:  # no HID library, no rights, no device, no display
        raise ValueError(f"--device {kind}: cannot be opened: {' '.join(str(error).split()) or type(error).__name__}") from error


class RobosuiteEnvironment(Environment):
    """One robosuite environment of one arm; lives in one thread. A person at a `device` acts in place of whoever asks
    for steps, which then take as long as they take on a robot."""

    def __init__(self, name, image_size, max_steps, imports, device=None, open_device=open_device):
        for module in imports:
            importlib.import_module(module)
        import robosuite
        from robosuite.controllers import load_composite_controller_config

        known = sorted(robosuite.ALL_ENVIRONMENTS)
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"--env {name}: expected one of {', '.join(known)}{hint}")
        self.name, self.image_size = name, image_size
        self.max_steps = max_steps or MAX_STEPS.get(name, 300)
        self.disruptions = {}
        self.arguments = {
            "robots": "Panda",
            "controller_configs": load_composite_controller_config(controller="BASIC", robot="Panda"),
            "has_renderer": False,
            "has_offscreen_renderer": True,
            "use_camera_obs": False,  # pictures are drawn here, without what makes them slow
            "renderer": "mujoco",
            "control_freq": 20,
            "horizon": 100000,
            "ignore_done": True,
            "hard_reset": True,
        }
        self.env = robosuite.make(name, **self.arguments)
        self.env.set_xml_processor(self.cheap)
        self.built = None  # with how many distractors; None: to be built anew for each episode
        self.world, self.judge = World(self.env), Judge()
        self.version = robosuite.__version__
        self.hand = Hand(open_device(device, self.env), self.env.robots[0]) if device else None
        self.due = 0.0
        self.check_pictures()

    def check_pictures(self):
        self.reset(0, {})
        for camera in CAMERAS:
            picture = self.picture(camera, self.image_size, self.image_size)
            if picture.std() < 1:
                raise RuntimeError(f"camera {camera}: the first picture is one color; expected a picture of the scene")

    def cheap(self, xml):
        """Without multisampling, and with this episode's distractors."""
        xml = xml.replace("</mujoco>", '<visual><quality offsamples="0"/></visual></mujoco>')
        count = self.count_distractors()
        return with_distractors(xml, count) if count else xml

    def count_distractors(self):
        if "distractors" not in self.disruptions:
            return 0
        return int(np.clip(self.disruptions["distractors"].get("count", 3), 1, DISTRACTORS))

    def metadata(self):
        told = self.world.thing() is not None
        size = self.env.action_dim
        kwargs = {**self.arguments, "camera_names": list(CAMERAS), "camera_heights": self.image_size}
        kwargs |= {"camera_widths": self.image_size, "use_camera_obs": True}
        return {
            "name": self.name,
            "instruction": INSTRUCTIONS.get(self.name, self.name),
            "control_hz": 20,
            "max_steps": self.max_steps,
            "action": {
                "size": size,
                "low": [-1.0] * size,
                "high": [1.0] * size,
                "idle": [0.0] * (size - 1) + [OPEN],
                "names": ["x", "y", "z", "roll", "pitch", "yaw", "gripper"] if size == 7 else [],
                "gripper": {"dimension": [size - 1], "open": OPEN, "closed": CLOSE},
            },
            "cameras": {camera: [self.image_size, self.image_size] for camera in CAMERAS},
            "states": {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2},
            "capabilities": ["render", "state"] + ([] if self.hand else ["seed"]) + (["concern"] if told else []) + (["expert"] if self.expert() else []),
            "disruptions": list(DISRUPTIONS) if told else ["lighting", "background", "camera_moved"],
            "env_args": json.dumps({"env_name": self.name, "env_version": self.version, "type": 1, "env_kwargs": kwargs}),
        }

    def expert(self):
        return EXPERTS.get(self.name)

    def seed(self, seed):
        """Everything that draws: without the samplers' own, equal seeds give other places."""
        random = np.random.default_rng(seed)
        self.env.rng = random
        samplers = [getattr(self.env, "placement_initializer", None)]
        while samplers:
            sampler = samplers.pop()
            if sampler is not None:
                sampler.rng = random
                samplers.extend(getattr(sampler, "samplers", {}).values())

    def reset(self, seed, options):
        self.disruptions = dict(options.get("disruptions") or {})
        self.instruction = options.get("instruction") or INSTRUCTIONS.get(self.name, self.name)
        if self.name in EXPERTS:  # whose episodes differ in places alone: built once, which takes longer than an episode
            if self.built != self.count_distractors():
                self.build(0)
                self.built, self.undisturbed = self.count_distractors(), self.changeable()
            for array, value in zip(self.changeable(copied=False), self.undisturbed):
                array[:] = value
            self.env.hard_reset = False
            self.seed(seed)
            self.env.reset()
        else:
            self.build(seed)
        self.disturb(seed)
        self.env.sim.forward()
        self.judge.begin()
        self.troubled, self.moved = False, False
        if self.hand:
            self.hand.begin()
        self.last = np.zeros(self.env.action_dim, np.float32)
        return self.look(None)

    def build(self, seed):
        """The simulator anew."""
        import mujoco

        self.env.hard_reset = True
        self.seed(seed)
        self.env.reset()
        scene = self.env.sim._render_context_offscreen.scn
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_SKYBOX):
            scene.flags[flag] = 0

    def changeable(self, copied=True):
        """What disruptions change in the model."""
        model, headlight = self.env.sim.model, self.env.sim.model._model.vis.headlight
        arrays = [model.light_diffuse, model.light_dir, model.geom_rgba, model.mat_rgba, model.mat_texid, model.cam_pos, model.cam_quat,
                  headlight.diffuse, headlight.ambient]
        return [np.array(array) for array in arrays] if copied else arrays

    def disturb(self, seed):
        model = self.env.sim.model
        for stream, (name, change) in enumerate(
            (("lighting", dim_lights), ("background", other_background), ("camera_moved", move_camera))
        ):
            if name in self.disruptions:
                change(model, np.random.default_rng([stream + 1, seed % 2**63]), **self.disruptions[name])
        if "distractors" in self.disruptions:
            place = self.world.body(self.world.thing()[0])
            lay_out(self.world, np.random.default_rng([4, seed % 2**63]), self.count_distractors(), place, place[2] + 0.01)
        self.slip = np.random.default_rng([5, seed % 2**63]).uniform(0, 2 * np.pi)

    def slip_away(self):
        """Once, as the hand comes down on it."""
        if self.moved or "object_moved" not in self.disruptions:
            return
        name, thing = self.world.thing()
        away = self.world.hand() - self.world.body(name)
        if not (np.linalg.norm(away[:2]) < 0.07 and 0.02 < away[2] < 0.07):
            return
        joint = thing.joints[0]
        place = np.array(self.env.sim.data.get_joint_qpos(joint))
        distance = self.disruptions["object_moved"].get("distance_m", 0.05)
        place[:2] += distance * np.array([np.cos(self.slip), np.sin(self.slip)])
        self.env.sim.data.set_joint_qpos(joint, place)
        self.env.sim.forward()
        self.moved = True

    def step(self, action):
        self.slip_away()
        by_hand, reset = self.hand.act() if self.hand else (None, False)
        if by_hand is not None:
            action = by_hand
        self.env.step(np.asarray(action, np.float64))
        self.env.sim.forward()  # or pictures and poses are those of a physics step before the state
        reply = self.look(action)
        if self.hand:
            self.hand.saw(action)
            self.keep_pace()
        if by_hand is not None:
            reply |= {"executed_action": by_hand, "action_source": 2, "reason": "took over at the device"}
        if reset:
            reply["events"] = ["reset"]
        return reply

    def keep_pace(self):
        """Until a control period after the last step; a person cannot steer anything faster."""
        now = time.monotonic()
        if now < self.due:
            time.sleep(self.due - now)
        self.due = max(now, self.due) + 1 / 20

    def look(self, action):
        success = bool(self.env._check_success())
        concern, steps = self.judge.look(self.world, action)
        concern = None if success else concern
        self.troubled |= concern is not None
        reply = {
            "obs": {**{f"{camera}_image": self.picture(camera, self.image_size, self.image_size) for camera in CAMERAS}, **self.states()},
            "instruction": self.instruction,
            "reward": 1.0 if success else 0.0,
            "terminated": success,
            "success": success,
            "outcome": "success" if success else "",
            "flawless": not self.troubled,
            "concern": concern,
            "concern_steps": steps,
            "facts": {},
            "state": np.asarray(self.env.sim.get_state().flatten(), np.float64),
        }
        if action is None and "model" in self.want:
            reply["model"] = self.env.sim.model.get_xml()
        if self.expert():
            reply["expert_action"] = self.expert()(self.world)
        return reply

    def states(self):
        observables = self.env._get_observations(force_update=True)
        return {name: np.asarray(observables[name], np.float32) for name in STATES}

    def picture(self, camera, height, width):
        return np.ascontiguousarray(self.env.sim.render(width=width, height=height, camera_name=camera)[::-1])

    def render(self, size):
        if size > 480:
            raise Refused("UNSUPPORTED", f"render: expected a size up to 480, found {size}")
        return self.picture(CAMERAS[0], size, size)


class Blind(RobosuiteEnvironment):
    """Without pictures, for who looks at the simulation alone."""

    def check_pictures(self):
        pass

    def picture(self, camera, height, width):
        return np.zeros((height, width, 3), np.uint8)


def led_astray(environment, reply, seed, steps):
    """What comes of moving the hand sideways at full speed, in a direction that the seed draws, before anybody corrects."""
    angle = np.random.default_rng([6, seed]).uniform(0, 2 * np.pi)
    action = np.zeros(7, np.float32)
    action[[0, 1, 6]] = np.cos(angle), np.sin(angle), OPEN
    for _ in range(steps):
        reply = environment.step(action)
    return reply


def try_expert(environment, trials, astray):
    """Plays the expert on the seeds from 0 on, after `astray` steps of somebody else; says how often it succeeds."""
    if not environment.expert():
        raise SystemExit(f"--env {environment.name} has no expert (there are those of {', '.join(EXPERTS)})")
    successes, steps = 0, []
    for seed in range(trials):
        reply, taken = led_astray(environment, environment.reset(seed, {}), seed, astray), 0
        while not reply["terminated"] and taken < environment.max_steps:
            reply = environment.step(np.clip(reply["expert_action"], -1, 1))
            taken += 1
        successes += reply["success"]
        steps.append(taken)
        print(f"seed {seed}: {'success' if reply['success'] else 'no success'} after {taken} steps", flush=True)
    print(f"{environment.name}: {successes} of {trials}, {np.mean(steps):.0f} steps")


def choose_renderer():
    """OSMesa where its library is there, EGL otherwise; what MUJOCO_GL says wins."""
    if os.environ.get("MUJOCO_GL"):
        return
    import ctypes.util

    found = "osmesa" if ctypes.util.find_library("OSMesa") else "egl" if ctypes.util.find_library("EGL") else None
    if found is None:
        raise SystemExit("no GL: expected the library of OSMesa (Debian: libosmesa6) or EGL (libegl1), found neither")
    os.environ["MUJOCO_GL"] = found
    if found == "osmesa":
        os.environ.setdefault("PYOPENGL_PLATFORM", "osmesa")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="Lift", metavar="NAME", help="robosuite environment (default %(default)s)")
    parser.add_argument("--import", dest="imports", action="append", default=[], metavar="MODULE",
                        help="Python module that registers further environments; repeatable")
    parser.add_argument("--image-size", type=int, default=84, help="pixels of both cameras (default %(default)s)")
    parser.add_argument("--max-steps", type=int, default=0, help="steps of an episode (default: the task's)")
    parser.add_argument("--device", choices=("keyboard", "spacemouse"),
                        help="a person at this machine takes over with it; one environment, at the robot's pace")
    parser.add_argument("--expert-trials", type=int, default=0, metavar="N",
                        help="serve nothing: play the expert on seeds 0 to N - 1 and say how often it succeeds")
    parser.add_argument("--astray", type=int, default=0, metavar="STEPS",
                        help="with --expert-trials: move the hand sideways for so many steps first (default %(default)s)")
    add_arguments(parser)
    given = parser.parse_args()
    if not 16 <= given.image_size <= 480:
        parser.error(f"--image-size: expected 16 to 480, found {given.image_size}")
    if importlib.util.find_spec("robosuite") is None:
        raise SystemExit("robosuite is not installed here: pip install robosuite==1.5.2 mujoco==3.3.7")
    choose_renderer()
    if given.device and given.num_envs != 1:
        parser.error(f"--device {given.device}: expected --num-envs 1, found {given.num_envs}")
    about = (given.env, given.image_size, given.max_steps, tuple(given.imports), given.device)
    if given.astray < 0 or (given.astray and not given.expert_trials):
        parser.error(f"--astray: expected a number of steps, and --expert-trials, found {given.astray}")
    if given.expert_trials > 0:
        return try_expert(Blind(*about[:4]), given.expert_trials, given.astray)
    make = functools.partial(RobosuiteEnvironment, *about)
    return serve(make, given.host, given.port, given.token, given.num_envs, "robosuite_bridge.py")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:  # a task that there is not
        raise SystemExit(str(error)) from None
