#!/usr/bin/env python3
"""robomimic's own tools open what our programs write.

usage: robomimic_opens.py APO-DATA LAYOUTS-DIRECTORY      (exit code 77: robomimic is not installed here)
"""
import json
import pathlib
import subprocess
import sys
import tempfile

SKIP = 77
try:
    import h5py
    import numpy as np
    import robomimic.utils.obs_utils as ObsUtils
    from robomimic.utils.dataset import SequenceDataset
except (ImportError, OSError, ValueError) as error:  # the latter: PyTorch without libraries it was linked to
    print(f"skipped: {error} (scripts/setup.sh --peers installs it, or give a Python that has it as -DAPO_PYTHON=...)")
    sys.exit(SKIP)


def convert(program, source, out, *more):
    subprocess.run([program, "convert", source, "--output", out, "--instruction", "fit the nut", *more], check=True)


def check_info(path):
    """`get_dataset_info` prints the file's structure and checks that actions lie in [-1, 1]."""
    module = subprocess.run([sys.executable, "-m", "robomimic.scripts.get_dataset_info", "--dataset", path, "--verbose"],
                            capture_output=True, text=True)
    assert module.returncode == 0, module.stderr
    for expected in ("total transitions: 20", "total trajectories: 3", "==== Dataset Structure ===="):
        assert expected in module.stdout, f"{expected!r} not in\n{module.stdout}"


def check_sequences(path):
    ObsUtils.initialize_obs_utils_with_obs_specs(
        {"obs": {"low_dim": ["robot0_eef_pos"], "rgb": ["agentview_image"]}})
    data = SequenceDataset(
        hdf5_path=str(path), obs_keys=("robot0_eef_pos", "agentview_image"),
        dataset_keys=("actions", "rewards", "dones", "action_source"), load_next_obs=False, frame_stack=1, seq_length=4,
        pad_frame_stack=True, pad_seq_length=True, get_pad_mask=False, goal_mode=None, hdf5_cache_mode=None,
        hdf5_use_swmr=False)
    assert len(data) == 20, len(data)
    with h5py.File(path) as file:
        demo = file["data/demo_1"]
        item = data[6]  # the first sequence of demo_1, behind the six of demo_0
        np.testing.assert_array_equal(item["actions"], demo["actions"][:4])
        np.testing.assert_array_equal(item["obs"]["robot0_eef_pos"], demo["obs/robot0_eef_pos"][:4])
        np.testing.assert_array_equal(item["obs"]["agentview_image"].shape[:1], (4,))
        np.testing.assert_array_equal(item["action_source"], [1, 1, 1, 1])
        np.testing.assert_array_equal(data[10]["action_source"][:2], [2, 2])
    assert data.get_dataset_sequence_from_demo("demo_2", 0, ("dones",), seq_length=5)["dones"][-1] == 0


def check_texts(path):
    """Attributes are of fixed length: bytes to h5py, which json.loads takes too."""
    with h5py.File(path) as file:
        for group, name in ((file["data"], "env_args"), (file["data/demo_0"], "task_description")):
            assert group.attrs.get_id(name).get_type().is_variable_str() == 0, name
            assert isinstance(group.attrs[name], bytes), name
        assert file["data/demo_0"].attrs["task_description"].decode() == "fit the nut"
        json.loads(file["data"].attrs["env_args"])


def main():
    program, layouts = sys.argv[1], pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as temporary:
        ours = pathlib.Path(temporary) / "ours.hdf5"
        convert(program, layouts / "sirius.hdf5", ours)
        check_sequences(ours)
        check_texts(ours)
        check_info(ours)
        plain = pathlib.Path(temporary) / "plain.hdf5"
        convert(program, ours, plain, "--to", "robomimic")
        check_info(plain)
    print("robomimic reads our files")


if __name__ == "__main__":
    main()
