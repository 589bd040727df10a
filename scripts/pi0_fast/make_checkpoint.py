#!/usr/bin/env python3
"""Makes a small random pi0-FAST checkpoint, to try the programs without a download of 6 or 11 GB.

    python scripts/pi0_fast/make_checkpoint.py runs/pi0_fast/checkpoint --dialect openpi \\
        --demonstrations runs/pi0_fast/demonstrations.hdf5 --interactions runs/pi0_fast/interactions.hdf5

tiny      28 pixels, SigLIP 72 wide with 2 layers, Gemma 32 wide with 2 layers: starts at once on any machine (1 MB)
mid       224 pixels, SigLIP 288 wide with 4 layers, Gemma 256 wide with 4 layers and 8 heads, vocabulary 257152 (300 MB)
released  the 3B model's sizes, all zeros in a file with a hole (6 GB that take no disk space): for --dry-run alone

Every tensor is random, norms and biases too. The policy knows nothing: it is for trying the programs, for tests and for
measuring. openpi: names as third-party converters write them, words and head one table. lerobot: LeRobot's names, two
tables.

Needs: pip install torch transformers tokenizers sentencepiece protobuf safetensors scipy numpy pillow; peft for --adapter,
h5py for the recordings.
"""
import argparse
import io
import json
import math
import pathlib
import sys

import numpy as np
import sentencepiece
import torch
import transformers
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import fit_fast  # noqa: E402
import pi0_fast  # noqa: E402

TASKS = ["make coffee", "Stack_the red block on the green block", "thread the needle", "open the drawer"]
CAMERAS, STATE, ACTIONS = ("agentview", "wrist"), 8, 7
SKIPPED = 128  # ids behind the codes
SIZES = {
    "tiny": dict(image=28, siglip=dict(hidden_size=72, intermediate_size=84, num_hidden_layers=2, num_attention_heads=1),
                 gemma=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, head_dim=16),
                 vocabulary=832, codes=400),
    "mid": dict(image=224, siglip=dict(hidden_size=288, intermediate_size=1076, num_hidden_layers=4, num_attention_heads=4),
                gemma=dict(hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=8, head_dim=64),
                vocabulary=257152, codes=2048),
    "released": dict(image=224, siglip=dict(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27,
                                            num_attention_heads=16),
                     gemma=dict(hidden_size=2048, intermediate_size=16384, num_hidden_layers=18, num_attention_heads=8,
                                head_dim=256), vocabulary=257152, codes=2048),
}
PREFIXES = {"openpi": ("paligemma.model.vision_tower.vision_model.", "paligemma.model.multi_modal_projector.",
                       "paligemma.model.language_model.", "paligemma.lm_head."),
            "lerobot": tuple("model.paligemma_with_expert." + p for p in
                             ("paligemma.model.vision_tower.vision_model.", "paligemma.model.multi_modal_projector.",
                              "paligemma.model.language_model.", "paligemma.lm_head."))}


def tokenizer_model(pieces, text_pieces=300):
    """Bytes of a SentencePiece BPE model set up as Gemma's: pad 0, eos 1, bos 2, unk 3, byte fallback, no dummy prefix,
    digits alone. `text_pieces` of its pieces are trained on a small text; rare characters fill the rest."""
    words = "robot arm hand block cup drawer needle nut peg plate left right top red green blue small large".split()
    lines = [f"Task: {task.lower().replace('_', ' ')}, State: {' '.join(str(17 * i % 256) for i in range(j, j + 8))};"
             for task in TASKS for j in range(20)]
    lines += [f"Task: {verb} the {a} {b}, State: 12 128 255;" for verb in ("lift", "push", "Move") for a in words for b in words]
    lines += ["Action: "] * 40 + ["|"] * 10
    lines.append("abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,:;?!'-_/()|")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=text_pieces + 256, byte_fallback=True,
        character_coverage=1.0, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3, num_threads=1,
        user_defined_symbols=["\n", "Action", ":", "|"], hard_vocab_limit=False, minloglevel=2)
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    score = proto.pieces[-1].score
    rare = [chr(c) for c in [*range(0x4E00, 0xA000), *range(0xAC00, 0xD7A4), *range(0x10000, 0xE0000)]]
    for i in range(pieces - len(proto.pieces)):
        proto.pieces.add(piece=rare[i], score=score - 1 - i)
    assert len(proto.pieces) == pieces, (len(proto.pieces), pieces)
    proto.trainer_spec.vocab_size = pieces
    del proto.trainer_spec.input[:]
    return proto.SerializeToString()


