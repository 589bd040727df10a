#!/usr/bin/env python3
"""Writes tests/data/goldens/layouts: small files as LIBERO, MimicGen, Sirius, robomimic and others write them.

Every file shows one scene from the camera's view: blue above, brown below, a red mark at the upper left. A reader that
turns pictures wrongly is caught by the color of a corner.

Needs: pip install h5py numpy
"""
import json
import pathlib

import h5py
import numpy as np

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/data/goldens/layouts"
SIZE = 8


def scene(step):
    """[SIZE, SIZE, 3]: how the scene looks upright at a timestep."""
    image = np.empty((SIZE, SIZE, 3), np.uint8)
    image[: SIZE // 2] = (40, 80, 200)
    image[SIZE // 2 :] = (120, 80, 40)
    image[:2, :2] = (220, 20, 20)
    image[4, 4] = (step, 255 - step, 128)
    return image


def scenes(n):
    return np.stack([scene(t) for t in range(n)])


def actions(n, seed, gripper=(-1.0, 1.0)):
    random = np.random.default_rng(seed)
    a = random.uniform(-0.6, 0.6, (n, 7))
    a[:, 6] = np.where(np.arange(n) < n // 2, *gripper)
    return a


def libero(name, attributes, first=scene, demos=(0, 1)):
    """LIBERO: pictures bottom row first, rewards and dones of one byte, no next_obs, no mask."""
    with h5py.File(OUT / name, "w") as file:
        data = file.create_group("data")
        total = 0
        for i in demos:
            n = 6 + i
            total += n
            demo = data.create_group(f"demo_{i}")
            a = actions(n, i)
            obs = demo.create_group("obs")
            obs["gripper_states"] = np.zeros((n, 2))
            obs["joint_states"] = np.linspace(0, 1, n * 7).reshape(n, 7)
            obs["ee_states"] = np.cumsum(a[:, :6], axis=0) / 20
            obs["ee_pos"] = obs["ee_states"][:, :3]
            obs["ee_ori"] = obs["ee_states"][:, 3:]
            stored = scenes(n)[:, ::-1] if attributes.get("macros_image_convention") != "opencv" else scenes(n)
            obs.create_dataset("agentview_rgb", data=stored)
            obs.create_dataset("eye_in_hand_rgb", data=stored)
            demo["actions"] = a
            demo["states"] = np.zeros((n, 47))
            demo["robot_states"] = np.zeros((n, 9))
            ends = np.zeros(n, np.uint8)
            ends[-1] = 1
            demo["rewards"] = ends
            demo["dones"] = ends
            if attributes:
                demo.attrs["num_samples"] = n
                demo.attrs["model_file"] = "<mujoco/>"
                demo.attrs["init_state"] = np.zeros(47)
        for key, value in attributes.items():
            data.attrs[key] = value
        if attributes:
            data.attrs["num_demos"] = len(demos)
            data.attrs["total"] = total


def libero_attributes(convention="opengl"):
    return {
        "env_name": "Libero_Kitchen_Tabletop_Manipulation",
        "problem_info": json.dumps({"problem_name": "libero_kitchen", "domain_name": "robosuite",
                                    "language_instruction": "open the top drawer of the cabinet"}),
        "macros_image_convention": convention,
        "bddl_file_name": "chiliocosm/open_the_top_drawer.bddl",
        "bddl_file_content": "(define (problem LIBERO_Kitchen))",
        "env_args": json.dumps({"type": 1, "env_name": "Libero_Kitchen_Tabletop_Manipulation",
                                "problem_name": "libero_kitchen", "bddl_file": "x.bddl", "env_kwargs": {}}),
    }


def robomimic_demo(data, i, n, seed, gzip=False, next_obs=True):
    demo = data.create_group(f"demo_{i}")
    demo.attrs["num_samples"] = n
    demo.attrs["model_file"] = "<mujoco/>"
    demo["actions"] = actions(n, seed)
    for group in ("obs", "next_obs") if next_obs else ("obs",):
        pack = {"compression": "gzip"} if gzip else {}
        demo.create_dataset(f"{group}/agentview_image", data=scenes(n), **pack)
        demo.create_dataset(f"{group}/robot0_eye_in_hand_image", data=scenes(n), **pack)
        demo.create_dataset(f"{group}/robot0_eef_pos", data=np.cumsum(demo["actions"][:, :3], axis=0) / 20, **pack)
        demo.create_dataset(f"{group}/robot0_gripper_qpos", data=np.zeros((n, 2)), **pack)
    return demo


def environment(name):
    return json.dumps({"env_name": name, "type": 1, "env_version": "1.4.1", "env_kwargs": {"camera_names": ["agentview"]}}, indent=4)


def robomimic():
    with h5py.File(OUT / "robomimic.hdf5", "w") as file:
        data = file.create_group("data")
        for i in range(2):
            n = 5 + i
            demo = robomimic_demo(data, i, n, 10 + i)
            demo["states"] = np.zeros((n, 32))
            demo["rewards"] = np.eye(1, n, n - 1).ravel()
            demo["dones"] = np.eye(1, n, n - 1).ravel().astype(np.int64)
        data.attrs["total"] = 11
        data.attrs["env_args"] = environment("Lift")
        file["mask/train"] = np.array([b"demo_0"])
        file["mask/valid"] = np.array([b"demo_1"])


def mimicgen():
    """As written by its generator and merged: gzip, datagen_info, no rewards, dones or next_obs; states as a group."""
    with h5py.File(OUT / "mimicgen.hdf5", "w") as file:
        data = file.create_group("data")
        for i in range(2):
            n = 7
            demo = robomimic_demo(data, i, n, 20 + i, gzip=True, next_obs=False)
            if i:
                demo["states/qpos"] = np.zeros((n, 9))
            else:
                demo["states"] = np.zeros((n, 45))
            info = demo.create_group("datagen_info")
            info.attrs["env_interface_name"] = "MG_Coffee"
            info.attrs["env_interface_type"] = "robosuite"
            info["eef_pose"] = np.tile(np.eye(4), (n, 1, 1))
            info["target_pose"] = np.tile(np.eye(4), (n, 1, 1))
            info["gripper_action"] = np.ones((n, 1))
            info["object_poses/coffee_pod"] = np.tile(np.eye(4), (n, 1, 1))
            info["subtask_term_signals/grasp"] = np.zeros(n, np.int64)
            demo["src_demo_inds"] = np.array([3, 5])
            demo["src_demo_labels"] = np.full((n, 1), 3)
        data.attrs["total"] = 14
        data.attrs["env_args"] = environment("Coffee_D0")


def sirius():
    """robomimic's with action_modes of double precision (numpy.ones times a value), and where it was made from."""
    with h5py.File(OUT / "sirius.hdf5", "w") as file:
        data = file.create_group("data")
        modes = {0: [-1] * 6, 1: [0, 0, 0, 0, 1, 1, 0, 0, 1], 2: [0] * 5}
        for i, mode in modes.items():
            demo = robomimic_demo(data, i, len(mode), 30 + i)
            demo["states"] = np.zeros((len(mode), 32))
            demo["rewards"] = np.zeros(len(mode))
            demo["dones"] = np.zeros(len(mode), np.int64)
            demo["action_modes"] = np.array(mode) * np.ones(len(mode))
        demo = data["demo_2"]
        demo["intv_labels"] = np.array([[0.0], [-10], [-10], [0], [0]])  # a person's own choice, kept as a column
        data.attrs["total"] = 20
        data.attrs["env_args"] = environment("NutAssemblySquare")
        data.attrs["raw_hdf5_dataset"] = "raw/square.hdf5"
        file["mask/train"] = np.array([b"demo_0", b"demo_1", b"demo_2"])


def one_row_more():
    """Observations as a gym loop collects them: T + 1 rows for T actions; chunked over several frames."""
    with h5py.File(OUT / "one_row_more.hdf5", "w") as file:
        data = file.create_group("data")
        demo = data.create_group("demo_0")
        demo["actions"] = actions(5, 40)
        demo.create_dataset("obs/front_image", data=scenes(6), chunks=(4, 3, 5, 2), compression="gzip", shuffle=True, fletcher32=True)
        demo.create_dataset("obs/qpos", data=np.zeros((6, 3)), chunks=(1, 3), compression="gzip", compression_opts=9)


def lzf():
    """h5py's own compression, which a plain HDF5 library does not know."""
    with h5py.File(OUT / "lzf.hdf5", "w") as file:
        demo = file.create_group("data/demo_0")
        demo["actions"] = actions(5, 41)
        demo.create_dataset("obs/front_image", data=scenes(5), compression="lzf")


def ours():
    """Our own: who acted, a person's labels, what the policy wanted, how it ended."""
    with h5py.File(OUT / "apo.hdf5", "w") as file:
        data = file.create_group("data")
        data.attrs["apo_schema_version"] = 1
        for i, sources in enumerate([[1, 1, 1, 1, 2, 2, 1, 1, 2], [1, 1, 1, 1, 1, 1]]):
            n = len(sources)
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = n
            demo.attrs["task_description"] = "fit the nut"
            demo.attrs["success"] = 1
            demo.attrs["outcome"] = "success"
            demo["actions"] = actions(n, 50 + i).astype(np.float32)
            demo["action_source"] = np.array(sources, np.int8)
            demo["desirable"] = np.array([1 - 2 * (t > 0) for t in range(n)], np.int8)
            demo["policy_action"] = actions(n, 60 + i).astype(np.float32)
            demo["policy_action_valid"] = np.array([source == 2 for source in sources], np.int8)
            demo.create_dataset("obs/front_image", data=scenes(n), chunks=(1, SIZE, SIZE, 3))
            demo["obs/eef_pos"] = np.zeros((n, 3), np.float32)
        data.attrs["total"] = 15


def take_overs():
    """Why a person took over, as h5py writes texts by itself: of any length. Nobody says since when."""
    with h5py.File(OUT / "take_overs.hdf5", "w") as file:
        demo = file.create_group("data/demo_0")
        demo.attrs["task_description"] = "fit the nut"
        demo["actions"] = actions(7, 95)
        demo["interventions"] = np.array([0, 0, 1, 1, 0, 0, 1], bool)
        demo["take_over_timestep"] = np.array([2, 6], np.int32)
        demo["take_over_reason"] = ["grasped air", "stuck"]
        demo["obs/front_image"] = scenes(7)


def released_timestep(group, t, seed):
    step = group.create_group(f"timestep_{t}")
    step["action"] = actions(6, seed)[t % 6]
    step["third_obs"] = scene(t)
    return step


def released():
    """The released APO code's: one group a timestep."""
    with h5py.File(OUT / "released_demo.hdf5", "w") as file:
        for i in range(2):
            for t in range(5 + i):
                released_timestep(file.require_group(f"demo_{i}"), t, 70 + i)
    with h5py.File(OUT / "released_interaction.hdf5", "w") as file:
        data = file.create_group("data")
        data["task_description"] = "fit_the_nut"
        for t, who in enumerate([2, 2, 2, 1, 1, 0, 2, 2, 1]):
            released_timestep(data, t, 80)["is_human"] = who


def packed_oddly(name):
    """The same file with every array in odd chunks, compressed in another way than its writer would."""
    (OUT / "odd").mkdir(exist_ok=True)
    with h5py.File(OUT / name) as plain, h5py.File(OUT / "odd" / name, "w") as file:
        def copy(path, item):
            if isinstance(item, h5py.Group):
                new = file.require_group(path)
            elif item.ndim == 0:
                new = file.create_dataset(path, data=item[()])
            else:
                chunks = tuple(max(1, n // 2 + n % 2) for n in item.shape)
                new = file.create_dataset(path, data=item[()], chunks=chunks, compression="gzip", compression_opts=9,
                                          shuffle=True, fletcher32=True, maxshape=(None, *item.shape[1:]))
            for key, value in item.attrs.items():
                new.attrs[key] = value
        plain.visititems(copy)


def lzf_timesteps():
    with h5py.File(OUT / "lzf_released.hdf5", "w") as file:
        step = released_timestep(file.create_group("demo_0"), 0, 90)
        del step["third_obs"]
        step.create_dataset("third_obs", data=scene(0), compression="lzf")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    libero("libero.hdf5", libero_attributes())
    libero("libero_opencv.hdf5", libero_attributes("opencv"), demos=(0,))
    libero("KITCHEN_SCENE10_close_the_top_drawer_demo.hdf5", {}, demos=(0, 3))  # replayed; failures left out
    robomimic()
    mimicgen()
    sirius()
    one_row_more()
    lzf()
    lzf_timesteps()
    ours()
    take_overs()
    released()
    for name in ("apo", "released_demo", "released_interaction", "robomimic", "libero", "mimicgen", "sirius"):
        packed_oddly(name + ".hdf5")


if __name__ == "__main__":
    main()
