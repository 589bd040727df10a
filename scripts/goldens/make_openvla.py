#!/usr/bin/env python3
"""Makes the fixtures of tests/models/goldens/openvla with transformers, timm and peft.

    python scripts/goldens/make_openvla.py checkpoints     a/, b/: checkpoints, adapters of new peft    (peft 0.21)
    python scripts/goldens/make_openvla.py old-adapters    a/, b/: adapters of old peft                 (peft 0.11)
    python scripts/goldens/make_openvla.py goldens         numbers of both and of the pictures          (peft 0.21)
    python scripts/goldens/make_openvla.py check           compares the numbers with what is installed  (any)

Needs: pip install torch transformers timm peft sentencepiece protobuf safetensors pillow numpy torchvision. Made with torch
2.11, transformers 5.23, timm 1.0.31, peft 0.21.2; old adapters with transformers 4.49, timm 0.9.10, peft 0.11.1.

VARIANT a: 28 pixels (2x2 patches), resize-naive, DINOv2 64 wide x 3, SigLIP 72 wide x 4, Llama 64 wide x 2, 2 heads, every
other field of text_config left out (rms_norm_eps 1e-6), bfloat16 in two shards, dataset_statistics.json beside.
VARIANT b: 42 pixels (3x3), letterbox, DINOv2 128 wide x 2 (2 heads), SigLIP 144 wide x 3 (2 heads), Llama 96 wide x 3, 4
heads and 2 key-value heads, rms_norm_eps 1e-5, rope_theta 5000, float16 in shards, two data sets and no
dataset_statistics.json.

VARIANT/checkpoint        Hugging Face directory
VARIANT/adapter_new       peft 0.21, all-linear
VARIANT/adapter_old       peft 0.11, with lm_head, patch_embed (Conv2d) and lm_head.base_layer.weight
b/adapter_pattern         peft 0.21, four named targets, rsLoRA, rank_pattern, alpha_pattern
VARIANT/golden.json       texts and settings; `sizes` names every tensor below with its shape, file by file
VARIANT/golden.safetensors, the batch and the policy without adapter, computed in float32 from the stored weights. B = 4
samples, P patches, T = 8 answer tokens (7 actions, </s>), V = vocabulary:
    pictures                      uint8 [B, Y, X, 3]
    resized                       uint8 [B, size, size, 3], after PIL
    pixel_values                  [B, 6, size, size]
    actions                       [B, 7] normalised
    answer_ids                    int64 [B, T]
    prompt_lengths                int64 [B], ids before the answer, the lone space included
    input_ids, attention_mask, labels   int64 [B, L], right padded, labels -100 outside the answer
    dino_patches, siglip_patches  [B, P, width], output of the second-to-last block without prefix tokens
    projected                     [B, P, D]
    token_log_probs               [B, T]
    answer_logits                 [B, T, V], the logits that predict the answer tokens
    greedy_ids                    int64 [B, 7], no restriction
    greedy_action_ids             int64 [B, 7], action ids only
    greedy_actions                [B, 7], decoded from greedy_action_ids, normalised
    unnormalized_actions          float64 [B, 7], the same in environment units, by the data set `unnorm_key`
VARIANT/golden_ADAPTER.safetensors, the same batch with an adapter: token_log_probs to unnormalized_actions as above, and
    gradient.TENSOR               gradient of -sum(token_log_probs) by the adapter's tensor TENSOR (as named in its file);
                                  tensors without one are listed in golden.json under adapters/ADAPTER/without_gradient
    merged.TENSOR                 some weights of the base with the adapter merged

pictures.safetensors, outputs of the picture preprocessing for five pictures and two sizes S:
    NAME                          uint8 [Y, X, 3]
    NAME.STRATEGY.S               uint8 [S, S, 3], STRATEGY resize-naive, letterbox (fill 127, as stored by the release) or
                                  resize-crop
    NAME.letterbox-FILL.S         letterbox with the color FILL = 123,116,103
    NAME.center-crop.S            uint8 [S, S, 3], central crop of 0.9 of the area, bilinear, no antialiasing
tokenizer.json                    ids of texts by a/checkpoint/tokenizer.model, with the beginning id, and of prompts
"""
import argparse
import json
import pathlib
import shutil
import sys

import numpy as np
import peft
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests" / "models" / "goldens" / "openvla"
sys.path.insert(0, str(ROOT / "scripts" / "openvla"))
import make_checkpoint  # noqa: E402
import openvla  # noqa: E402