@torch.no_grad()
def randomise(weights, generator, tied):
    """Fills every tensor; Gemma's norms are 1 + w, so that w is around 0 and never exactly. One table for words and head is
    small beside what the layers add, or every token would predict itself."""
    for name, p in weights.items():
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith("language_model.norm.weight"):
            p.copy_(4 + noise if tied else 0.3 * noise)
        elif "layernorm.weight" in name and not name.startswith("vision_tower"):
            p.copy_(0.3 * noise)
        elif "norm" in name and name.endswith("weight"):
            p.copy_(1 + 0.2 * noise)
        elif p.dim() == 1:
            p.copy_(0.2 * noise)
        elif "position_embedding" in name:
            p.copy_(0.5 * noise)
        elif "embed_tokens" in name:
            p.copy_(noise / math.sqrt(p.shape[1]))
        elif "lm_head" in name:
            p.copy_((0.4 if tied else 1.5) * noise / math.sqrt(p.shape[1]))
        else:
            gain = 2.5 if "q_proj" in name or "k_proj" in name or "projector" in name else 1.0
            p.copy_(noise * gain / math.sqrt(math.prod(p.shape[1:])))


def empty_model(size):
    s = SIZES[size]
    siglip = transformers.SiglipVisionConfig(**s["siglip"], image_size=s["image"], patch_size=14,
                                             projection_dim=s["gemma"]["hidden_size"], vision_use_head=False)
    gemma = transformers.GemmaConfig(**s["gemma"], vocab_size=s["vocabulary"], num_key_value_heads=1)
    config = transformers.PaliGemmaConfig(vision_config=siglip.to_dict(), text_config=gemma.to_dict(),
                                          projection_dim=s["gemma"]["hidden_size"], hidden_size=s["gemma"]["hidden_size"],
                                          image_token_index=s["vocabulary"])
    with torch.device("meta"):
        return transformers.PaliGemmaForConditionalGeneration(config)


def canonical_tensors(size, tied):
    """Names without prefix and empty tensors, on the meta device."""
    found = {}
    for name, tensor in empty_model(size).state_dict().items():
        found[pi0_fast.canonical(name)] = tensor
    if tied:
        del found["language_model.embed_tokens.weight"]
    return found


def file_name(name, dialect):
    vision, projector, language, head = PREFIXES[dialect]
    for ours, theirs in (("vision_tower.", vision), ("multi_modal_projector.", projector), ("language_model.", language),
                         ("lm_head.", head)):
        if name.startswith(ours):
            return theirs + name[len(ours):]
    raise ValueError(name)


