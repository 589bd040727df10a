#!/usr/bin/env python3
"""Makes a small random OpenVLA checkpoint, to try the programs without a 7B download.

    python scripts/openvla/make_checkpoint.py --size tiny runs/openvla/checkpoint
    python scripts/openvla/make_checkpoint.py --size tiny runs/openvla/checkpoint --adapter runs/openvla/adapter \\
        --rank 4 --demonstrations runs/openvla/demonstrations.hdf5 --interactions runs/openvla/interactions.hdf5
    python scripts/openvla/make_checkpoint.py --oft runs/oft/checkpoint --demonstrations runs/oft/demonstrations.hdf5

tiny  28 pixels, towers 64 and 72 wide, Llama 64 wide with 2 layers: starts at once on any machine (about 2.5 MB)
mid   224 pixels, towers 384 and 432 wide with 6 blocks, Llama 512 wide with 8 layers, vocabulary 32064 (about 350 MB)

released  the 7B model's sizes, all zeros in a file with a hole (15 GB that take no disk space): for --dry-run alone

With --oft, also what an OpenVLA-OFT with discrete tokens has beside the same tensors: a state projector for 5 numbers in
proprio_projector--1_checkpoint.pt and their statistics; its recordings have two cameras (agentview, wrist) and two states
(eef_pos, gripper_qpos).

Of the first two every tensor is random, norms and biases too, and scaled so that the logits spread over a few units. The policy knows
nothing: it is for trying the programs, for tests and for measuring.

Needs: pip install torch transformers timm sentencepiece protobuf safetensors pillow numpy; peft for --adapter, h5py for
--demonstrations.
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
from PIL import Image, ImageDraw
from safetensors import safe_open
from sentencepiece import sentencepiece_model_pb2

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import openvla  # noqa: E402

SIZES = {
    "tiny": openvla.Shape(image_size=28, dino_width=64, dino_depth=3, dino_mlp=80, siglip_width=72, siglip_depth=4,
                          siglip_mlp=84, projector_width=136,
                          text=dict(vocab_size=704, pad_token_id=640, hidden_size=64, intermediate_size=112,
                                    num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)),
    "mid": openvla.Shape(image_size=224, dino_width=384, dino_depth=6, dino_mlp=1536, siglip_width=432, siglip_depth=6,
                         siglip_mlp=1614, projector_width=3264,
                         text=dict(vocab_size=32064, pad_token_id=32000, hidden_size=512, intermediate_size=1376,
                                   num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=8)),
    "released": openvla.Shape(),
}
TASKS = ["make coffee", "stack the red block on the green block", "thread the needle",
         "put the square nut on the peg", "assemble the three pieces", "open the drawer and take the cup out"]
DATASET = "tabletop"
STATES = {"eef_pos": 3, "gripper_qpos": 2}  # of an OpenVLA-OFT


def tokenizer_model(pieces, text_pieces=384):
    """Bytes of a SentencePiece BPE model with `pieces` pieces, set up as Llama's: byte fallback, dummy prefix, ids 0
    <unk>, 1 <s>, 2 </s>. `text_pieces` of them are trained on a small text; rare characters fill the rest, so that the
    last 256, which stand for action bins, never occur in a prompt."""
    words = "robot arm hand block cup drawer needle nut peg plate bowl spoon towel handle button pot lid door shelf box " \
            "left right top bottom red green blue yellow small large slowly carefully beside behind under over into".split()
    lines = [openvla.prompt(task).replace("\n", " ") for task in TASKS]
    lines += [f"In: What action should the robot take to {verb} the {a} {b}?" for verb in ("lift", "push", "move", "place")
              for a in words[-15:] for b in words[:20]]
    lines.append("abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,:;?!'-_/()")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=text_pieces, byte_fallback=True,
        character_coverage=1.0, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, add_dummy_prefix=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, num_threads=1,
        minloglevel=2)
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    score = proto.pieces[-1].score
    rare = [chr(c) for c in [*range(0xAC00, 0xD7A4), *range(0x4E00, 0xA000)]]
    for i in range(pieces - len(proto.pieces)):
        proto.pieces.add(piece=rare[i], score=score - 1 - i)
    proto.trainer_spec.vocab_size = pieces
    del proto.trainer_spec.input[:]
    return proto.SerializeToString()


@torch.no_grad()
def randomise(model, generator):
    """Fills every parameter: matrices keep the scale of their input, gains are near one, biases are small."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith("scale_factor"):
            p.copy_(0.4 + 0.2 * noise)
        elif "norm" in name and name.endswith("weight"):
            p.copy_(1 + 0.2 * noise)
        elif p.dim() == 1:
            p.copy_(0.2 * noise)
        elif name.endswith(("pos_embed", "cls_token", "reg_token", "latent")):
            p.copy_(0.5 * noise)
        elif name.endswith("embed_tokens.weight"):
            p.copy_(noise)
        else:
            gain = 1.5 if ".q_proj" in name or ".k_proj" in name or "lm_head" in name or "projector" in name else 1.0
            p.copy_(noise * gain / math.sqrt(math.prod(p.shape[1:])))


