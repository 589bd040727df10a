#!/usr/bin/env python3
"""Writes tests/data/goldens/recordings: arrays, attributes and pictures as recorders and h5py users write them.

Every picture shows step t of one scene: gray 8x8 that grows lighter, a red mark at the upper left, a blue right edge.

Needs: pip install h5py numpy pillow
"""
import io
import json
import pathlib
import struct

import h5py
import numpy as np
from PIL import Image

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/data/goldens/recordings"
STEPS = 4


def scenes(steps=STEPS, size=8):
    """[steps, size, size, 3] uint8."""
    f = np.empty((steps, size, size, 3), np.uint8)
    f[:] = (100 + 10 * np.arange(steps))[:, None, None, None]
    f[:, :2, :2] = (220, 20, 20)
    f[:, :, -1] = (20, 40, 200)
    return f


def actions(seed, steps=STEPS):
    a = np.random.default_rng(seed).uniform(-0.5, 0.5, (steps, 7)).astype(np.float32)
    a[:, -1] = 1
    return a


def add_demo(data, i, camera=True, instruction="lift the cube", steps=STEPS):
    demo = data.create_group(f"demo_{i}")
    demo["actions"] = actions(i, steps)
    if instruction:
        demo.attrs["task_description"] = np.bytes_(instruction)
    obs = demo.create_group("obs")
    if camera:
        obs["front_image"] = scenes(steps)
    return demo, obs


def encoded(picture, kind, **options):
    out = io.BytesIO()
    Image.fromarray(picture).save(out, kind, **options)
    return np.frombuffer(out.getvalue(), np.uint8)


def add_bytes(obs, name, pictures):
    array = obs.create_dataset(name, (len(pictures),), h5py.vlen_dtype(np.uint8))
    for t, picture in enumerate(pictures):
        array[t] = picture


def padded(pictures):
    longest = max(map(len, pictures)) + 5
    return np.stack([np.pad(p, (0, longest - len(p))) for p in pictures])


def with_alpha(f):
    return np.concatenate([f, np.full((*f.shape[:-1], 1), 7, np.uint8)], -1)


def arrays():
    rows = np.arange(STEPS)
    with h5py.File(OUT / "arrays.hdf5", "w") as file:
        demo, obs = add_demo(file.create_group("data"), 0)
        obs["is_grasped"] = rows > 1
        obs["is_grasped_column"] = (rows > 1)[:, None]
        obs.create_dataset("unwritten", (STEPS, 6), np.float32)
        obs["phase"] = (rows - 1).astype(np.int8)
        obs["stamp"] = (rows + 1000).astype(np.uint64)
        obs["half"] = np.full((STEPS, 3), 0.5, np.float16)
        obs["big_endian"] = np.full((STEPS, 3), 0.25, ">f8")
        obs["pose"] = np.arange(STEPS * 3, dtype=np.float64).reshape(STEPS, 1, 3)
        obs["height"] = rows.astype(np.float32).reshape(STEPS, 1, 1)
        obs["spectrum"] = np.ones(STEPS, np.complex64)
        obs["contact"] = np.zeros(STEPS, [("force", "f4"), ("link", "i4")])
        obs["nothing"] = h5py.Empty("f4")
        obs["words"] = np.array(["a"] * STEPS, dtype=object)
        obs["force"] = np.where(rows == 2, np.nan, 1.0)
        obs["front_depth"] = np.ones((STEPS, 8, 8, 1), np.float32)
        obs["depth_image"] = np.full((STEPS, 8, 8), 800, np.uint16)
        obs["front_segmentation_image"] = np.zeros((STEPS, 8, 8), np.uint8)
        obs["front_mask_image"] = with_alpha(scenes())
        obs["normals"] = np.full((STEPS, 8, 8, 3), -0.5, np.float32)
        obs["goal_image"] = scenes(1, 10)[0]
        obs["start_image"] = scenes(1)
        obs["wrist_image"] = with_alpha(scenes())
        obs.create_dataset("top_image", (STEPS, 8, 8, 3), np.uint8)  # never written
        obs.create_group("more")["x"] = rows
        demo["desirable"] = rows > 1  # a bool
        demo["interventions"] = (rows > 1)[:, None].astype(np.float64)
        demo["force_plate"] = np.zeros((9, 2))
        demo["is_teleoperated"] = rows > 1
        demo["next_obs/front_image"] = scenes()


