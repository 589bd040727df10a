#!/usr/bin/env python3
"""Writes tests/data/goldens/pictures.json: what Pillow and torchvision make of one small picture.

Needs: pip install numpy pillow==11.3.0 torch==2.11.0 torchvision==0.26.0
"""
import json
import pathlib

import numpy as np
import torch
import torchvision.transforms.functional as F
from PIL import Image

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/data/goldens/pictures.json"


def picture(height, width):
    """The same formula as in tests/data/transforms_test.cpp."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((37 * y + 59 * x + 101 * c + 7 * y * x) % 256).astype(np.uint8)


def resized(height, width, new_height, new_width, how):
    image = Image.fromarray(picture(height, width))
    return np.asarray(image.resize((new_width, new_height), how)).ravel().tolist()


def adjusted(function, factor):
    image = torch.from_numpy(picture(6, 7)).permute(2, 0, 1)
    return function(image, factor).permute(1, 2, 0).flatten().tolist()


def main():
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
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
