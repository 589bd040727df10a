#!/usr/bin/env python3
"""Compares scores that `apo-eval --dataset` wrote with what Python computes for the same steps.

    apo-eval --config FILE --dataset DATASET.hdf5 --output scores.jsonl
    python scripts/openvla/check_export.py scores.jsonl CHECKPOINT [--adapter DIR] DATASET.hdf5

CHECKPOINT and DIR may be what the programs saved or exported: so the check covers loading by transformers, timm and peft.
Prints the largest difference of a token's and of a step's log-probability; exits 1 where a token differs by more than
--tolerance, where target tokens (of an OpenVLA-OFT also decoded ones, with eval.decode) differ, or where a step is missing. The default fits float32; bfloat16 needs about 0.1.

Needs: what log_probs.py needs.
"""
import argparse
import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import log_probs  # noqa: E402


def difference(theirs, ours, key):
    value = np.max(np.abs(np.asarray(theirs[key], float) - np.asarray(ours[key], float)))
    return float("inf") if np.isnan(value) else float(value)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=pathlib.Path, help="what apo-eval wrote")
    log_probs.add_options(parser)
    parser.add_argument("dataset", type=pathlib.Path, help="the recorded episodes (HDF5)")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="largest difference of a token's log-probability")
    options = parser.parse_args()
    scores = {}
    for line in options.scores.read_text().splitlines():
        step = json.loads(line)
        if pathlib.Path(step["file"]).name == options.dataset.name:
            scores[str(step["episode"]), step["timestep"]] = step
    if not scores:
        raise SystemExit(f"{options.scores}: no step of {options.dataset.name}")
    checkpoint, policy = log_probs.load_policy(options)
    worst_token, worst_step, other_targets, other_decisions, compared = (0.0, ""), (0.0, ""), [], [], 0
    for ours in log_probs.score_all(checkpoint, policy, options, lambda step: (step[0], step[1]) in scores):
        name = f"{ours['episode']} step {ours['timestep']}"
        theirs = scores[ours["episode"], ours["timestep"]]
        compared += 1
        if theirs["target_tokens"] != ours["target_tokens"]:
            other_targets.append(name)
            continue
        if "decoded_tokens" in theirs and theirs["decoded_tokens"] != ours.get("decoded_tokens", theirs["decoded_tokens"]):
            other_decisions.append(name)
        worst_token = max(worst_token, (difference(theirs, ours, "token_log_probs"), name))
        worst_step = max(worst_step, (difference(theirs, ours, "log_prob"), name))
    expected = min(len(scores), options.limit or len(scores))
    print(f"{compared} steps; largest difference: token {worst_token[0]:.3g} ({worst_token[1]}), "
          f"step {worst_step[0]:.3g} ({worst_step[1]})")
    if other_targets:
        print(f"{len(other_targets)} steps have other target tokens, first {other_targets[0]}")
    if other_decisions:
        print(f"{len(other_decisions)} steps are decided otherwise, first {other_decisions[0]}")
    if compared < expected:
        print(f"{expected - compared} steps of {options.scores} are not in {options.dataset}")
    sys.exit(1 if worst_token[0] > options.tolerance or other_targets or other_decisions or compared < expected else 0)


if __name__ == "__main__":
    main()
