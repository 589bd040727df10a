#!/usr/bin/env python3
"""What goes into an OpenVLA, as Python makes it: picture geometry and token ids.

Writes
  tests/pictures/goldens/geometry.json  Pillow through torchvision's transforms; the evaluation crop in numpy, which is
                                        equal bit by bit to tf.image.crop_and_resize of TensorFlow 2.15 (--tensorflow
                                        checks that where it is installed)
  tests/tokenizers/goldens/small.model  a synthetic SentencePiece model with Llama-2's options, trained on the
                                        sentences below
  tests/tokenizers/goldens/text.json    its ids for a few texts
  tests/tokenizers/goldens/bins.json    OpenVLA's action ids with numpy

Needs: pip install numpy pillow==11.3.0 torchvision==0.26.0 sentencepiece==0.2.1
"""
import io
import json
import pathlib
import sys

import numpy as np
import sentencepiece
import torchvision.transforms.functional as F
from PIL import Image

TESTS = pathlib.Path(__file__).resolve().parents[2] / "tests"
VERBS = "pick up|put down|push|pull|open|close|lift|turn|place|move|stack|make|pour|wipe|hang".split("|")
THINGS = "the red cube|the green ball|the coffee|the mug|the drawer|the square nut|the round nut|a bowl|the plate".split("|")
PLACES = "on the table|in the box|beside the mug|on the peg|into the basket|to the left|to the right|at the back".split("|")
TEXTS = [
    "",
    " ",
    "pick up the red cube",
    "pick_up_the_red_cube",
    "  two  spaces  ",
    "In: What action should the robot take to make coffee?\nOut:",
    "In: What action should the robot take to make coffee?\nOut: ",
    "naïve café ✓ 立方体 \U0001f916",
    "<s> is text, </s> too",
    "UPPER lower 0123456789",
    "tab\tand\r\nline",
]


def picture(height, width):
    """The same formula as in tests/pictures/geometry_test.cpp."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((37 * y + 59 * x + 101 * c + 7 * y * x) % 256).astype(np.uint8)


def geometry(height, width, size, strategy, fill):
    image = Image.fromarray(picture(height, width))
    if strategy == "letterbox":
        side = max(image.size)
        left, top = int((side - image.size[0]) / 2), int((side - image.size[1]) / 2)
        image = F.pad(image, (left, top, left, top), fill=fill, padding_mode="constant")
    target = (size, size) if strategy == "resize-naive" else size
    image = F.resize(image, target, interpolation=F.InterpolationMode.BICUBIC, max_size=None, antialias=True)
    return np.asarray(F.center_crop(image, (size, size)))


def center_crop(image, share, height, width):
    f = np.float32

    def places(size, to):
        side = np.sqrt(f(share))
        begin = (f(1) - side) / f(2)
        end, last = begin + side, f(size - 1)
        if to == 1:
            place = np.array([f(0.5) * (begin + end) * last], f)
        else:
            place = begin * last + np.arange(to, dtype=f) * ((end - begin) * last / f(to - 1))
        place = np.clip(place, f(0), last)
        low = np.floor(place).astype(int)
        return low, np.ceil(place).astype(int), place - np.floor(place)

    light = image.astype(f) * f(1 / 255)
    (y0, y1, fy), (x0, x1, fx) = places(image.shape[0], height), places(image.shape[1], width)
    fy, fx = fy[:, None, None], fx[None, :, None]
    top = light[y0][:, x0] + (light[y0][:, x1] - light[y0][:, x0]) * fx
    bottom = light[y1][:, x0] + (light[y1][:, x1] - light[y1][:, x0]) * fx
    value = np.clip(top + (bottom - top) * fy, f(0), f(1))
    return np.minimum(value * f(255.5), f(255)).astype(np.uint8)


def compare_with_tensorflow():
    import tensorflow as tf

    for height, width, to_height, to_width, share in CROPS + [(256, 256, 224, 224, 0.9), (480, 640, 224, 224, 0.9)]:
        image = tf.image.convert_image_dtype(tf.convert_to_tensor(picture(height, width)), tf.float32)[None]
        side = tf.reshape(tf.clip_by_value(tf.sqrt(share), 0, 1), (1,))
        begin = (1 - side) / 2
        box = tf.stack([begin, begin, begin + side, begin + side], axis=1)
        crop = tf.clip_by_value(tf.image.crop_and_resize(image, box, tf.range(1), (to_height, to_width))[0], 0, 1)
        theirs = tf.image.convert_image_dtype(crop, tf.uint8, saturate=True).numpy()
        ours = center_crop(picture(height, width), share, to_height, to_width)
        assert (theirs == ours).all(), (height, width, to_height, to_width, share)


CROPS = [(32, 32, 28, 28, 0.9), (24, 31, 28, 28, 0.9), (17, 23, 9, 12, 0.5), (9, 7, 1, 1, 0.5), (3, 1, 5, 4, 0.9)]


def pictures():
    golden = {"resize": [], "crop": []}
    for strategy in ("letterbox", "resize-naive", "resize-crop"):
        for height, width, size in ((15, 22, 14), (22, 15, 14), (12, 12, 14), (14, 14, 14), (10, 13, 16), (31, 9, 8), (16, 21, 16)):
            fill = (123, 116, 103)
            pixels = geometry(height, width, size, strategy, fill).ravel().tolist()
            golden["resize"].append(
                {"strategy": strategy, "from": [height, width], "size": size, "fill": fill, "pixels": pixels})
    for height, width, to_height, to_width, share in CROPS:
        pixels = center_crop(picture(height, width), share, to_height, to_width).ravel().tolist()
        golden["crop"].append(
            {"from": [height, width], "to": [to_height, to_width], "share": share, "pixels": pixels})
    (TESTS / "pictures/goldens/geometry.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


def tokens():
    out = TESTS / "tokenizers/goldens"
    out.mkdir(parents=True, exist_ok=True)
    sentences = [f"{verb} {thing} {place}" for verb in VERBS for thing in THINGS for place in PLACES]
    sentences += [f"In: What action should the robot take to {s}?" for s in sentences[::7]] + ["Out: now", "Out: then"] * 40
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, vocab_size=420, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=True, split_digits=True,
        allow_whitespace_only_pieces=True, character_coverage=1.0, num_threads=1, minloglevel=2)
    (out / "small.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    golden = {
        "size": len(processor), "bos": processor.bos_id(), "eos": processor.eos_id(), "unknown": processor.unk_id(),
        "space": processor.piece_to_id("\u2581"),
        "texts": [{"text": t, "ids": processor.encode(t), "decoded": processor.decode(processor.encode(t))} for t in TEXTS],
    }
    (out / "text.json").write_text(json.dumps(golden, indent=1) + "\n")


def bins():
    """Every edge of the bins, as double and as float32, and what lies just beside and between."""
    edges = np.linspace(-1, 1, 256)
    golden = {"centers": ((edges[:-1] + edges[1:]) / 2).tolist()}
    for name, type_ in (("float64", np.float64), ("float32", np.float32)):
        near = edges.astype(type_)
        actions = np.concatenate([near, np.nextafter(near, type_(-2)), np.nextafter(near, type_(2))])[::3]
        ids = 32000 - np.digitize(np.clip(actions, -1, 1), edges)
        golden[name] = {"actions": actions.astype(np.float64).tolist(), "ids": ids.tolist()}
    (TESTS / "tokenizers/goldens/bins.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    if "--tensorflow" in sys.argv:
        compare_with_tensorflow()
    pictures()
    tokens()
    bins()
