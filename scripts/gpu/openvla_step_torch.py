"""The released program's training step in PyTorch with random weights, beside the GPU check's openvla item.

As tests/benchmarks/openvla_step.py, but without files and timm: a Llama of transformers, two vision towers of the
same sizes, a projector, LoRA of rank 32 on all linear layers by peft (the patch convolutions carry none), a
second full copy as the reference. Logits of the whole sequence, their log-softmax in float32 for the labels
and once more for the shifted labels, the released APO loss, backward, Adam. Where the memory does not hold
a batch of 8, half of it is tried. Prints one JSON line as apo-gpu-check does.
"""

import argparse
import gc
import json
import statistics
import sys
import time

import peft
import torch
import torch.nn.functional as F
import transformers

BETA, KL_LIMIT, RATE, RANK, IGNORED = 0.1, 5.0, 5e-5, 32, -100
BINS = 256
PROMPTS = (24, 32, 27, 30)  # text tokens of the instructions, begin token included
ACTIONS = 7

SIZES = {
    "released": dict(
        dino=(1024, 24, 16, 4096),
        siglip=(1152, 27, 16, 4304),
        image=224,
        projector=8704,
        vocabulary=32064,
        width=4096,
        layers=32,
        heads=32,
        mlp=11008,
    ),
    "tiny": dict(
        dino=(128, 3, 2, 256),
        siglip=(144, 3, 2, 256),
        image=56,
        projector=256,
        vocabulary=1024,
        width=128,
        layers=3,
        heads=4,
        mlp=256,
    ),
}


class VisionBlock(torch.nn.Module):
    def __init__(self, width, heads, mlp, scaled):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = torch.nn.LayerNorm(width, eps=1e-6), torch.nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.fc1, self.fc2 = torch.nn.Linear(width, mlp), torch.nn.Linear(mlp, width)
        self.scale1 = torch.nn.Parameter(torch.ones(width)) if scaled else None
        self.scale2 = torch.nn.Parameter(torch.ones(width)) if scaled else None

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        update = self.proj(
            F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
        )
        x = x + (update if self.scale1 is None else update * self.scale1)
        update = self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return x + (update if self.scale2 is None else update * self.scale2)


class Tower(torch.nn.Module):
    """As timm's, up to the second-to-last block."""

    def __init__(self, width, depth, heads, mlp, image, extra):
        super().__init__()
        self.patch = torch.nn.Conv2d(3, width, 14, 14)
        self.position = torch.nn.Parameter(torch.zeros(1, (image // 14) ** 2, width))
        self.extra = torch.nn.Parameter(torch.zeros(1, extra, width)) if extra else None
        self.blocks = torch.nn.ModuleList(VisionBlock(width, heads, mlp, extra > 0) for _ in range(depth))

    def forward(self, images):
        x = self.patch(images).flatten(2).transpose(1, 2) + self.position
        if self.extra is not None:
            x = torch.cat([self.extra.expand(len(x), -1, -1), x], 1)
        for block in self.blocks[:-1]:
            x = block(x)
        return x[:, -self.position.shape[1] :]


class OpenVla(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.dino = Tower(*size["dino"], size["image"], 5)  # a class token and four registers
        self.siglip = Tower(*size["siglip"], size["image"], 0)
        joint = size["dino"][0] + size["siglip"][0]
        self.fc1 = torch.nn.Linear(joint, size["projector"])
        self.fc2 = torch.nn.Linear(size["projector"], size["width"])
        self.fc3 = torch.nn.Linear(size["width"], size["width"])
        self.language = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=size["vocabulary"],
                hidden_size=size["width"],
                intermediate_size=size["mlp"],
                num_hidden_layers=size["layers"],
                num_attention_heads=size["heads"],
                num_key_value_heads=size["heads"],
                rms_norm_eps=1e-6,
                use_cache=False,
            )
        )

    def forward(self, images, ids, mask):
        features = torch.cat([self.dino(images[:, :3]), self.siglip(images[:, 3:])], 2)
        features = self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(features)))))
        words = self.language.get_input_embeddings()(ids)
        sequence = torch.cat([words[:, :1], features, words[:, 1:]], 1)
        seen = torch.cat([mask[:, :1], mask.new_ones(features.shape[:2]), mask[:, 1:]], 1)
        return self.language(inputs_embeds=sequence, attention_mask=seen, use_cache=False).logits


