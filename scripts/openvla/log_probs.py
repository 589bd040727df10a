#!/usr/bin/env python3
"""Log-probabilities of recorded actions under an OpenVLA, computed in Python: to compare with `apo-eval --dataset`.

    python scripts/openvla/log_probs.py CHECKPOINT [--adapter DIR] DATASET.hdf5 [--limit N] > scores.jsonl

One JSON line a step: episode, timestep, log_prob, token_log_probs, target_tokens; of an OpenVLA-OFT that the programs wrote
(member "apo" of config.json beside the adapter or the weights) also decoded_tokens. DATASET is in the project's layout
(data/demo_N with actions, obs/<camera>_image, attribute task_description). Everything as the programs do it: prompt in
lower case with spaces for underscores, actions normalised by the statistics (beside the adapter, else beside the checkpoint,
else in config.json), pictures resized by PIL.

Needs: pip install torch transformers timm peft sentencepiece safetensors pillow numpy h5py.
"""
import argparse
import json
import pathlib
import sys

import h5py
import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import openvla  # noqa: E402
import openvla_oft  # noqa: E402


def add_options(parser):
    """The options that say which policy scores how; shared with check_export.py."""
    parser.add_argument("checkpoint", type=pathlib.Path, help="Hugging Face directory")
    parser.add_argument("--adapter", type=pathlib.Path, help="PEFT directory")
    parser.add_argument("--unnorm-key", help="entry of the statistics; may be left out where there is one")
    parser.add_argument("--statistics", type=pathlib.Path, help="action statistics in place of the checkpoint's")
    parser.add_argument("--camera", help="camera of the data; may be left out where there is one")
    parser.add_argument("--center-crop", action="store_true", help="evaluation crop (policy.openvla.center_crop)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limit", type=int, default=0, help="first so many steps; 0: all")


def find_statistics(options, checkpoint):
    places = [options.statistics] if options.statistics else []
    if options.adapter:
        places += [options.adapter / "dataset_statistics.json", options.adapter / "statistic.json"]
    places += [options.checkpoint / "dataset_statistics.json", options.checkpoint / "statistic.json"]
    for path in places:
        if path.exists() or path == options.statistics:
            return openvla.read_json(path)
    return checkpoint.config["norm_stats"]


def load_policy(options):
    """-> the checkpoint with the statistics of the options, and the policy: its model, or that with the adapter."""
    checkpoint = openvla.load(options.checkpoint, getattr(torch, options.dtype))
    checkpoint.statistics = find_statistics(options, checkpoint)
    policy = checkpoint.model
    if options.adapter:
        import peft
        policy = peft.PeftModel.from_pretrained(policy, str(options.adapter))
    return checkpoint, policy.eval().to(options.device)


def scorer_of(checkpoint, policy, options):
    """-> what scores steps and yields them, of an OpenVLA-OFT or of a plain OpenVLA."""
    oft = openvla_oft.Settings.of(options.adapter, options.checkpoint)
    if not oft:
        return (lambda: recorded_steps(options.dataset, options.camera),
                lambda steps: score(checkpoint, policy, steps, options))
    key = options.unnorm_key or next(iter(checkpoint.statistics))
    scorer = openvla_oft.Scorer(checkpoint, oft, checkpoint.statistics[key], policy, options.center_crop)
    return lambda: recorded_chunks(options.dataset, oft), lambda steps: score_chunks(scorer, steps)


def recorded_chunks(path, oft):
    """As recorded_steps, with lists of pictures and of the chunk's actions, and the state."""
    with h5py.File(path) as file:
        data = file["data"]
        for name in sorted((n for n in data if n.startswith("demo_")), key=lambda n: int(n[5:])):
            demo = data[name]
            cameras = oft.cameras or [n.rsplit("_", 1)[0] for n in demo["obs"] if n.endswith(("_image", "_rgb"))]
            pictures = [demo["obs"][camera + "_image"] for camera in cameras]
            states = [demo["obs"][key][:] for key in oft.state_keys]
            instruction = demo.attrs.get("task_description", data.attrs.get("task_description", ""))
            instruction = instruction.decode() if isinstance(instruction, bytes) else str(instruction)
            actions = demo["actions"][:]
            sources = demo["action_source"][:] if "action_source" in demo else np.zeros(len(actions), int)
            for t in np.flatnonzero(sources >= 0):
                state = np.concatenate([s[t] for s in states]) if states else None
                yield (name, int(t), instruction, [p[t] for p in pictures],
                       openvla_oft.chunk(actions, sources, t, oft.chunk_steps), state)