@torch.no_grad()
def random_adapter(policy, generator, strength=0.4):
    """Fills the adapter of a PeftModel: A and B random, so that a weight changes by about `strength` of its size."""
    for module in policy.modules():
        for name in getattr(module, "lora_A", {}):
            a, b = module.lora_A[name].weight, module.lora_B[name].weight
            size = strength / (module.scaling[name] * math.sqrt(a.shape[0]))
            a.copy_(torch.randn(a.shape, generator=generator) / math.sqrt(math.prod(a.shape[1:])))
            b.copy_(torch.randn(b.shape, generator=generator) * size)


def statistics(generator):
    """Statistics of a made-up data set in the form of dataset_statistics.json."""
    high = 0.02 + 0.05 * torch.rand(6, generator=generator)
    low = -0.02 - 0.05 * torch.rand(6, generator=generator)
    q01, q99 = [round(v, 6) for v in low.tolist()] + [0.0], [round(v, 6) for v in high.tolist()] + [1.0]
    middle = [(a + b) / 2 for a, b in zip(q01, q99)]
    spread = [(b - a) / 4 for a, b in zip(q01, q99)]
    return {"action": dict(mean=middle, std=spread, min=[1.2 * a for a in q01], max=[1.2 * b for b in q99],
                           q01=q01, q99=q99, mask=[True] * 6 + [False]),
            "num_transitions": 1200, "num_trajectories": 20}


def make(shape, directory, seed=0, dtype=torch.float32, max_shard_bytes=7 * 10**9, statistics_of=(DATASET,),
         resize_strategy="resize-naive", text_pieces=384, own_statistics=False):
    """Writes a random checkpoint. With `own_statistics` the first data set goes to dataset_statistics.json."""
    generator = torch.Generator().manual_seed(seed)
    model = openvla.OpenVla(shape)
    randomise(model, generator)
    known = {name: statistics(generator) for name in statistics_of}
    config, preprocessor = openvla.describe(shape, known, resize_strategy, str(dtype).removeprefix("torch."))
    tokenizer = tokenizer_model(config["pad_token_id"], text_pieces)
    own = {f"{name}_finetuned": statistics(generator) for name in statistics_of[:1]} if own_statistics else None
    openvla.save(directory, model, config, preprocessor, tokenizer, own, max_shard_bytes, dtype)


def width_of(directory):
    """Of the language model, without reading its weights."""
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, "pt") as weights:
            for name in weights.keys():
                if name.endswith("embed_tokens.weight"):
                    return weights.get_slice(name).get_shape()[1]
    raise FileNotFoundError(f"{directory}: no embed_tokens.weight")


