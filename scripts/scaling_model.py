#!/usr/bin/env python3
"""What a training step on several GPUs should cost, on paper: a table for docs/distributed.md.

    scripts/scaling_model.py [docs/gpu/h100_3.json]

The step on one GPU is the measured one of scripts/gpu_check.sh (item openvla); the rest are the assumptions below.
"""
import json
import math
import os
import sys

SAMPLES = 8               # a GPU and step
PARAMETERS = 110_828_288  # trained: LoRA of rank 32 on all linear layers of OpenVLA 7B
BYTES = 4                 # of a gradient, float32
PCIE = 25e9               # bytes/s between GPU and host
PACKING = 2e12            # bytes/s of a copy on the card
BUCKET = 128 << 20        # bytes summed at once
MESSAGE = 20e-6           # s a message
SMALL = 8                 # sums of few numbers a step, by Gloo with either backend
# backend, GPUs -> bytes/s a rank and way: memory of one machine; NVLink; 100 Gbit/s each between machines
LINKS = {"gloo": {8: 25e9, 64: 12.5e9, 512: 12.5e9}, "nccl": {8: 300e9, 64: 12.5e9, 512: 12.5e9}}
WEIGHTS, TOKENS, PASSES = 7_541_237_184, 286, 3  # reference, policy, and backward through frozen weights

file = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "../docs/gpu/h100_3.json")
with open(file) as opened:
    items = json.load(opened)["items"]
openvla = next(item for item in items if "shifted_labels" in item.get("numbers", {}).get("train", {}))
step = SAMPLES / openvla["numbers"]["train"]["mismatched"]["samples_per_second"]
gradient = PARAMETERS * BYTES
print(f"step of one GPU {step:.3f} s; gradients {gradient / 1e6:.0f} MB a step; "
      f"products {PASSES * 2 * WEIGHTS * TOKENS * SAMPLES / 1e12:.0f} TFLOP a GPU and step\n")
print("| `distributed.backend` | GPUs | copies | sum | small sums | step | samples/s | of linear |")
print("| --- " * 8 + "|")
for backend, links in LINKS.items():
    for gpus, link in links.items():
        packed = 4 * gradient / PACKING  # read and written, into buckets and back
        copies = packed + (2 * gradient / PCIE if backend == "gloo" else 0)
        # one after the other: a ring has as many messages as ranks, each way; NCCL's trees their logarithm
        messages = 2 * (gpus - 1 if backend == "gloo" else math.ceil(math.log2(gpus)))
        sums = 2 * (gpus - 1) / gpus * gradient / link + -(-gradient // BUCKET) * messages * MESSAGE
        small = SMALL * 2 * (gpus - 1) * MESSAGE
        whole = step + copies + sums + small
        print(f"| {backend} | {gpus} | {copies * 1e3:.0f} ms | {sums * 1e3:.0f} ms | {small * 1e3:.0f} ms | {whole * 1e3:.0f} ms | "
              f"{gpus * SAMPLES / whole:.0f} | {100 * step / whole:.0f} % |")
