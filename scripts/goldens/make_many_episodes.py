#!/usr/bin/env python3
"""Writes a robomimic file of very many tiny episodes, for measuring that tools stay fast and small on it.

    make_many_episodes.py many.hdf5 [--episodes 100000] [--steps 4]

Needs: pip install h5py numpy
"""
import argparse

import h5py
import numpy as np


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output")
    parser.add_argument("--episodes", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    steps = arguments.steps
    random = np.random.default_rng(0)
    with h5py.File(arguments.output, "w") as file:
        data = file.create_group("data")
        for i in range(arguments.episodes):
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = steps
            demo["actions"] = random.uniform(-0.6, 0.6, (steps, 7)).astype(np.float32)
            demo["obs/agentview_image"] = random.integers(0, 256, (steps, 8, 8, 3), np.uint8)
            demo["obs/robot0_eef_pos"] = np.zeros((steps, 3), np.float32)
        data.attrs["total"] = arguments.episodes * steps


if __name__ == "__main__":
    main()
