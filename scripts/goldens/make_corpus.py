#!/usr/bin/env python3
"""Writes fuzz/corpus: small inputs of every kind for the fuzzers to start from.

Needs: pip install h5py numpy
"""
import json
import pathlib
import struct

import h5py
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "fuzz/corpus"


def write(name, content):
    path = OUT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def safetensors(tensors, metadata=None):
    header, blob = ({"__metadata__": metadata} if metadata else {}), b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + blob


def weights():
    write("safetensors/empty", safetensors({}))
    write("safetensors/types", safetensors({
        "a": ("F32", [2, 3], np.arange(6, dtype="f4").tobytes()), "b.weight": ("BF16", [4], b"\0" * 8),
        "c": ("I64", [], b"\1" * 8), "d": ("U8", [0], b""), "e": ("F16", [1, 1, 2], b"\0" * 4),
        "f": ("BOOL", [3], b"\1\0\1")}, {"format": "pt"}))


def texts():
    write("tokenizer/model", b"\0" + (ROOT / "tests/tokenizers/goldens/small.model").read_bytes())
    write("tokenizer/text", b"\1lift the red cube \xe2\x96\x81 </s> <0x0A>")
    write("tokenizer/utf8", "\1Würfel 箱 🤖".encode() + b"\xff")


def configs():
    write("config/sources", """expert: [{path: demos, limit: 5}, {path: 'a*.hdf5', format: libero, instruction: "lift"}]
interactions:
  - path: x.hdf5
    share: 0.25
filter: {max_abs_action: .inf, min_motion: 1e-3, most: 7}
""")
    write("config/lists", """scale:
  - 0.5 # half
  - -3
layers: &l [1, 2, 3]
cameras: [front, "wrist", '']
cache: off
#--set expert.0.limit=3""")
    write("config/anchors", "x: &a [1, 2, *a]\n<<: *a\n")
    write("config/bad", "expert: {path: [}\n\t- x\n")


def episode(name, fill):
    path = OUT / "episode" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", libver="latest" if name.endswith("new") else "earliest") as file:
        fill(file)


def ours(file, **pack):
    demo = file.create_group("data/demo_0")
    file["data"].attrs["apo_schema_version"] = 1
    demo.attrs["num_samples"] = 2
    demo.attrs["task_description"] = "lift"
    demo["actions"] = np.full((2, 2), 0.5, "f4")
    demo["action_source"] = np.array([1, 2], "i1")
    demo["desirable"] = np.array([-1, 1], "i1")
    demo.create_dataset("obs/front_image", data=np.arange(24, dtype="u1").reshape(2, 2, 2, 3), chunks=(1, 2, 2, 3), **pack)
    demo["obs/joints"] = np.zeros((2, 1))


def sirius(file):
    demo = file.create_group("data/demo_0")
    demo["actions"] = np.zeros((2, 2))
    demo["action_modes"] = np.array([0.0, 1.0])
    demo["obs/joints"] = np.zeros((3, 1))


def interaction(file):
    file["data/task_description"] = "wipe_it"
    for t in range(2):
        step = file.create_group(f"data/timestep_{t}")
        step["action"] = np.full(2, 0.5)
        step["third_obs"] = np.zeros((1, 1, 3), "u1")
        step["is_human"] = t + 1


def demonstration(file):
    step = file.create_group("demo_0/timestep_0")
    step["action"] = np.full(2, 0.5)
    step["third_obs"] = np.zeros((1, 1, 3), "u1")


def main():
    weights()
    texts()
    configs()
    episode("ours", ours)
    episode("ours_new", ours)
    episode("ours_gzip", lambda file: ours(file, compression="gzip", shuffle=True, fletcher32=True))
    episode("sirius", sirius)
    episode("interaction", interaction)
    episode("demonstration_new", demonstration)


if __name__ == "__main__":
    main()
