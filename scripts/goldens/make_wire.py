#!/usr/bin/env python3
"""Writes tests/wire/goldens/wire.json: what openpi's client and json-numpy make of the values that
tests/wire/goldens_test.cpp builds, too.

Needs: pip install 'numpy<2' msgpack==1.2.4 json-numpy==2.1.1 && pip install --no-deps openpi-client==0.1.2
"""
import base64
import json
import pathlib

import json_numpy
import msgpack
import numpy as np
from openpi_client import msgpack_numpy

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/wire/goldens/wire.json"
plain_dumps = json.dumps

DTYPES = ["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"]


def numbers(dtype):
    """[2, 3], whole numbers that every dtype has."""
    return (np.arange(6) % 2 if dtype == "|b1" else 9 * np.arange(6)).astype(dtype).reshape(2, 3)


# what is written must be these bytes, and what is read from them these values
VALUES = {
    "observation": {"observation/image": np.arange(12, dtype="u1").reshape(2, 2, 3),
                    "observation/state": np.arange(8, dtype="f4") / 8,
                    "prompt": "lift the cube"},
    "answer": {"actions": np.arange(14, dtype="f4").reshape(2, 7) / 4, "policy_timing": {"infer_ms": 12.5},
               "server_timing": {"infer_ms": 13.25, "prev_total_ms": 0.1}},
    "cameras": {"images": {"cam_high": np.arange(12, dtype="u1").reshape(3, 2, 2)}, "z": [], "a": {}},
    "integers": [0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1,
                 -1, -32, -33, -128, -129, -32768, -32769, -2**31, -2**31 - 1, -2**63],
    "others": [None, True, False, 0.0, -1.5, 1e300, 3.0],
    "texts": ["", "x" * 31, "x" * 32, "x" * 255, "x" * 256, "W\u00fcrfel \u7bb1 \U0001f916", "\"\\/\n\t\x01\x7f"],
    "lists": [list(range(15)), list(range(16))],
    "maps": [{f"k{i}": i for i in range(15)}, {f"k{i}": i for i in range(16)}],
    "dtypes": {dtype: numbers(dtype) for dtype in DTYPES},
    "shapes": [np.array(2.5), np.zeros((0, 7)), np.array([7], "i4"), np.zeros((1, 2, 1, 1, 1), "i1")],
    "action": np.arange(7) / 10,
    "chunk": [np.arange(7) / 10, np.ones(7)],
}
# only in msgpack
BYTES = {"bytes": [b"", b"\0\xff", b"x" * 255, b"x" * 256]}
# only read; C++ says what they come to
LENIENT = {
    "scalars": [np.float32(0.5), np.float64(0.5), np.int64(-7), np.uint64(2**64 - 1), np.uint8(200), np.bool_(True),
                np.str_("lift")],
    "text arrays": [np.array("lift"), np.array(["W\u00fcrfel \U0001f916"]), np.array([["lift"]], ">U9"), np.array(""),
                    np.array(b"lift"), np.array([b"li"], "S4")],
    "big-endian": [np.array([1.5, -2], ">f8"), np.array([[1, 258]], ">i2"), np.array(3, ">u4")],
    "not contiguous": np.arange(6, dtype="u1").reshape(2, 3).T,
    "tuple": (1, 2),
}


def text(raw):
    return base64.b64encode(raw).decode()


def main():
    out = {"msgpack": {}, "json": {}, "python": {}, "encoded": {}, "lenient msgpack": {}, "lenient json": {}}
    for name, value in (VALUES | BYTES).items():
        out["msgpack"][name] = text(msgpack_numpy.packb(value))
    for name, value in LENIENT.items():
        out["lenient msgpack"][name] = text(msgpack_numpy.packb(value))
        out["lenient json"][name] = json_numpy.dumps(value) if name != "text arrays" else json_numpy.dumps(value[:4])
    out["lenient msgpack"]["single float"] = text(msgpack.packb([0.5, 0.1], use_single_float=True))
    out["lenient msgpack"]["text keys"] = text(msgpack.packb(
        {"shape": [2], "data": b"\1\2", "extra": None, "__ndarray__": True, "dtype": "|u1"}))
    for name, value in VALUES.items():
        # as starlette's JSONResponse renders, with json_numpy.patch() in force
        out["json"][name] = json_numpy.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        out["python"][name] = json_numpy.dumps(value)
        out["encoded"][name] = json_numpy.dumps(json_numpy.dumps(value), ensure_ascii=False, separators=(",", ":"))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(plain_dumps(out, indent=1) + "\n")


main()