SHAPES = {
    "a": openvla.Shape(image_size=28, dino_width=64, dino_depth=3, dino_mlp=80, siglip_width=72, siglip_depth=4,
                       siglip_mlp=84, projector_width=136,
                       text=dict(vocab_size=704, pad_token_id=640, hidden_size=64, intermediate_size=80,
                                 num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)),
    "b": openvla.Shape(image_size=42, dino_width=128, dino_depth=2, dino_mlp=96, siglip_width=144, siglip_depth=3,
                       siglip_mlp=100, projector_width=112,
                       text=dict(vocab_size=672, pad_token_id=608, hidden_size=96, intermediate_size=136,
                                 num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5,
                                 rope_theta=5000.0)),
}
OPTIONS = {
    "a": dict(seed=11, dtype=torch.bfloat16, max_shard_bytes=560_000, own_statistics=True, text_pieces=384),
    "b": dict(seed=22, dtype=torch.float16, max_shard_bytes=900_000, statistics_of=("tabletop", "kitchen"),
              resize_strategy="letterbox", text_pieces=352),
}
UNNORM_KEY = {"a": "tabletop_finetuned", "b": "tabletop"}
TASKS = {"a": ["make coffee", "stack_the_red_block_on the green block", "Thread the Needle", "lift"],
         "b": ["open the drawer and take the cup out", "push", "put the square_nut on the peg", "place the caf\u00e9 cup"]}
ADAPTERS = {"a": ["adapter_old", "adapter_new"], "b": ["adapter_old", "adapter_new", "adapter_pattern"]}
RANK, ALPHA = {"a": 2, "b": 3}, 16
MERGED = ["language_model.model.layers.1.self_attn.q_proj.weight", "vision_backbone.featurizer.patch_embed.proj.weight",
          "language_model.lm_head.weight"]


def write_adapter(variant, name, config, seed):
    model = openvla.load(GOLDENS / variant / "checkpoint").model
    policy = peft.get_peft_model(model, config)
    make_checkpoint.random_adapter(policy, torch.Generator().manual_seed(seed))
    out = GOLDENS / variant / name
    shutil.rmtree(out, ignore_errors=True)
    policy.save_pretrained(str(out))
    (out / "README.md").unlink(missing_ok=True)
    if name == "adapter_old":  # peft 0.11 keeps an adapter in its base's type
        path = out / "adapter_model.safetensors"
        save_file({k: v.to(OPTIONS[variant]["dtype"]) for k, v in load_file(path).items()}, path, {"format": "pt"})


def checkpoints():
    for variant, shape in SHAPES.items():
        shutil.rmtree(GOLDENS / variant / "checkpoint", ignore_errors=True)
        make_checkpoint.make(shape, GOLDENS / variant / "checkpoint", **OPTIONS[variant])
        write_adapter(variant, "adapter_new", peft.LoraConfig(
            r=RANK[variant], lora_alpha=ALPHA, target_modules="all-linear", init_lora_weights="gaussian"), 31)
    write_adapter("b", "adapter_pattern", peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "down_proj", "fc2", "qkv"], use_rslora=True,
        rank_pattern={"projector.fc2": 2, "down_proj": 1},
        alpha_pattern={"language_model.model.layers.0.self_attn.q_proj": 3}), 33)


def old_adapters():
    for variant in SHAPES:
        targets = openvla.released_targets(openvla.load(GOLDENS / variant / "checkpoint").model)
        write_adapter(variant, "adapter_old", peft.LoraConfig(
            r=RANK[variant], lora_alpha=ALPHA, lora_dropout=0.0, target_modules=targets, init_lora_weights="gaussian"), 32)


def random_pictures(rng, count, size):
    out = []
    for _ in range(count):
        hand, target = rng.uniform(-0.9, 0.9, 2), rng.uniform(-0.9, 0.9, 2)
        out.append(make_checkpoint.picture(rng, size, hand, target))
    return out


def batch_of(variant, checkpoint):
    rng = np.random.default_rng(5)
    pictures = random_pictures(rng, 4, {"a": (48, 64), "b": (61, 38)}[variant])
    actions = np.clip(rng.normal(0, 0.6, (4, 7)), -1, 1).astype(np.float32)
    actions[0, 0], actions[1, 3], actions[2, 5] = 1.0, -1.0, 0.999
    answers = [[*checkpoint.tokenizer.action_ids(a).tolist(), checkpoint.tokenizer.end] for a in actions]
    prompts = [checkpoint.tokenizer.prompt_ids(task) for task in TASKS[variant]]
    ids, mask, labels = openvla.sequences(prompts, answers, checkpoint.tokenizer.pad)
    return {"pictures": torch.from_numpy(np.stack(pictures)),
            "resized": torch.from_numpy(np.stack([checkpoint.preprocess.resize(p) for p in pictures])),
            "pixel_values": checkpoint.preprocess(pictures), "actions": torch.from_numpy(actions),
            "answer_ids": torch.tensor(answers), "prompt_lengths": torch.tensor([len(p) for p in prompts]),
            "input_ids": ids, "attention_mask": mask, "labels": labels}, prompts