def write_sparse(path, tensors):
    """bfloat16 zeros: names and sizes, no contents."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [end, end + 2 * tensor.numel()]}
        end += 2 * tensor.numel()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def statistics(rng, size, of_recordings=False):
    middle, spread = rng.uniform(-0.3, 0.3, size), rng.uniform(0.2, 0.6, size)
    if of_recordings:  # those that `recording` writes go from -1 to 1
        middle, spread = 0 * middle, 0 * spread + 0.55
    return dict(mean=middle.round(6).tolist(), std=spread.round(6).tolist(), q01=(middle - 2.1 * spread).round(6).tolist(),
                q99=(middle + 1.9 * spread).round(6).tolist())


def walks(rng, count, horizon, size):
    """Normalised chunks that move as actions do."""
    chunks = np.cumsum(rng.normal(0, 0.25, (count, horizon, size)), axis=1) + rng.normal(0, 0.4, (count, 1, size))
    chunks[:, :, -1] = np.where(rng.random((count, 1)) < 0.5, -1.0, 1.0)
    return chunks


def make(directory, dialect="openpi", size="tiny", seed=0, dtype=torch.float32, horizon=6, how=None, delta=(), cameras=CAMERAS,
         absent=1, state_size=STATE, action_size=ACTIONS, max_decoding_steps=64, longer_statistics=2, of_recordings=False):
    """Writes a random checkpoint. `how`: quantile or z-score (openpi), MEAN_STD or QUANTILES (lerobot). `of_recordings`: its statistics
    suit the recordings made here; otherwise they are random, too."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    weights = canonical_tensors(size, tied=dialect == "openpi")
    if size == "released":
        write_sparse(directory / "model.safetensors", {file_name(n, dialect): t for n, t in weights.items()})
    else:
        weights = {n: torch.empty(t.shape) for n, t in weights.items()}
        randomise(weights, generator, tied=dialect == "openpi")
        save_file({file_name(n, dialect): t.to(dtype) for n, t in weights.items()}, directory / "model.safetensors")
    (directory / "tokenizer.model").write_bytes(tokenizer_model(SIZES[size]["vocabulary"]))
    tokenizer, low = fit_fast.fit(walks(rng, 80, horizon, action_size), SIZES[size]["codes"])
    fit_fast.write(directory / "action_tokenizer", tokenizer, low, horizon, action_size, SIZES[size]["codes"])
    image = SIZES[size]["image"]
    slots = [f"{name}_rgb" for name in cameras] + [f"absent_{i}_rgb" for i in range(absent)]
    if dialect == "openpi":
        config = {"model_type": "pi0_fast", "dialect": "openpi", "action_dim": action_size, "action_horizon": horizon,
                  "max_token_len": 180, "max_decoding_steps": max_decoding_steps, "fast_skip_tokens": SKIPPED,
                  "image_keys": sorted(slots), "image_resolution": [image, image], "normalization": how or "quantile",
                  "asset_id": "made_up", "delta_action_dims": list(delta)}
        stats = {"norm_stats": {"state": statistics(rng, state_size + longer_statistics, of_recordings),
                                "actions": statistics(rng, action_size + longer_statistics, of_recordings)}}
        (directory / "assets" / "made_up").mkdir(parents=True, exist_ok=True)
        (directory / "assets" / "made_up" / "norm_stats.json").write_text(json.dumps(stats, indent=2) + "\n")
    else:
        features = {f"observation.images.{name}": {"type": "VISUAL", "shape": [3, image, image]} for name in slots}
        features["observation.state"] = {"type": "STATE", "shape": [state_size]}
        config = {"type": "pi0_fast", "input_features": features,
                  "output_features": {"action": {"type": "ACTION", "shape": [action_size]}}, "chunk_size": horizon,
                  "n_action_steps": horizon, "max_action_tokens": 128, "tokenizer_max_length": 100,
                  "max_decoding_steps": max_decoding_steps, "fast_skip_tokens": SKIPPED, "image_resolution": [image, image],
                  "use_relative_actions": False}
        tensors = {}
        for name, count in (("observation.state", state_size), ("action", action_size)):
            tensors |= {f"{name}.{key}": torch.tensor(v) for key, v in statistics(rng, count, of_recordings).items()}
        save_file(tensors, directory / "policy_preprocessor_step_2_normalizer_processor.safetensors")
        mode = how or "MEAN_STD"
        steps = [{"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
                 {"registry_name": "to_batch_processor", "config": {}},
                 {"registry_name": "normalizer_processor",
                  "config": {"eps": 1e-8, "features": {}, "norm_map": {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}},
                  "state_file": "policy_preprocessor_step_2_normalizer_processor.safetensors"}]
        (directory / "policy_preprocessor.json").write_text(
            json.dumps({"name": "policy_preprocessor", "steps": steps}, indent=2) + "\n")
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def picture(rng, size):
    coarse = rng.integers(30, 220, (3, 4, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((-(-size[0] // 3), -(-size[1] // 4), 1), np.uint8))[: size[0], : size[1]]


def recording(path, episodes, corrected, seed=0, steps=16, size=(32, 40), cameras=CAMERAS, state_size=STATE,
              action_size=ACTIONS):
    """Writes episodes in the project's layout: of an expert, or (`corrected`) of a policy that a person takes over from."""
    import h5py
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        total = 0
        for i in range(episodes):
            length = steps + 2 * i
            source = np.zeros(length, np.int8)
            if corrected:
                source[:], source[length // 2: 3 * length // 4] = 1, 2
            actions = np.clip(np.cumsum(rng.normal(0, 0.2, (length, action_size)), axis=0), -1, 1)
            actions[:, -1] = np.where(np.arange(length) > 0.7 * length, 1.0, -1.0)
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"], demo.attrs["task_description"] = length, TASKS[i % len(TASKS)]
            demo.attrs["outcome"], demo.attrs["success"] = "success", 1
            demo["actions"], demo["action_source"] = actions.astype(np.float32), source
            demo["obs/eef_pos"] = rng.normal(0, 0.4, (length, 3)).astype(np.float32)
            demo["obs/joints"] = rng.normal(0, 0.4, (length, state_size - 3)).astype(np.float32)
            for camera in cameras:
                pictures = np.stack([picture(rng, size) for _ in range(length)])
                demo.create_dataset(f"obs/{camera}_image", data=pictures, chunks=(1, *pictures.shape[1:]), compression="gzip")
            total += length
        data.attrs["total"] = total


def make_adapter(checkpoint, directory, rank, seed=0, alpha=16):
    """Writes a random adapter for all linear layers but words and head, in PEFT's layout under the file's names."""
    from safetensors import safe_open
    generator = torch.Generator().manual_seed(seed + 1)
    directory.mkdir(parents=True, exist_ok=True)
    tensors, targets = {}, set()
    with safe_open(pathlib.Path(checkpoint) / "model.safetensors", "pt") as weights:
        for name in weights.keys():
            layer = name.removesuffix(".weight")
            shape = weights.get_slice(name).get_shape()
            if len(shape) != 2 or not name.endswith(("_proj.weight", "fc1.weight", "fc2.weight", "linear.weight")):
                continue
            out, wide = shape
            tensors[f"base_model.model.{layer}.lora_A.weight"] = torch.randn(rank, wide, generator=generator) / math.sqrt(wide)
            tensors[f"base_model.model.{layer}.lora_B.weight"] = \
                torch.randn(out, rank, generator=generator) * 0.4 * math.sqrt(rank) / alpha
            targets.add(layer.split(".")[-1])
    save_file(tensors, directory / "adapter_model.safetensors")
    (directory / "adapter_config.json").write_text(json.dumps(
        {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "lora_dropout": 0.0, "bias": "none",
         "target_modules": sorted(targets), "base_model_name_or_path": ""}, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, help="directory of the checkpoint")
    parser.add_argument("--dialect", choices=["openpi", "lerobot"], default="openpi")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--adapter", type=pathlib.Path, metavar="DIR", help="also write a random adapter")
    parser.add_argument("--rank", type=int, default=4, help="rank of the adapter; alpha is 16")
    parser.add_argument("--demonstrations", type=pathlib.Path, metavar="HDF5", help="also write an expert's episodes")
    parser.add_argument("--interactions", type=pathlib.Path, metavar="HDF5",
                        help="also write a policy's episodes, each with a take-over")
    parser.add_argument("--episodes", type=int, default=3, help="in each of these files")
    options = parser.parse_args()
    make(options.out, options.dialect, options.size, options.seed, getattr(torch, options.dtype), of_recordings=True)
    print(f"checkpoint: {options.out}")
    if options.adapter:
        make_adapter(options.out, options.adapter, options.rank, options.seed)
        print(f"adapter: {options.adapter}")
    for what, path in (("demonstrations", options.demonstrations), ("interactions", options.interactions)):
        if path:
            recording(path, options.episodes, what == "interactions", seed=options.seed + len(what))
            print(f"{what}: {path}")


if __name__ == "__main__":
    main()