def make_oft(directory, generator):
    """Puts a state projector and the statistics of a state beside a checkpoint."""
    import openvla_oft
    projector = openvla_oft.StateProjector(sum(STATES.values()), width_of(directory))
    randomise(projector, generator)
    torch.save(torch.nn.ModuleDict({"module": projector.bfloat16()}).state_dict(),
               directory / f"{openvla_oft.PROJECTOR}--1_checkpoint.pt")
    config = openvla.read_json(directory / "config.json")
    size = sum(STATES.values())
    for entry in config["norm_stats"].values():
        entry["proprio"] = dict(mean=[0.0] * size, std=[0.5] * size, min=[-1.0] * size, max=[1.0] * size,
                                q01=[-0.9] * size, q99=[0.9] * size)
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def make_empty(shape, directory):
    """Writes a bfloat16 checkpoint of zeros as a sparse file: names and sizes, no contents."""
    with torch.device("meta"):
        tensors = openvla.OpenVla(shape, device="meta").state_dict()
    config, preprocessor = openvla.describe(shape, {DATASET: statistics(torch.Generator().manual_seed(0))},
                                            "resize-naive", "bfloat16")
    small = openvla.OpenVla(SIZES["tiny"])
    openvla.save(directory, small, config, preprocessor, tokenizer_model(config["pad_token_id"]))
    header, end = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [end, end + 2 * tensor.numel()]}
        end += 2 * tensor.numel()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(directory / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def make_adapter(checkpoint, directory, rank, alpha, seed=0):
    """Writes an adapter for all linear layers, in PEFT's layout."""
    import peft
    policy = peft.get_peft_model(openvla.load(checkpoint).model, peft.LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", init_lora_weights="gaussian"))
    random_adapter(policy, torch.Generator().manual_seed(seed + 1))
    policy.save_pretrained(directory)


def picture(rng, size, hand, target):
    """A smooth background, a target and a hand: uint8 [Y, X, 3]. Places are in [-1, 1]."""
    height, width = size
    coarse = Image.fromarray(rng.integers(90, 170, (3, 4, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    draw = ImageDraw.Draw(coarse)
    for (x, y), color, radius in ((target, (200, 60, 50), 5), (hand, (40, 60, 190), 4)):
        cx, cy = width * (0.5 + 0.4 * x), height * (0.5 + 0.4 * y)
        draw.ellipse([cx - radius, cy - radius, cx + radius, cy + radius], fill=color)
    return np.asarray(coarse)


def episode(rng, stats, size, intervened, steps):
    """A hand that moves to a target. Intervened: the policy drifts away until a person takes over."""
    low, high = np.array(stats["q01"][:6]), np.array(stats["q99"][:6])
    background = rng.integers(0, 2**31)
    hand, target = rng.uniform(-0.9, 0.9, 2), rng.uniform(-0.9, 0.9, 2)
    source = np.zeros(steps, np.int8)
    if intervened:
        source[:], source[steps // 2: 3 * steps // 4] = 1, 2
    pictures, actions = [], []
    for t in range(steps):
        pictures.append(picture(np.random.default_rng(background), size, hand, target))
        wanted = np.zeros(6)
        wanted[:2] = np.clip(3 * (target - hand), -1, 1)
        if intervened and t < steps // 2:
            wanted[:2] *= -0.5
        wanted[2:] = 0.4 * np.sin(0.7 * t + np.arange(4))
        wanted = np.clip(wanted + 0.05 * rng.standard_normal(6), -1, 1)
        grip = 1.0 if t > 0.8 * steps else 0.0
        actions.append(np.append(low + 0.5 * (wanted + 1) * (high - low), grip))
        hand = np.clip(hand + 0.15 * wanted[:2], -1, 1)
    return np.stack(pictures), np.asarray(actions, np.float32), source


def recording(path, stats, episodes, corrected, steps=16, size=(48, 64), seed=0, cameras=("agentview",), states=()):
    """Writes recorded episodes in the project's layout: demonstrations of an expert, or (`corrected`) of a policy that a
    person takes over from. `states` maps names to how many numbers each has."""
    import h5py
    rng = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["apo_schema_version"] = 1
        data.attrs["env_args"] = json.dumps({"env_name": "synthetic", "type": 2, "env_version": "",
                                             "env_kwargs": {"config": ""}})
        data.attrs["policy"], data.attrs["policy_hash"] = "scripted", ""
        total = 0
        for i in range(episodes):
            pictures, actions, source = episode(rng, stats, size, corrected, steps + 2 * i)
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = len(actions)
            demo.attrs["task_description"] = TASKS[i % len(TASKS)]
            demo.attrs["outcome"], demo.attrs["success"] = "success", 1
            demo["actions"], demo["action_source"] = actions, source
            demo["rewards"] = np.eye(1, len(actions), len(actions) - 1, dtype=np.float32)[0]
            demo["dones"] = np.eye(1, len(actions), len(actions) - 1, dtype=np.int8)[0]
            for camera in cameras:
                demo.create_dataset(f"obs/{camera}_image", data=pictures, chunks=(1, *pictures.shape[1:]),
                                    compression="gzip", compression_opts=4)
                pictures = np.ascontiguousarray(pictures[:, ::-1])  # the next one sees it from elsewhere
            for name, numbers in dict(states).items():
                demo[f"obs/{name}"] = np.cumsum(rng.normal(0, 0.2, (len(actions), numbers)), 0).astype(np.float32)
            total += len(actions)
        data.attrs["total"] = total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, help="directory of the checkpoint")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--oft", action="store_true", help="an OpenVLA-OFT: a state projector, two cameras, two states")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--shard-mb", type=float, default=2000, help="largest size of one safetensors file")
    parser.add_argument("--adapter", type=pathlib.Path, metavar="DIR",
                        help="also write a random adapter for all linear layers")
    parser.add_argument("--rank", type=int, default=32, help="rank of the adapter; alpha is 16")
    parser.add_argument("--demonstrations", type=pathlib.Path, metavar="HDF5", help="also write an expert's episodes")
    parser.add_argument("--interactions", type=pathlib.Path, metavar="HDF5",
                        help="also write a policy's episodes, each with a take-over")
    parser.add_argument("--episodes", type=int, default=3, help="in each of these files")
    options = parser.parse_args()
    if options.size == "released":
        make_empty(SIZES[options.size], options.out)
    else:
        make(SIZES[options.size], options.out, options.seed, getattr(torch, options.dtype), int(options.shard_mb * 1e6))
    if options.oft:
        make_oft(options.out, torch.Generator().manual_seed(options.seed + 2))
    print(f"checkpoint: {options.out}")
    if options.adapter:
        make_adapter(options.out, options.adapter, options.rank, 16, options.seed)
        print(f"adapter: {options.adapter}")
    stats = json.loads((options.out / "config.json").read_text())["norm_stats"][DATASET]["action"]
    for what, path in (("demonstrations", options.demonstrations), ("interactions", options.interactions)):
        if not path:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        recording(path, stats, options.episodes, what == "interactions", seed=options.seed + len(what),
                  cameras=("agentview", "wrist") if options.oft else ("agentview",), states=STATES if options.oft else ())
        print(f"{what}: {path}")


if __name__ == "__main__":
    main()