@torch.no_grad()
def score_chunks(scorer, steps):
    logits = scorer.logits([s[2] for s in steps], [s[3] for s in steps], [s[5] for s in steps])
    log_probs, decoded = scorer.log_probs(logits).double().cpu(), scorer.decode(logits)[0].tolist()
    lines = []
    for i, step in enumerate(steps):
        targets = scorer.target_ids(step[4])
        values = log_probs[i, :len(targets)].gather(-1, torch.from_numpy(targets)[:, None])[:, 0]
        lines.append({"episode": step[0], "timestep": step[1], "log_prob": values.sum().item(),
                      "token_log_probs": values.tolist(), "target_tokens": targets.tolist(), "decoded_tokens": decoded[i]})
    return lines


def recorded_steps(path, camera=None):
    """Yields (episode, timestep, instruction, picture, action) of every recorded step, episodes in natural order."""
    with h5py.File(path) as file:
        data = file["data"]
        for name in sorted((n for n in data if n.startswith("demo_")), key=lambda n: int(n[5:])):
            demo = data[name]
            cameras = [n for n in demo["obs"] if n.endswith(("_image", "_rgb"))]
            if camera:
                cameras = [n for n in cameras if n.rsplit("_", 1)[0] == camera]
            if len(cameras) != 1:
                raise SystemExit(f"{path}: data/{name}/obs: expected one camera, found {cameras}; choose with --camera")
            instruction = demo.attrs.get("task_description", data.attrs.get("task_description", ""))
            instruction = instruction.decode() if isinstance(instruction, bytes) else str(instruction)
            sources = demo["action_source"][:] if "action_source" in demo else np.zeros(len(demo["actions"]), int)
            for t in np.flatnonzero(sources >= 0):
                yield name, int(t), instruction, demo["obs"][cameras[0]][t], demo["actions"][t]


def normalized(action, statistics):
    """As the programs do it: quantiles where the mask says so, everything clipped, float32."""
    return np.clip(openvla.normalize(action, statistics), -1, 1).astype(np.float32)


@torch.no_grad()
def score(checkpoint, policy, steps, options):
    """`steps` as from recorded_steps -> one dictionary a step."""
    tokenizer, statistics = checkpoint.tokenizer, checkpoint.action_statistics(options.unnorm_key)
    pictures = [openvla.center_crop(s[3], checkpoint.preprocess.size)
                if options.center_crop else s[3] for s in steps]
    prompts = [tokenizer.prompt_ids(s[2], lower=True) for s in steps]
    answers = [[*tokenizer.action_ids(normalized(s[4], statistics)).tolist(), tokenizer.end] for s in steps]
    ids, mask, labels = (x.to(options.device) for x in openvla.sequences(prompts, answers, tokenizer.pad))
    pixels = checkpoint.preprocess(pictures).to(options.device, getattr(torch, options.dtype))
    logits = policy(pixel_values=pixels, input_ids=ids, attention_mask=mask)
    values = openvla.token_log_probs(logits, labels).double().cpu()
    return [{"episode": s[0], "timestep": s[1], "log_prob": v.sum().item(), "token_log_probs": v.tolist(),
             "target_tokens": a} for s, v, a in zip(steps, values, answers)]


def score_all(checkpoint, policy, options, wanted=lambda step: True):
    """One dictionary for each recorded step that is wanted, batch by batch."""
    batch = []
    recorded, score_batch = scorer_of(checkpoint, policy, options)
    for i, step in enumerate(filter(wanted, recorded())):
        if options.limit and i >= options.limit:
            break
        batch.append(step)
        if len(batch) == options.batch:
            yield from score_batch(batch)
            batch = []
    if batch:
        yield from score_batch(batch)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("dataset", type=pathlib.Path, help="recorded episodes (HDF5)")
    options = parser.parse_args()
    checkpoint, policy = load_policy(options)
    for line in score_all(checkpoint, policy, options):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
