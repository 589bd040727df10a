#!/usr/bin/env python3
"""Compares what `apo-eval --dataset` wrote for a pi0-FAST with the same numbers computed in Python.

    python scripts/pi0_fast/check_export.py SCORES.jsonl CHECKPOINT [--adapter DIR] DATASET.hdf5 \\
        --cameras agentview "" wrist --state-keys eef_pos joints [--limit N]

Prints the largest difference of log-probabilities, and how many answers and actions differ; exit code 1 beyond --tolerance.
DATASET is in the project's layout. The adapter's A and B are multiplied out by their names, as peft does.

Needs what pi0_fast.py needs, and h5py.
"""
import argparse
import json
import pathlib
import sys

import h5py
import numpy as np
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import pi0_fast  # noqa: E402


def load(checkpoint, adapter):
    weights = pi0_fast.read_weights(checkpoint)
    if adapter:
        config = json.loads((adapter / "adapter_config.json").read_text())
        tensors = load_file(adapter / "adapter_model.safetensors")
        for name in [n for n in tensors if n.endswith("lora_A.weight")]:
            layer = pi0_fast.canonical(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight") + ".weight")
            product = tensors[name.replace("lora_A", "lora_B")].float() @ tensors[name].float()
            weights[layer] = weights[layer] + config["lora_alpha"] / config["r"] * product
    return pi0_fast.Policy(checkpoint, pi0_fast.build(weights))


def chunk(actions, source, t, horizon):
    """The recorded actions from t on while the same one acts, the last one repeated."""
    end = t
    while end < len(actions) and end < t + horizon and source[end] == source[t]:
        end += 1
    return np.concatenate([actions[t:end], np.repeat(actions[end - 1:end], t + horizon - end, axis=0)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=pathlib.Path)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("dataset", type=pathlib.Path)
    parser.add_argument("--adapter", type=pathlib.Path)
    parser.add_argument("--cameras", nargs="+", required=True, help='one a slot, "" where there is none')
    parser.add_argument("--state-keys", nargs="+", required=True)
    parser.add_argument("--pad-state-to", type=int, default=0)
    parser.add_argument("--limit", type=int, default=0, help="first so many lines; 0: all")
    parser.add_argument("--tolerance", type=float, default=5e-4, help="of a token's log-probability")
    options = parser.parse_args()
    policy = load(options.checkpoint, options.adapter)
    worst, ids_differ, actions_differ, count = 0.0, 0, 0, 0
    with h5py.File(options.dataset) as file:
        for line in map(json.loads, options.scores.read_text().splitlines()):
            if options.limit and count == options.limit:
                break
            demo, t = file["data"][line["episode"]], line["timestep"]
            source = demo["action_source"][()] if "action_source" in demo else np.zeros(len(demo["actions"]))
            state = np.concatenate([demo["obs"][key][t] for key in options.state_keys]).astype(np.float32)
            images = [demo["obs"][f"{c}_image"][t] if c else None for c in options.cameras]
            prompt = policy.prompt(demo.attrs["task_description"], state, options.pad_state_to)
            answer = policy.answer(chunk(demo["actions"][()], source, t, policy.horizon), state, prompt)
            with torch.no_grad():
                scores = policy.score(images, prompt, answer).numpy()
            ids_differ += answer != line["target_tokens"]
            if answer == line["target_tokens"]:
                worst = max(worst, float(np.abs(scores - line["token_log_probs"]).max()))
            predicted = policy.actions(line["predicted_tokens"], state)
            actions_differ += float(np.abs(predicted - line["predicted_action"]).max()) > 2e-4 * (1 + np.abs(predicted).max())
            count += 1
    print(f"{count} steps: largest difference of a token's log-probability {worst:.2e}; answers that differ {ids_differ}, "
          f"predicted actions that differ {actions_differ}")
    return int(worst > options.tolerance or ids_differ > 0 or actions_differ > 0 or count == 0)


if __name__ == "__main__":
    sys.exit(main())
