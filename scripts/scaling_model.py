#!/usr/bin/env python3
"""What a training step on several GPUs should cost, on paper: a table for docs/distributed.md.

    scripts/scaling_model.py [docs/gpu/h100_3.json]

The step on one GPU is the measured one of scripts/gpu_check.sh (item openvla); the rest are the assumptions below.
"""
import json
import os
import sys

SAMPLES = 8               # a GPU and step
PARAMETERS = 110_828_288  # trained: LoRA of rank 32 on all linear layers of OpenVLA 7B
BYTES = 4                 # of a gradient, float32
PCIE = 25e9               # bytes/s between GPU and host
BUCKET = 32 << 20         # bytes summed at once
MESSAGE = 20e-6           # s a message of the ring
LINKS = {8: 25e9, 64: 12.5e9, 512: 12.5e9}  # GPUs -> bytes/s a rank: memory of one machine; 100 Gbit/s each
WEIGHTS, TOKENS, PASSES = 7_541_237_184, 286, 3  # reference, policy, and backward through frozen weights

file = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "../docs/gpu/h100_3.json")
with open(file) as opened:
    items = json.load(opened)["items"]
openvla = next(item for item in items if "shifted_labels" in item.get("numbers", {}).get("train", {}))
step = SAMPLES / openvla["numbers"]["train"]["mismatched"]["samples_per_second"]
gradient = PARAMETERS * BYTES
print(f"step of one GPU {step:.3f} s; gradients {gradient / 1e6:.0f} MB a step; "
      f"products {PASSES * 2 * WEIGHTS * TOKENS * SAMPLES / 1e12:.0f} TFLOP a GPU and step\n")
print("| GPUs | copies to the host and back | sum | step | samples/s | of linear |\n| --- | --- | --- | --- | --- | --- |")
for gpus, link in LINKS.items():
    copies = 2 * gradient / PCIE
    ring = 2 * (gpus - 1) / gpus * gradient / link + -(-gradient // BUCKET) * 2 * (gpus - 1) * MESSAGE
    whole = step + copies + ring
    print(f"| {gpus} | {copies * 1e3:.0f} ms | {ring * 1e3:.0f} ms | {whole * 1e3:.0f} ms | "
          f"{gpus * SAMPLES / whole:.0f} | {100 * step / whole:.0f} % |")
