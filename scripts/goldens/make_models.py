#!/usr/bin/env python3
"""Makes the fixtures of tests/models/goldens with torch and the Python package safetensors.

    python scripts/goldens/make_models.py            write the fixtures
    python scripts/goldens/make_models.py --check F  compare F, a file of ours, with what dtypes.safetensors holds
    python scripts/goldens/make_models.py --peft     write the adapter fixture (needs peft 0.14 or later)
    python scripts/goldens/make_models.py --check-adapter D   load D, an adapter of ours, with peft

small.safetensors    the small policy's network written once more in plain PyTorch, every tensor random: weights,
                     inputs (two cameras, padded prompts, state), logits, logits with an adapter, gradients
dtypes.safetensors   one small tensor of every element type, written by the Python package
sharded/             the same tensors in two files and an index
peft/                an adapter that peft wrote for the layers of the tests' small policy, and the change that it makes to
                     three of the weights
"""
import argparse
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

GOLDENS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "models" / "goldens"
SHAPE = dict(cameras=2, image_size=32, channels=4, width=16, layers=2, heads=2, vocabulary=9, prompt_length=6, state_size=3,
             action_size=5, action_bins=12)
BATCH, RANK, ALPHA = 3, 2, 3.0


def random_weights(generator):
    s, c, d = SHAPE, SHAPE["channels"], SHAPE["width"]
    patches = s["cameras"] * (s["image_size"] // 16) ** 2
    shapes = {}

    def layer(name, *shape, bias=True):
        shapes[name + ".weight"] = shape
        if bias:
            shapes[name + ".bias"] = shape[:1]

    layer("conv1", c, 3, 5, 5)
    layer("conv2", 2 * c, c, 3, 3)
    layer("conv3", 2 * c, 2 * c, 3, 3)
    layer("patch", d, 2 * c, 2, 2)
    layer("film1", 2 * c, d)
    layer("film2", 4 * c, d)
    layer("film3", 4 * c, d)
    shapes["word"] = (s["vocabulary"], d)
    layer("state1", d, 5 * s["state_size"])
    layer("state2", d, d)
    shapes["begin"] = (d,)
    shapes["action"] = (s["action_bins"], d)
    shapes["position"] = (patches + s["prompt_length"] + 1 + s["action_size"], d)
    for i in range(s["layers"]):
        layer(f"blocks.{i}.norm1", d)
        layer(f"blocks.{i}.qkv", 3 * d, d, bias=False)
        layer(f"blocks.{i}.out", d, d, bias=False)
        layer(f"blocks.{i}.norm2", d)
        layer(f"blocks.{i}.fc1", 4 * d, d)
        layer(f"blocks.{i}.fc2", d, 4 * d)
    layer("norm", d)
    layer("head", s["action_bins"], d)
    weights = {}
    for name, shape in shapes.items():
        scale = 0.5 if len(shape) == 1 or name in ("word", "action", "position") else 1 / math.sqrt(math.prod(shape[1:]))
        weights[name] = torch.randn(shape, generator=generator) * scale
        if "norm" in name and name.endswith("weight"):
            weights[name] += 1
    return weights


def random_adapter(weights, generator):
    adapter = {}
    for name, weight in weights.items():
        layer = name.removesuffix(".weight")
        if weight.dim() != 2 or layer == name or "norm" in name:
            continue
        adapter[f"{layer}.lora_A.weight"] = torch.randn(RANK, weight.shape[1], generator=generator) * 0.2
        adapter[f"{layer}.lora_B.weight"] = torch.randn(weight.shape[0], RANK, generator=generator) * 0.2
    return adapter


class Network:
    """Follows docs only: pictures modulated by the prompt, words, state, then the actions; padded words are unseen."""

    def __init__(self, weights, adapter=None):
        self.w, self.adapter = weights, adapter or {}

    def linear(self, name, x):
        y = F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))
        a, b = self.adapter.get(name + ".lora_A.weight"), self.adapter.get(name + ".lora_B.weight")
        return y if a is None else y + ALPHA / RANK * (x @ a.T @ b.T)

    def norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self.w[name + ".weight"], self.w[name + ".bias"])

    def picture(self, image, meaning):
        x = image
        for i, padding in ((1, 2), (2, 1), (3, 1)):
            x = F.conv2d(x, self.w[f"conv{i}.weight"], self.w[f"conv{i}.bias"], stride=2, padding=padding)
            gain, shift = self.linear(f"film{i}", meaning)[:, :, None, None].chunk(2, 1)
            x = F.gelu(x * (1 + gain) + shift)
        x = F.conv2d(x, self.w["patch.weight"], self.w["patch.bias"], stride=2)
        return x.flatten(2).transpose(1, 2)

    def block(self, i, x, visible):
        batch, length, width = x.shape
        heads = SHAPE["heads"]
        q, k, v = self.linear(f"blocks.{i}.qkv", self.norm(f"blocks.{i}.norm1", x)).split(width, -1)
        q, k, v = (t.view(batch, length, heads, width // heads).transpose(1, 2) for t in (q, k, v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(width // heads)
        shares = scores.masked_fill(~visible[:, None], -math.inf).softmax(-1)
        x = x + self.linear(f"blocks.{i}.out", (shares @ v).transpose(1, 2).reshape(batch, length, width))
        return x + self.linear(f"blocks.{i}.fc2", F.gelu(self.linear(f"blocks.{i}.fc1", self.norm(f"blocks.{i}.norm2", x))))

    def logits(self, images, prompt, prompt_mask, state, ids):
        batch, words = prompt.shape
        embedded = self.w["word"][prompt]
        meaning = torch.stack([row[mask].mean(0) for row, mask in zip(embedded, prompt_mask)]) * 8
        pictures = [self.picture(images[:, camera], meaning) for camera in range(SHAPE["cameras"])]
        features = torch.cat([state, (2 * state).sin(), (2 * state).cos(), (5 * state).sin(), (5 * state).cos()], 1)
        token = self.linear("state2", F.gelu(self.linear("state1", features)))[:, None]
        begin = self.w["begin"].expand(batch, 1, -1)
        prefix = torch.cat(pictures + [embedded, token], 1)
        x = torch.cat([prefix, begin, self.w["action"][ids[:, :-1]]], 1)
        patches = pictures[0].shape[1] * SHAPE["cameras"]
        position = torch.cat([self.w["position"][:patches + words], self.w["position"][patches + SHAPE["prompt_length"]:]])
        x = x + position
        length, before = x.shape[1], prefix.shape[1]
        visible = torch.ones(length, length).tril().bool()
        visible[:, :before] = True
        visible = visible.expand(batch, -1, -1).clone()
        visible[:, :, patches:patches + words] &= prompt_mask[:, None]
        for i in range(SHAPE["layers"]):
            x = self.block(i, x, visible)
        return self.linear("head", self.norm("norm", x[:, before:]))


def make_small():
    generator = torch.Generator().manual_seed(7)
    weights = random_weights(generator)
    adapter = random_adapter(weights, generator)
    s = SHAPE
    pixels = torch.randint(0, 256, (BATCH, s["cameras"], 3, s["image_size"], s["image_size"]), generator=generator)
    inputs = {
        "images": pixels.to(torch.uint8),
        "prompt": torch.tensor([[2, 3, 4, 5], [6, 7, 0, 0], [8, 1, 2, 0]]),
        "prompt_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]).bool(),
        "state": torch.randn(BATCH, s["state_size"], generator=generator),
        "ids": torch.randint(0, s["action_bins"], (BATCH, s["action_size"]), generator=generator),
        "mismatched": torch.randint(0, s["action_bins"], (BATCH, s["action_size"]), generator=generator),
    }
    direction = torch.randn(BATCH, s["action_size"], s["action_bins"], generator=generator)

    def run(network, ids):
        double = {k: (v.double() if v.is_floating_point() else v) for k, v in inputs.items()}
        return network.logits(double["images"].double() / 255 - 0.5, double["prompt"], double["prompt_mask"], double["state"], ids)

    exact = {k: v.double().requires_grad_() for k, v in weights.items()}
    network = Network(exact)
    logits = run(network, inputs["ids"])
    (logits * direction).sum().backward()
    adapted = run(Network(exact, {k: v.double() for k, v in adapter.items()}), inputs["ids"])
    tensors = {f"weights.{k}": v for k, v in weights.items()}
    tensors |= {f"adapter.{k}": v for k, v in adapter.items()}
    tensors |= {f"input.{k}": v for k, v in inputs.items()}
    tensors |= {
        "input.direction": direction,
        "output.logits": logits.detach().float(),
        "output.mismatched_logits": run(network, inputs["mismatched"]).detach().float(),
        "output.adapted_logits": adapted.detach().float(),
    }
    for name in ("conv1.weight", "film2.weight", "word", "state1.weight", "blocks.0.qkv.weight", "blocks.1.qkv.weight", "position"):
        tensors[f"gradient.{name}"] = exact[name].grad.float()
    save_file({k: v.contiguous() for k, v in tensors.items()}, GOLDENS / "small.safetensors",
              metadata={"shape": json.dumps(SHAPE), "alpha": str(ALPHA), "rank": str(RANK)})


def one_of_each():
    values = torch.tensor([[0.0, -1.5, 2.25], [3.0, 0.5, -64.0]])
    tensors = {f"float.{t}": values.to(getattr(torch, t)) for t in ("float64", "float32", "float16", "bfloat16")}
    counts = torch.tensor([[0, 1, 2], [3, 100, 127]])
    tensors |= {f"int.{t}": counts.to(getattr(torch, t)) for t in ("int64", "int32", "int16", "int8", "uint8")}
    tensors["bool"] = counts > 2
    tensors["scalar"] = torch.tensor(4.5)
    tensors["empty"] = torch.zeros(0, 3)
    return tensors


def make_files():
    tensors = one_of_each()
    save_file(tensors, GOLDENS / "dtypes.safetensors", metadata={"format": "pt", "note": "naïve ✓"})
    folder = GOLDENS / "sharded"
    folder.mkdir(exist_ok=True)
    names = sorted(tensors)
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, members in shards.items():
        save_file({name: tensors[name] for name in members}, folder / file, metadata={"format": "pt"})
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": {n: f for f, members in shards.items() for n in members}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def check(path):
    expected = one_of_each()
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == set(expected), (sorted(file.keys()), sorted(expected))
        for name, tensor in expected.items():
            found = file.get_tensor(name)
            assert found.dtype == tensor.dtype and found.shape == tensor.shape and torch.equal(found, tensor), name
        print(f"{path}: {len(expected)} tensors equal, metadata {file.metadata()}")


def peft_network():
    """Linear layers with the names and sizes of tests/models/small_world.h; what they compute does not matter."""
    d, c, linear = 16, 4, torch.nn.Linear
    network = torch.nn.Module()
    network.film1, network.film2, network.film3 = linear(d, 2 * c), linear(d, 4 * c), linear(d, 4 * c)
    network.state1, network.state2, network.head = linear(15, d), linear(d, d), linear(d, 16)
    network.blocks = torch.nn.ModuleList()
    for _ in range(2):
        block = torch.nn.Module()
        block.qkv, block.out = linear(d, 3 * d, bias=False), linear(d, d, bias=False)
        block.fc1, block.fc2 = linear(d, 4 * d), linear(4 * d, d)
        network.blocks.append(block)
    return network


def make_peft():
    import peft

    torch.manual_seed(3)
    targets = ["film1", "film2", "film3", "state1", "state2", "head", "qkv", "out", "fc1", "fc2"]
    model = peft.PeftModel(peft_network(), peft.LoraConfig(r=2, lora_alpha=3, use_rslora=True, target_modules=targets))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(GOLDENS / "peft")
    (GOLDENS / "peft" / "README.md").unlink(missing_ok=True)
    layers = dict(model.base_model.model.named_modules())
    change = {name: layers[name].get_delta_weight("default").detach().contiguous() for name in ("head", "film2", "blocks.1.qkv")}
    save_file(change, GOLDENS / "peft" / "change.safetensors")


def check_adapter(folder):
    import peft
    from safetensors.torch import load_file

    model = peft.PeftModel.from_pretrained(peft_network(), folder)
    state, file = model.state_dict(), load_file(f"{folder}/adapter_model.safetensors")
    for name, tensor in file.items():
        assert torch.equal(state[name.replace(".weight", ".default.weight")], tensor), name
    adapted = sum("lora_" in name for name in state)
    assert adapted == len(file), (adapted, len(file))
    print(f"{folder}: peft took all {len(file)} tensors, scaling {model.base_model.model.head.scaling}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", help="a safetensors file to compare")
    parser.add_argument("--peft", action="store_true", help="write the adapter fixture")
    parser.add_argument("--check-adapter", help="an adapter directory to load with peft")
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments.check)
    elif arguments.check_adapter:
        check_adapter(arguments.check_adapter)
    elif arguments.peft:
        make_peft()
    else:
        GOLDENS.mkdir(exist_ok=True)
        make_small()
        make_files()
