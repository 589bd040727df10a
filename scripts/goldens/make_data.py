#!/usr/bin/env python3
"""Writes tests/pictures/goldens/pictures.json, what Pillow and torchvision make of one small picture, and in
tests/data/goldens small files as h5py writes them.

Needs: pip install h5py numpy pillow==11.3.0 torch==2.11.0 torchvision==0.26.0
"""
import json
import pathlib

import h5py
import numpy as np
import torch
import torchvision.transforms.functional as F
from PIL import Image

TESTS = pathlib.Path(__file__).resolve().parents[2] / "tests"
OUT = TESTS / "data/goldens"


def picture(height, width):
    """The same formula as in tests/pictures/transforms_test.cpp."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((37 * y + 59 * x + 101 * c + 7 * y * x) % 256).astype(np.uint8)


def resized(height, width, new_height, new_width, how):
    image = Image.fromarray(picture(height, width))
    return np.asarray(image.resize((new_width, new_height), how)).ravel().tolist()


def adjusted(function, factor):
    image = torch.from_numpy(picture(6, 7)).permute(2, 0, 1)
    return function(image, factor).permute(1, 2, 0).flatten().tolist()


def demo_file(name, actions=lambda demo: demo.create_dataset("actions", data=np.arange(6.0).reshape(3, 2) / 10)):
    """A robomimic demonstration of 3 steps; `actions` writes its actions."""
    with h5py.File(OUT / name, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = 3
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {}})
        demo = data.create_group("demo_0")
        demo.attrs["task_description"] = "lift the cube"
        demo.attrs["success"] = True
        actions(demo)
        demo["action_source"] = np.array([1, 2, 1])
        obs = demo.create_group("obs")
        frames = np.stack([picture(4, 5) + i for i in range(3)]).astype(np.uint8)
        obs.create_dataset("agentview_image", data=frames, compression="gzip")
        obs["agentview_depth"] = np.zeros((3, 4, 5, 1), np.float32)
        obs["gripper"] = np.array([0.5, 0.25, 0.125], np.float16)


def virtual(demo):
    layout = h5py.VirtualLayout(shape=(3, 2), dtype="f4")
    layout[:] = h5py.VirtualSource("other.hdf5", "actions", shape=(3, 2))
    demo.create_virtual_dataset("actions", layout)


def files():
    demo_file("h5py.hdf5")
    demo_file("never_written.hdf5", lambda demo: demo.create_dataset("actions", (3, 2), "f4"))
    demo_file("huge.hdf5", lambda demo: demo.create_dataset("actions", (2**31, 64), "f4"))
    demo_file("huge_gzip.hdf5", lambda demo: demo.create_dataset("actions", (2**31, 64), "f4", chunks=(16, 64), compression="gzip"))
    demo_file("external.hdf5", lambda demo: demo.create_dataset("actions", (3, 2), "f4", external=[("other.raw", 0, 24)]))
    demo_file("virtual.hdf5", virtual)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    files()
    golden = {"resize": [], "adjust": []}
    for name, how in (("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)):
        for size in ((12, 15, 5, 6), (12, 15, 9, 20), (6, 5, 12, 11), (16, 16, 8, 8)):
            golden["resize"].append({"interpolation": name, "size": size, "pixels": resized(*size, how)})
    for name, function, factors in (
        ("brightness", F.adjust_brightness, (0.8, 1.3)),
        ("contrast", F.adjust_contrast, (0.7, 1.2)),
        ("saturation", F.adjust_saturation, (0.6, 1.4)),
        ("hue", F.adjust_hue, (-0.2, 0.05, 0.5)),
    ):
        for factor in factors:
            golden["adjust"].append({"what": name, "factor": factor, "pixels": adjusted(function, factor)})
    (TESTS / "pictures/goldens/pictures.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
