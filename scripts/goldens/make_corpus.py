#!/usr/bin/env python3
"""Writes tests/fuzz/corpus: small inputs of every kind for the fuzzers to start from.

Needs: pip install numpy
"""
import base64
import json
import pathlib
import struct

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/fuzz/corpus"


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


def episodes():
    """Bytes of tests/fuzz/episode_fuzz.cpp: the layout first, then rarely a departure from it."""
    rng = np.random.default_rng(0)
    for layout, name in enumerate(["ours", "robomimic", "sirius", "interaction", "demonstration", "mixed"]):
        write(f"episode/{name}", bytes([layout]))
        departs = rng.random(600) < 0.1
        write(f"episode/{name}_departing", bytes([layout]) + (rng.integers(0, 256, 600) * departs).astype("u1").tobytes())


def messages():
    """Bytes of tests/fuzz/wire_fuzz.cpp: the encoding first, then the message."""
    goldens = json.loads((ROOT / "tests/wire/goldens/wire.json").read_text())
    for group in ("msgpack", "lenient msgpack"):
        for name, text in goldens[group].items():
            write(f"wire/msgpack_{name.replace(' ', '_')}", b"\0" + base64.b64decode(text))
    for group in ("json", "lenient json"):
        for name, text in goldens[group].items():
            write(f"wire/json_{name.replace(' ', '_')}", "\1" + text)
    write("wire/json_encoded", "\1" + json.dumps({"encoded": goldens["python"]["action"]}))
    write("wire/msgpack_nested", b"\x90\1")
    write("wire/json_nested", b"\x91" + b"1")


def main():
    weights()
    texts()
    configs()
    episodes()
    messages()


if __name__ == "__main__":
    main()