def attributes():
    """demo_N: one way each to write an attribute."""
    ways = [
        {"success": np.bool_(True)}, {"success": 0.0}, {"success": "True"}, {"success": np.bytes_("False")},
        {"success": np.array([1])}, {"num_samples": float(STEPS)}, {"num_samples": str(STEPS)},
        {"task_description": np.array(["lift the cube"], dtype=object)},
        {"task_description": np.bytes_("lift the cafetière".encode("latin-1"))}, {"outcome": 3},
    ]
    with h5py.File(OUT / "attributes.hdf5", "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = np.bytes_("not json {")
        for i, way in enumerate(ways):
            demo, _ = add_demo(data, i)
            for key, value in way.items():
                demo.attrs[key] = value
        data.create_group("demo_10")["actions"] = np.zeros((0, 7), np.float32)
        data.create_group("episode_3")["actions"] = actions(3)
        data.create_group("demo_11")
    bad = [{"success": 2}, {"success": "perhaps"}, {"success": np.nan}, {"success": [1, 0]}, {"num_samples": "many"},
           {"num_samples": 3.5}, {"task_description": 7}, {"task_description": ["a", "b"]},
           {"task_description": np.bytes_(b"lift \x81\xff")}]
    with h5py.File(OUT / "bad_attributes.hdf5", "w") as file:
        data = file.create_group("data")
        for i, way in enumerate(bad):
            demo, _ = add_demo(data, i)
            for key, value in way.items():
                demo.attrs[key] = value


def instructions():
    """demo_N: one way each to say what to do."""
    with h5py.File(OUT / "instructions.hdf5", "w") as file:
        data = file.create_group("data")
        demos = [add_demo(data, i, instruction="")[0] for i in range(7)]
        demos[0]["language_instruction"] = "lift zero"
        demos[1].attrs["language_instruction"] = "lift one"
        demos[2].attrs["lang"] = np.bytes_("lift two")
        demos[3].attrs["ep_meta"] = json.dumps({"lang": "lift three"})
        demos[4]["language"] = np.array(["lift four"] * STEPS, dtype=object)
        demos[5]["lang"] = np.array([b"lift five"])
        demos[6].attrs["lang"] = 6  # an index, no text
        demos[6]["language_instruction"] = np.zeros(5)  # an embedding
        demos[6]["language"] = np.array(["reach", "grasp", "lift", "lift"], dtype=object)  # of each phase
        demos[6].attrs["ep_meta"] = json.dumps({"lang": "lift six"})


def pictures():
    """demo_N: one way each to keep the pictures of the camera front; those of a JPEG also as they decode."""
    f = scenes()
    jpegs = [encoded(x, "JPEG", quality=90) for x in f]
    pngs = [encoded(x, "PNG") for x in f]
    with h5py.File(OUT / "pictures.hdf5", "w") as file:
        data = file.create_group("data")
        for i in range(13):
            add_demo(data, i, camera=False)
        obs = [data[f"demo_{i}/obs"] for i in range(13)]
        obs[0]["front_image"] = (f / 255).astype(np.float32)
        obs[1]["front_image"] = f.transpose(0, 3, 1, 2)
        obs[2]["front"] = f.transpose(0, 3, 1, 2)
        obs[3]["front"] = (f / 255).transpose(0, 3, 1, 2)
        add_bytes(obs[4], "front_image", jpegs)
        obs[5]["front_image"] = padded(jpegs)
        obs[6]["front"] = f
        obs[7]["front"] = with_alpha(f)
        obs[8]["front"] = with_alpha(f).transpose(0, 3, 1, 2)
        add_bytes(obs[9], "front_rgb_jpeg", jpegs)
        obs[10]["front_png"] = padded(pngs)
        add_bytes(obs[11], "front_image", [encoded(x, "PNG") for x in with_alpha(f)])
        longest = max(map(len, jpegs))
        obs[12]["front_image"] = np.array([np.pad(j, (0, longest - len(j))).tobytes() for j in jpegs], f"V{longest}")
        for i in (4, 5, 9, 12):
            data[f"demo_{i}/decoded"] = np.stack([np.asarray(Image.open(io.BytesIO(j.tobytes()))) for j in jpegs])


def resized_header(jpeg, side):
    """The same JPEG whose header promises side x side pixels."""
    out = bytearray(jpeg.tobytes())
    at = out.index(b"\xff\xc0")
    out[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return np.frombuffer(bytes(out), np.uint8)


def bad_pictures():
    """demo_N: one thing each that is wrong with the only camera."""
    f = scenes()
    jpegs = [encoded(x, "JPEG", quality=90) for x in f]
    with h5py.File(OUT / "bad_pictures.hdf5", "w") as file:
        data = file.create_group("data")
        for i in range(14):
            add_demo(data, i, camera=False)
        obs = [data[f"demo_{i}/obs"] for i in range(14)]
        obs[0]["front_image"] = f.astype(np.float32)  # 0..255
        obs[1]["front_image"] = f.astype(np.int32)
        obs[2]["front_image"] = f[:, :3, :, :]  # 3x8x3
        obs[3]["front_image"] = f[..., 0]
        obs[4]["front_image"] = f[..., :2]
        add_bytes(obs[5], "front_image", [np.arange(99, dtype=np.uint8)] * STEPS)
        add_bytes(obs[6], "front_image", [encoded(x[..., 0], "JPEG") for x in f])
        add_bytes(obs[7], "front_image", [resized_header(j, 65000) for j in jpegs])
        add_bytes(obs[8], "front_image", jpegs[:1] + [j[:-20] for j in jpegs[1:]])
        add_bytes(obs[9], "front_image", jpegs[:2] + [encoded(scenes(1, 16)[0], "JPEG")] * 2)
        add_bytes(obs[10], "front_image", jpegs[:2] + [np.zeros(0, np.uint8)] * 2)
        add_bytes(obs[11], "front_image", [encoded(x[..., 0].astype(np.uint16) * 256, "PNG") for x in f])
        late = (f / 255).astype(np.float32)
        late[3, 0, 0, 0] = np.nan
        obs[12]["front_image"] = late
        obs[13].create_dataset("front_image", (STEPS, 8, 8, 3), np.uint8)  # never written


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for write in (arrays, attributes, instructions, pictures, bad_pictures):
        write()