def numbers(model, batch, prompts, checkpoint, unnorm_key):
    """Everything about one policy, without gradients."""
    with torch.no_grad():
        logits = model(pixel_values=batch["pixel_values"], input_ids=batch["input_ids"],
                       attention_mask=batch["attention_mask"])
        free = checkpoint.greedy(batch["pixel_values"], prompts, model=model)
        restricted = checkpoint.greedy(batch["pixel_values"], prompts, restrict=True, model=model)
    decoded = checkpoint.tokenizer.actions(restricted)
    return {"token_log_probs": openvla.token_log_probs(logits, batch["labels"]),
            "answer_logits": openvla.answer_logits(logits, batch["labels"]), "greedy_ids": free,
            "greedy_action_ids": restricted, "greedy_actions": torch.from_numpy(decoded).float(),
            "unnormalized_actions": torch.from_numpy(
                openvla.unnormalize(decoded, checkpoint.action_statistics(unnorm_key)))}


def adapter_numbers(variant, name, batch, prompts, facts):
    checkpoint = openvla.load(GOLDENS / variant / "checkpoint")
    policy = peft.PeftModel.from_pretrained(checkpoint.model, str(GOLDENS / variant / name), is_trainable=True).eval()
    stored = load_file(GOLDENS / variant / name / "adapter_model.safetensors")
    out = numbers(policy, batch, prompts, checkpoint, UNNORM_KEY[variant])
    logits = policy(pixel_values=batch["pixel_values"], input_ids=batch["input_ids"],
                    attention_mask=batch["attention_mask"])
    (-openvla.token_log_probs(logits, batch["labels"]).sum()).backward()
    without = []
    for key, p in policy.named_parameters():
        if "lora_" not in key:
            continue
        key = key.replace(".default.", ".")
        assert key in stored and torch.equal(stored[key].float(), p.detach()), key
        if p.grad is None:
            without.append(key)
        else:
            out["gradient." + key] = p.grad.clone()
    assert len(without) + sum(k.startswith("gradient.") for k in out) == sum("lora_" in k for k in stored)
    facts[name] = {"without_gradient": sorted(without), "rank": policy.peft_config["default"].r,
                   "alpha": policy.peft_config["default"].lora_alpha}
    touched = [key for key in MERGED if f"base_model.model.{key.removesuffix('weight')}lora_A.weight" in stored]
    merged = policy.merge_and_unload().state_dict()
    out.update({"merged." + key: merged[key].clone() for key in touched})
    return out


def readable(name):
    """Old peft cannot read the settings of new adapters."""
    return name == "adapter_old" or int(peft.__version__.split(".")[1]) > 11


