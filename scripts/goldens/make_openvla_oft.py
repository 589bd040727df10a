#!/usr/bin/env python3
"""Makes the fixtures of tests/models/goldens/openvla_oft: OpenVLA-OFT with discrete tokens, by transformers, timm and peft.

    python scripts/goldens/make_openvla_oft.py           after make_openvla.py, whose checkpoints it takes
    python scripts/goldens/make_openvla_oft.py check     compares the numbers with what is installed

Needs: pip install torch transformers timm peft sentencepiece safetensors pillow numpy. Made with torch 2.11, transformers
5.5.4, timm 1.0.31, peft 0.21.2.

The weights are those of goldens/openvla/VARIANT/checkpoint with q_proj and k_proj doubled: attention that is nearly
uniform gives nearly the same logits at all places and hides an error of order or shift. The test doubles them, too.

VARIANT a: H 4, two pictures (agentview, wrist), a state of 5 numbers through proprio_projector--7_checkpoint.pt (bfloat16,
as training on several GPUs names it), end token behind the places, min..max, scores among the action tokens, Lanczos.
VARIANT b: H 3, one picture, no state, no end token, quantiles, scores of the whole vocabulary, bicubic and letterbox.

VARIANT/dataset_statistics.json   action and proprio of `dataset`
VARIANT/proprio_projector--*.pt   what torch.save makes of a module's state_dict
VARIANT/golden.json               settings, tasks, ids of the prompts, how many steps each chunk has
VARIANT/golden.safetensors, B = 4 samples, T = H A action tokens, V scored columns, of the policy without adapter and (with_adapter.*)
with goldens/openvla/VARIANT/adapter_new:
    CAMERA                        uint8 [B, Y, X, 3] as recorded
    state                         float32 [B, 5], eef_pos 3 and gripper_qpos 2
    actions                       float32 [B, H, A] in the world's units, the last one repeated
    target_ids                    int64 [B, T]
    logits                        [B, T, V]
    token_log_probs               [B, T], 0 where a chunk has no step
    decoded_ids, free_ids         int64 [B, T] greedy among the action tokens, and among all
    decoded_actions               float64 [B, H, A]
    gradient.TENSOR               gradient of -sum(token_log_probs) by an adapter's tensor
tests/pictures/goldens/lanczos.json   pictures as TensorFlow's Lanczos makes them, by its formula
archives/NAME.pt, what torch.save makes: views (of one storage, of every type, a parameter), and what is to be refused:
    program (would run a command), nested, integers, list, legacy (the format of before PyTorch 1.6)
"""
import argparse
import json
import os
import pathlib
import sys

import numpy as np
import peft
import torch
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLAIN = ROOT / "tests" / "models" / "goldens" / "openvla"
GOLDENS = ROOT / "tests" / "models" / "goldens" / "openvla_oft"
sys.path.insert(0, str(ROOT / "scripts" / "openvla"))
import make_checkpoint  # noqa: E402
import openvla  # noqa: E402
import openvla_oft  # noqa: E402

SETTINGS = {
    "a": openvla_oft.Settings(4, True, "bounds", ["agentview", "wrist"], ["eef_pos", "gripper_qpos"], "actions", "lanczos"),
    "b": openvla_oft.Settings(3, False, "quantiles", ["agentview"], [], "vocabulary", "bicubic"),
}
DATASET = {"a": "place_cup", "b": "libero_10_no_noops"}
TASKS = {"a": ["make coffee", "stack_the_red_block_on the green block", "Thread the Needle", "lift"],
         "b": ["open the drawer and take the cup out", "push", "put the square_nut on the peg", "place the café cup"]}
STEPS = {"a": [4, 2, 4, 1], "b": [3, 1, 2, 3]}
SIZES = {"a": [(48, 64), (40, 40)], "b": [(61, 38)]}
STATE = [3, 2]


