#!/usr/bin/env python3
"""Makes tests/models/goldens/pi0_fast with transformers' PaliGemma, in the formulas of openpi and LeRobot.

    python scripts/goldens/make_pi0_fast.py

Needs what scripts/pi0_fast/pi0_fast.py needs. Made with torch 2.11, transformers 5.5.4, tokenizers 0.22.2.

VARIANT openpi: z-score, actions counted from the state in dimensions 0 to 2, statistics longer than the data, a camera that
is not there, words and head one table under lm_head, float32. VARIANT lerobot: quantiles, a camera that is not there, two
tables, bfloat16.

VARIANT/checkpoint      as scripts/pi0_fast/make_checkpoint.py writes it
VARIANT/adapter         a random adapter for all linear layers, in PEFT's layout
VARIANT/golden.json     tasks, prompts and answers (ids) of B samples, greedy and released: ids decoded with the trained and
                        with the released program's positions and masks, without an adapter
VARIANT/golden.safetensors
    picture_CAMERA      uint8 [B, Y, X, 3]
    state               [B, D]
    actions             [B, H, A] in environment units, released_actions and predicted_actions float64 [B, H, A]: what
                        `released` and the most likely teacher-forced ids mean
    predicted           int64 [B, T] most likely teacher-forced ids
    token_log_probs, adapted_token_log_probs  [B, T], 0 behind an answer; without and with the adapter
    gradient.TENSOR     of -sum(adapted_token_log_probs) by the adapter's tensor TENSOR
"""
import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests" / "models" / "goldens" / "pi0_fast"
sys.path.insert(0, str(ROOT / "scripts" / "pi0_fast"))
import make_checkpoint  # noqa: E402
import pi0_fast  # noqa: E402

VARIANTS = {
    "openpi": dict(dialect="openpi", how="z-score", delta=(0, 1, 2), horizon=6, action_size=5, state_size=6, seed=5,
                   max_decoding_steps=20),
    "lerobot": dict(dialect="lerobot", how="QUANTILES", horizon=5, action_size=4, state_size=7, seed=6, dtype=torch.bfloat16,
                    max_decoding_steps=20),
}
TASKS = ["make coffee", "  Stack_the red block on the Green block ", "thread the\nneedle", "Caf\u00c9"]
RANK, ALPHA = 2, 16


def adapted_model(directory, adapter):
    """The model with W + scale B A in every adapted layer; A and B require a gradient."""
    tensors = {n: t.clone().requires_grad_() for n, t in load_file(adapter / "adapter_model.safetensors").items()}
    weights = pi0_fast.read_weights(directory)
    model = pi0_fast.build(weights)
    own = {pi0_fast.canonical(name): name for name in model.state_dict()}
    changed = {}
    for name in [n for n in tensors if n.endswith("lora_A.weight")]:
        layer = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        weight = pi0_fast.canonical(layer + ".weight")
        product = tensors[name.replace("lora_A", "lora_B")] @ tensors[name]
        changed[own[weight]] = weights[weight] + ALPHA / RANK * product
    return model, tensors, changed


class Functional:
    """A model that runs with some of its weights replaced, so that gradients reach them."""

    def __init__(self, model, changed):
        for name, value in changed.items():
            owner, leaf = name.rsplit(".", 1)
            module = model.get_submodule(owner)
            del module._parameters[leaf]
            setattr(module, leaf, value)
        self.model = model


def make(variant, options):
    folder = GOLDENS / variant
    shutil.rmtree(folder, ignore_errors=True)
    checkpoint, adapter = folder / "checkpoint", folder / "adapter"
    make_checkpoint.make(checkpoint, **options)
    make_checkpoint.make_adapter(checkpoint, adapter, RANK, seed=options["seed"], alpha=ALPHA)
    rng = np.random.default_rng(options["seed"])
    policy = pi0_fast.Policy(checkpoint)
    batch, horizon, size = len(TASKS), options["horizon"], options["action_size"]
    pictures = {c: np.stack([make_checkpoint.picture(rng, (20, 36)) for _ in range(batch)])
                for c in make_checkpoint.CAMERAS}
    states = rng.normal(0, 0.5, (batch, options["state_size"])).astype(np.float32)
    actions = np.cumsum(rng.normal(0, 0.2, (batch, horizon, size)), axis=1).astype(np.float32)
    cameras = {f"{c}_rgb": c for c in make_checkpoint.CAMERAS}
    images = [[pictures[cameras[s]][i] if s in cameras else None for s in policy.slots] for i in range(batch)]
    prompts = [policy.prompt(t, s) for t, s in zip(TASKS, states)]
    answers = [policy.answer(a, s, p) for a, s, p in zip(actions, states, prompts)]
    longest = max(len(a) for a in answers)
    padded = lambda rows, kind: torch.stack([torch.nn.functional.pad(r, (0, longest - len(r))) for r in rows]).to(kind)

    model, tensors, changed = adapted_model(checkpoint, adapter)
    adapted = pi0_fast.Policy(checkpoint, Functional(model, changed).model)
    with torch.no_grad():
        scores = [policy.score(*row) for row in zip(images, prompts, answers)]
    adapted_scores = [adapted.score(*row) for row in zip(images, prompts, answers)]
    (-sum(s.sum() for s in adapted_scores)).backward()

    greedy = [policy.greedy(i, p) for i, p in zip(images, prompts)]
    released = [policy.greedy(i, p, released=True) for i, p in zip(images, prompts)]
    predicted = teacher_forced(policy, images, prompts, answers)
    file = {f"picture_{c}": torch.from_numpy(p) for c, p in pictures.items()}
    file |= {"state": torch.from_numpy(states), "actions": torch.from_numpy(actions),
             "released_actions": torch.from_numpy(np.stack([policy.actions(i, s) for i, s in zip(released, states)])),
             "predicted": padded([torch.tensor(p) for p in predicted], torch.int64),
             "predicted_actions": torch.from_numpy(np.stack([policy.actions(i, s) for i, s in zip(predicted, states)])),
             "token_log_probs": padded(scores, torch.float32),
             "adapted_token_log_probs": padded([s.detach() for s in adapted_scores], torch.float32)}
    file |= {f"gradient.{n}": t.grad for n, t in tensors.items()}
    save_file({n: t.contiguous() for n, t in file.items()}, folder / "golden.safetensors")
    (folder / "golden.json").write_text(json.dumps(
        {"tasks": TASKS, "prompts": prompts, "answers": answers, "greedy": greedy, "released": released,
         "slots": policy.slots, "rank": RANK}) + "\n")
    spread = torch.cat(scores).std()
    print(variant, "answers", [len(a) for a in answers], "log p std", float(spread),
          "greedy differ from released", sum(a != b for a, b in zip(greedy, released)), "of", batch)


@torch.no_grad()
def teacher_forced(policy, images, prompts, answers):
    """The most likely ids."""
    found = []
    head = policy.model.lm_head
    for row in zip(images, prompts, answers):
        logits = []
        handle = head.register_forward_hook(lambda _, __, out: logits.append(out))
        policy.score(*row)
        handle.remove()
        found.append(logits[0].argmax(-1).tolist())
    return found


for name, settings in VARIANTS.items():
    make(name, settings)