def golden(variant):
    checkpoint = openvla.load(GOLDENS / variant / "checkpoint")
    batch, prompts = batch_of(variant, checkpoint)
    out = {"golden": dict(batch)}
    with torch.no_grad():
        dino, siglip = checkpoint.model.vision_backbone.towers(batch["pixel_values"])
        out["golden"].update(
            dino_patches=dino, siglip_patches=siglip, projected=checkpoint.model.projector(torch.cat([dino, siglip], 2)))
    facts = {}
    out["golden"].update(numbers(checkpoint.model, batch, prompts, checkpoint, UNNORM_KEY[variant]))
    for name in filter(readable, ADAPTERS[variant]):
        out["golden_" + name] = adapter_numbers(variant, name, batch, prompts, facts)
    description = {
        "tasks": TASKS[variant], "prompts": [openvla.prompt(t) for t in TASKS[variant]], "prompt_ids": prompts,
        "lower_case_prompt_ids": [checkpoint.tokenizer.prompt_ids(t, lower=True) for t in TASKS[variant]],
        "unnorm_key": UNNORM_KEY[variant], "space_id": checkpoint.tokenizer.space, "pad_id": checkpoint.tokenizer.pad,
        "heads": {"dino": SHAPES[variant].dino_width // 64, "siglip": SHAPES[variant].siglip_width // 72},
        "parameters": sum(p.numel() for p in checkpoint.model.parameters()), "adapters": facts, "versions": versions(),
        "sizes": {file: {key: list(value.shape) for key, value in tensors.items()} for file, tensors in out.items()}}
    return out, description


def versions():
    return {m.__name__: m.__version__.split("+")[0] for m in (torch, transformers, timm, peft, np)}


def picture_goldens():
    rng = np.random.default_rng(9)
    out = {}
    for size in ((48, 64), (53, 37), (28, 28), (100, 41), (20, 30)):
        name = f"picture_{size[0]}x{size[1]}"
        picture = random_pictures(rng, 1, size)[0]
        out[name] = torch.from_numpy(picture.copy())
        for s in (28, 42):
            for strategy in ("resize-naive", "letterbox", "resize-crop"):
                config, preprocessor = openvla.describe(openvla.Shape(image_size=s), {}, strategy)
                resized = openvla.Preprocessor(config, preprocessor).resize(picture)
                check_torchvision(picture, resized, preprocessor)
                out[f"{name}.{strategy}.{s}"] = torch.from_numpy(resized.copy())
                if strategy == "letterbox":
                    preprocessor["tvf_letterbox_fill"] = [int(255 * x) for x in openvla.IMAGENET[0]]
                    resized = openvla.Preprocessor(config, preprocessor).resize(picture)
                    out[f"{name}.letterbox-123,116,103.{s}"] = torch.from_numpy(resized.copy())
            out[f"{name}.center-crop.{s}"] = torch.from_numpy(openvla.center_crop(picture, s))
    return out


def check_torchvision(picture, resized, preprocessor):
    """The released processor's own calls give the same picture."""
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as tvf
    image = Image.fromarray(picture)
    if preprocessor["tvf_do_letterbox"]:
        x, y = (int((max(image.size) - side) / 2) for side in image.size)
        image = tvf.pad(image, (x, y, x, y), fill=tuple(preprocessor["tvf_letterbox_fill"]), padding_mode="constant")
    image = tvf.resize(image, preprocessor["tvf_resize_params"][0]["size"], InterpolationMode.BICUBIC, antialias=True)
    image = tvf.center_crop(image, preprocessor["tvf_crop_params"][0]["output_size"])
    assert np.array_equal(np.asarray(image), resized)


def tokenizer_goldens():
    tokenizer = openvla.Tokenizer(GOLDENS / "a" / "checkpoint" / "tokenizer.model")
    texts = ["", " ", "make coffee", "  two  spaces", "caf\u00e9 \u2192 na\u00efve \U0001f916", "line\nbreak\ttab",
             "123 45", "In: What action should the robot take to make coffee?\nOut: "]
    actions = [-1, -0.5, 0, 0.25, 0.5, 0.999, 1]
    ids = tokenizer.action_ids(actions).tolist()
    return {"texts": [{"text": t, "ids": tokenizer.encode(t)} for t in texts],
            "prompts": [{"task": t, "ids": tokenizer.prompt_ids(t), "lower_case_ids": tokenizer.prompt_ids(t, lower=True)}
                        for t in [*TASKS["a"], *TASKS["b"]]],
            "actions": actions, "action_ids": ids, "decoded_actions": tokenizer.actions(ids).tolist(),
            "pieces": tokenizer.vocabulary, "space_id": tokenizer.space}


def goldens():
    for variant in SHAPES:
        files, description = golden(variant)
        for file, tensors in files.items():
            save_file({k: v.contiguous() for k, v in tensors.items()}, GOLDENS / variant / f"{file}.safetensors")
        (GOLDENS / variant / "golden.json").write_text(json.dumps(description, indent=1) + "\n")
    save_file({k: v.contiguous() for k, v in picture_goldens().items()}, GOLDENS / "pictures.safetensors")
    (GOLDENS / "tokenizer.json").write_text(json.dumps(tokenizer_goldens(), indent=1) + "\n")


def check():
    worst = 0.0
    for variant in SHAPES:
        for file, tensors in golden(variant)[0].items():
            stored = load_file(GOLDENS / variant / f"{file}.safetensors")
            assert stored.keys() == tensors.keys()
            for key, value in tensors.items():
                scale = max(1.0, float(value.double().abs().max()))
                difference = float((stored[key].double() - value.double()).abs().max()) / scale
                worst = max(worst, difference)
                if difference > 2e-5:
                    print(f"{variant}/{file} {key}: {difference:.2g}")
    print(f"largest difference {worst:.2g} with {versions()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = {"checkpoints": checkpoints, "old-adapters": old_adapters, "goldens": goldens, "check": check}
    parser.add_argument("command", choices=commands)
    commands[parser.parse_args().command]()