def statistics(variant):
    generator = torch.Generator().manual_seed(ord(variant))
    entry = make_checkpoint.statistics(generator)
    action = entry["action"]
    if variant == "a":  # one number of the action never changes
        for key in ("min", "max", "q01", "q99", "mean"):
            action[key][4] = 0.25
        action["std"][4] = 0.0
        action["min"][6], action["max"][6] = 0.0, 1.0
    low, high = (-1.5 - torch.rand(5, generator=generator)).tolist(), (1.5 + torch.rand(5, generator=generator)).tolist()
    entry["proprio"] = dict(mean=[0.0] * 5, std=[1.0] * 5, min=low, max=high, q01=[0.8 * x for x in low],
                            q99=[0.8 * x for x in high])
    return {DATASET[variant]: entry}


def write_inputs(variant):
    out = GOLDENS / variant
    out.mkdir(parents=True, exist_ok=True)
    (out / "dataset_statistics.json").write_text(json.dumps(statistics(variant), indent=1) + "\n")
    if SETTINGS[variant].state_keys:
        width = openvla.load(PLAIN / variant / "checkpoint").model.get_input_embeddings().weight.shape[1]
        projector = openvla_oft.StateProjector(sum(STATE), width)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(3)
            for parameter in projector.parameters():
                scale = 1.5 / parameter.shape[-1] ** 0.5 if parameter.dim() == 2 else 0.2
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        state = torch.nn.ModuleDict({"module": projector.bfloat16()}).state_dict()
        torch.save(state, out / "proprio_projector--7_checkpoint.pt")