def random_policy(size, device, trained):
    """Made on the device in bfloat16, filled in place."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = OpenVla(size)
            policy = peft.get_peft_model(
                model,
                peft.LoraConfig(
                    r=RANK, lora_alpha=16, target_modules="all-linear", init_lora_weights="gaussian"
                ),
                autocast_adapter_dtype=False,
            )  # adapters in bfloat16, as released
    finally:
        torch.set_default_dtype(before)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 1e-3)
            elif "norm" in name and name.endswith("weight") or "scale" in name:
                parameter.fill_(1)
            elif name.endswith("bias"):
                parameter.zero_()
            elif "lora_A" not in name:
                parameter.normal_(0, 0.02)
    return policy.train() if trained else policy.eval().requires_grad_(False)


def make_batch(size, count, device):
    """Right-padded prompts and answers, as released; an answer is seven action tokens and the end token."""
    lengths = [PROMPTS[i % len(PROMPTS)] for i in range(count)]
    longest = max(lengths) + ACTIONS + 1
    ids = torch.zeros(count, longest, dtype=torch.long)
    mask = torch.zeros(count, longest, dtype=torch.bool)
    labels = torch.full((count, longest), IGNORED)
    answers = torch.randint(size["vocabulary"] - BINS, size["vocabulary"], (count, ACTIONS))
    for row, length in enumerate(lengths):
        end = length + ACTIONS + 1
        ids[row, :length] = torch.randint(3, size["vocabulary"] - BINS, (length,))
        ids[row, length : end - 1] = answers[row]
        ids[row, end - 1] = 2
        mask[row, :end] = True
        labels[row, length:end] = ids[row, length:end]
    shifted = torch.full_like(labels, IGNORED)  # the next sample's answer where this one's is
    for row, length in enumerate(lengths):
        following = (row + 1) % count
        shifted[row, length : length + ACTIONS] = answers[following]
        shifted[row, length + ACTIONS] = 2
    images = torch.randn(count, 6, size["image"], size["image"]).to(torch.bfloat16)
    desirable = torch.arange(count) < max(1, 3 * count // 4)
    return {
        name: tensor.to(device)
        for name, tensor in dict(
            images=images, ids=ids, mask=mask, labels=labels, shifted=shifted, desirable=desirable
        ).items()
    }


def log_probs(logits, labels):
    labels, logits = labels[:, 1:].clone(), logits[:, :-1]
    mask = labels != IGNORED
    labels[~mask] = 0
    masked = logits.float() * mask[..., None]  # computed and thrown away by the released step
    return masked, logits.float().log_softmax(-1).gather(2, labels[..., None]).squeeze(2) * mask


def forward(model, batch, vocabulary):
    logits = model(batch["images"], batch["ids"], batch["mask"])
    labels = batch["labels"]
    patches = logits.shape[1] - labels.shape[1]
    all_labels = torch.cat(
        [labels[:, :1], labels.new_full((len(labels), patches), IGNORED), labels[:, 1:]], 1
    )
    unused = [
        F.cross_entropy(logits[:, :-1].float().flatten(0, 1), all_labels[:, 1:].flatten())
    ]  # as transformers does
    text = logits[:, -labels.shape[1] :]
    kept, own = log_probs(text, labels)
    other, mismatched = log_probs(text, batch["shifted"])
    unused += [kept, other]
    predicted = logits[:, patches:-1].argmax(2)
    actions = labels[:, 1:] >= vocabulary - BINS
    # the released program decodes with numpy, on the host
    errors = (
        (predicted[actions].cpu() - labels[:, 1:][actions].cpu()).abs().float().view(len(labels), -1).mean(1)
        * 2
        / BINS
    )
    return own, mismatched, errors.clamp(max=2).to(logits.device), unused


def step_loss(policy, reference, batch, vocabulary):
    own, mismatched, errors, kept = forward(policy, batch, vocabulary)
    with torch.no_grad():
        own_reference, mismatched_reference, _, kept_reference = forward(reference, batch, vocabulary)
    # z0 and the undesirable rewards leave the end token out, the desirable ones keep it
    z0 = (mismatched[:, :-1].sum(1) - mismatched_reference[:, :-1].sum(1)).detach().mean()
    z0 = z0.clamp(-KL_LIMIT, KL_LIMIT)
    good = batch["desirable"]
    good_rewards = own[good].sum(1) - own_reference[good].sum(1)
    bad_rewards = own[~good][:, :-1].sum(1) - own_reference[~good][:, :-1].sum(1)
    losses = torch.cat(
        [1 - torch.sigmoid(BETA * (good_rewards - z0)), 1 - torch.sigmoid(BETA * (z0 - bad_rewards))]
    )
    shares = [(e + 1e-4) / (e.sum() + 1e-4) for e in (errors[good], errors[~good])]
    return (losses * torch.cat([1 - torch.exp(-shares[0]), torch.exp(-shares[1])])).sum()


def wait(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def run(size, device, count, steps):
    policy, reference = random_policy(size, device, True), random_policy(size, device, False)
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=RATE)
    batch = make_batch(size, count, device)
    on_cuda = device.startswith("cuda")
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    times, loss = [], None
    for i in range(2 + steps):
        wait(device)
        begin = time.perf_counter()
        value = step_loss(policy, reference, batch, size["vocabulary"])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        loss = value.item()
        wait(device)
        if i >= 2:
            times.append(time.perf_counter() - begin)
    middle = statistics.median(times)
    return {
        "train": {
            "median_ms": 1e3 * middle,
            "fastest_ms": 1e3 * min(times),
            "repeats": len(times),
            "batch": count,
            "samples_per_second": count / middle,
            "last_loss": loss,
            "peak_bytes": torch.cuda.max_memory_allocated() if on_cuda else 0,
        },
        "text_tokens": batch["ids"].shape[1],
        "patches": (size["image"] // 14) ** 2,
        "parameters": sum(parameter.numel() for parameter in policy.parameters()),
        "trained_parameters": sum(parameter.numel() for parameter in trained),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    result = {
        "item": "openvla-torch",
        "device": options.device,
        "verdict": "passed",
        "numbers": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        "message": "",
    }
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            json.dumps(
                result | {"device": "none", "verdict": "no device", "message": "torch finds no CUDA device"}
            )
        )
        return 0
    torch.manual_seed(7)
    released = options.device.startswith("cuda") and not options.small
    for count in (8, 4, 2, 1):
        message = None
        try:
            result["numbers"] |= run(
                SIZES["released" if released else "tiny"], options.device, count, 10 if released else 3
            )
        except torch.OutOfMemoryError as error:
            message = f"a batch of {count}: {str(error).splitlines()[0]}"
        if message is None:
            break
        result["message"] = message  # said even where a smaller batch fits
        gc.collect()
        torch.cuda.empty_cache()
    train = result["numbers"].get("train")
    if train is None:
        result["verdict"] = "failed"
    elif not abs(train["last_loss"]) < float("inf"):
        result["verdict"], result["message"] = "failed", f"expected a finite loss, found {train['last_loss']}"
    print(json.dumps(result), flush=True)
    return 0 if result["verdict"] == "passed" else 1


if __name__ == "__main__":
    sys.exit(main())