def sharpened(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "q_proj.weight" in name or "k_proj.weight" in name:
                parameter.mul_(2)
    return model


def batch_of(variant, stats):
    rng = np.random.default_rng(17)
    oft = SETTINGS[variant]
    pictures = []
    for size in SIZES[variant]:
        pictures.append([make_checkpoint.picture(rng, size, rng.uniform(-0.9, 0.9, 2), rng.uniform(-0.9, 0.9, 2))
                         for _ in range(4)])
    action = stats["action"]
    low, high = np.array(action["min"]), np.array(action["max"])
    actions = (low + (high - low) * rng.uniform(-0.1, 1.1, (4, oft.chunk_steps, 7))).astype(np.float32)
    actions[..., 6] = rng.integers(0, 2, actions.shape[:2])
    for i, steps in enumerate(STEPS[variant]):
        actions[i, steps:] = actions[i, steps - 1]
    state = rng.normal(0, 1.2, (4, sum(STATE))).astype(np.float32)
    return pictures, actions, state


def numbers(scorer, variant, pictures, actions, state):
    """Of one policy; differentiable."""
    oft = scorer.oft
    by_sample = [[camera[i] for camera in pictures] for i in range(4)]
    logits = scorer.logits(TASKS[variant], by_sample, state)
    targets = torch.from_numpy(np.stack([scorer.target_ids(a) for a in actions]))
    valid = torch.tensor([[t < 7 * n for t in range(targets.shape[1])] for n in STEPS[variant]])
    log_probs = scorer.log_probs(logits).gather(-1, targets[..., None])[..., 0].where(valid, torch.tensor(0.0))
    ids, decoded = scorer.decode(logits)
    scored = logits if oft.score_among == "vocabulary" else logits[..., openvla_oft.action_columns(scorer.checkpoint.tokenizer)]
    return {"target_ids": targets, "logits": scored, "token_log_probs": log_probs, "decoded_ids": ids,
            "free_ids": scorer.decode(logits, restrict=False)[0], "decoded_actions": torch.from_numpy(decoded)}


def scorer_of(variant, stats, adapter=None):
    checkpoint = openvla.load(PLAIN / variant / "checkpoint")
    sharpened(checkpoint.model)
    model = peft.PeftModel.from_pretrained(checkpoint.model, str(PLAIN / variant / adapter), is_trainable=True).eval() \
        if adapter else None
    projector = projector_of(variant, torch.float32) if SETTINGS[variant].state_keys else None
    return openvla_oft.Scorer(checkpoint, SETTINGS[variant], stats, model, projector=projector)


def projector_of(variant, dtype):
    tensors = torch.load(GOLDENS / variant / "proprio_projector--7_checkpoint.pt", weights_only=True)
    tensors = {name.removeprefix("module."): t.to(dtype) for name, t in tensors.items()}
    projector = openvla_oft.StateProjector(*reversed(tensors["fc1.weight"].shape))
    projector.load_state_dict(tensors)
    return projector.eval().requires_grad_(False)


def golden(variant):
    stats = json.loads((GOLDENS / variant / "dataset_statistics.json").read_text())[DATASET[variant]]
    pictures, actions, state = batch_of(variant, stats)
    oft = SETTINGS[variant]
    out = {camera: torch.from_numpy(np.stack(p)) for camera, p in zip(oft.cameras, pictures)}
    out.update(actions=torch.from_numpy(actions), state=torch.from_numpy(state))
    plain = scorer_of(variant, stats)
    with torch.no_grad():
        out.update(numbers(plain, variant, pictures, actions, state))
    adapted = scorer_of(variant, stats, "adapter_new")
    found = numbers(adapted, variant, pictures, actions, state)
    (-found["token_log_probs"].sum()).backward()
    out.update({f"with_adapter.{name}": found[name].detach() for name in ("token_log_probs", "decoded_ids")})
    for name, parameter in adapted.model.named_parameters():
        if "lora_" in name and parameter.grad is not None and parameter.grad.abs().max() > 0:
            out["gradient." + name.replace(".default.", ".")] = parameter.grad.clone()
    tokenizer = plain.checkpoint.tokenizer
    description = {"dataset": DATASET[variant], "tasks": TASKS[variant], "steps": STEPS[variant],
                   "prompt_ids": [openvla_oft.prompt_ids(tokenizer, task) for task in TASKS[variant]],
                   "state_sizes": STATE if oft.state_keys else [], "settings": vars(oft)}
    return {k: v.contiguous() for k, v in out.items()}, description


def lanczos():
    """Of the picture of make_openvla_inputs.py, by its formula."""
    out = []
    for height, width, size in ((15, 22, 14), (22, 15, 14), (14, 14, 14), (9, 31, 16), (40, 33, 12)):
        y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
        picture = ((37 * y + 59 * x + 101 * c + 7 * y * x) % 256).astype(np.uint8)
        out.append({"from": [height, width], "size": size,
                    "pixels": openvla_oft.resize_lanczos(picture, size).ravel().tolist()})
    path = ROOT / "tests" / "pictures" / "goldens" / "lanczos.json"
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n")


class Program:
    def __reduce__(self):
        return os.system, ("touch /tmp/a_pickle_was_run",)


def archives():
    out = GOLDENS / "archives"
    out.mkdir(exist_ok=True)
    numbers = torch.arange(12, dtype=torch.float32)
    torch.save({"whole": numbers, "turned": numbers.view(3, 4).t(), "part": numbers[5:9],
                "empty": numbers[:0], "scalar": numbers[7], "half": numbers.half(), "coarse": numbers.bfloat16(),
                "double": numbers.double(), "parameter": torch.nn.Parameter(numbers[:2].clone())}, out / "views.pt")
    torch.save({"fc1.weight": Program()}, out / "program.pt")
    torch.save({"model": {"fc1.weight": numbers}, "step": 3}, out / "nested.pt")
    torch.save({"count": torch.arange(3)}, out / "integers.pt")
    torch.save([numbers], out / "list.pt")
    torch.save({"whole": numbers}, out / "legacy.pt", _use_new_zipfile_serialization=False)


def make():
    archives()
    for variant in SETTINGS:
        write_inputs(variant)
        tensors, description = golden(variant)
        save_file(tensors, GOLDENS / variant / "golden.safetensors")
        (GOLDENS / variant / "golden.json").write_text(json.dumps(description, indent=1) + "\n")
    lanczos()


def check():
    for variant in SETTINGS:
        stored = load_file(GOLDENS / variant / "golden.safetensors")
        for name, tensor in golden(variant)[0].items():
            scale = max(1.0, float(tensor.double().abs().max()))
            difference = float((stored[name].double() - tensor.double()).abs().max()) / scale
            if difference > 2e-5:
                print(f"{variant}: {name}: {difference:.2g}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=["make", "check"], default="make")
    {"make": make, "check": check}[parser.parse_args().command]()
