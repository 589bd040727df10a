#!/usr/bin/env python3
"""One APO training step of an OpenVLA as the released code does it, in PyTorch, to compare with openvla_benchmark (train_step).

    python scripts/openvla/make_checkpoint.py --size mid runs/openvla_mid
    OMP_NUM_THREADS=2 python tests/benchmarks/openvla_step.py runs/openvla_mid

The step: the policy is a base with a LoRA adapter on all linear layers (peft; the head and the patch embeddings, too, as
the released program's peft 0.11.1 reads "all-linear"), the reference a second full copy of both;
logits of the whole sequence, log-softmax of all text positions for the labels and once more for the shifted labels, the
released APO loss (beta 0.1, z0 clamped to [-5, 5], batch-level weights), backward, Adam. Three quarters of the batch are
desirable. --lean leaves out what the released step computes and throws away (cross-entropy, masked logits).
Prints samples a second (median of the repeats), the processor time of a step and the peak memory of the process, model
loading included.

Needs: pip install torch transformers timm peft sentencepiece safetensors pillow numpy.
"""
import argparse
import pathlib
import resource
import statistics
import sys
import time

import numpy as np
import peft
import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts" / "openvla"))
import make_checkpoint  # noqa: E402
import openvla  # noqa: E402

BETA, KL_LIMIT, RATE = 0.1, 5.0, 5e-5


def peak_megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def adapted(checkpoint, adapter, rank, trainable):
    model = openvla.load(checkpoint).model
    if adapter:
        policy = peft.PeftModel.from_pretrained(model, adapter, is_trainable=trainable)
    else:
        policy = peft.get_peft_model(model, peft.LoraConfig(r=rank, lora_alpha=16, target_modules=openvla.released_targets(model),
                                                            init_lora_weights="gaussian"))
        make_checkpoint.random_adapter(policy, torch.Generator().manual_seed(0))
    return policy.train() if trainable else policy.requires_grad_(False)


def make_batch(checkpoint, size, seed=0):
    rng = np.random.default_rng(seed)
    prompts = [checkpoint.tokenizer.prompt_ids(make_checkpoint.TASKS[i % len(make_checkpoint.TASKS)]) for i in range(size)]
    answers = [[*checkpoint.tokenizer.action_ids(rng.uniform(-1, 1, 7)), checkpoint.tokenizer.end] for _ in range(size)]
    ids, mask, labels = openvla.sequences(prompts, answers, checkpoint.tokenizer.pad)
    pictures = [make_checkpoint.picture(rng, (256, 256), *rng.uniform(-0.9, 0.9, (2, 2))) for _ in range(size)]
    _, _, mismatched = openvla.sequences(prompts, answers[1:] + answers[:1], checkpoint.tokenizer.pad)
    desirable = torch.arange(size) < (3 * size + 3) // 4
    return dict(pixel_values=checkpoint.preprocess(pictures), input_ids=ids, attention_mask=mask, labels=labels,
                mismatched=mismatched, desirable=desirable)


def log_probs(logits, labels, lean):
    labels, logits = labels[:, 1:].clone(), logits[:, :-1]
    mask = labels != openvla.IGNORED
    labels[~mask] = 0
    masked = None if lean else logits.float() * mask[..., None]
    return masked, logits.float().log_softmax(-1).gather(2, labels[..., None]).squeeze(2) * mask


def forward(model, batch, checkpoint, lean):
    logits = model(pixel_values=batch["pixel_values"], input_ids=batch["input_ids"],
                   attention_mask=batch["attention_mask"])
    labels = batch["labels"]
    patches = logits.shape[1] - labels.shape[1]
    unused = []
    if not lean:  # transformers computes it because labels are passed
        all_labels = torch.cat([labels[:, :1], labels.new_full((len(labels), patches), openvla.IGNORED), labels[:, 1:]], 1)
        unused.append(F.cross_entropy(logits[:, :-1].float().flatten(0, 1), all_labels[:, 1:].flatten()))
    text = logits[:, -labels.shape[1]:]
    kept, own = log_probs(text, labels, lean)
    other, mismatched = log_probs(text, batch["mismatched"], lean)
    unused += [kept, other]
    predicted = logits[:, patches:-1].argmax(2)
    actions = labels[:, 1:] >= checkpoint.tokenizer.vocabulary - 256
    decode = checkpoint.tokenizer.actions
    errors = np.abs(decode(predicted[actions].numpy()) - decode(labels[:, 1:][actions].numpy())).reshape(len(labels), -1)
    return own, mismatched, torch.from_numpy(errors).mean(1).float(), unused


def step_loss(policy, reference, batch, checkpoint, lean):
    own, mismatched, errors, kept = forward(policy, batch, checkpoint, lean)
    with torch.no_grad():
        own_reference, mismatched_reference, _, kept_reference = forward(reference, batch, checkpoint, lean)
    z0 = (mismatched[:, :-1].sum(1) - mismatched_reference[:, :-1].sum(1)).detach().mean().clamp(-KL_LIMIT, KL_LIMIT)
    good = batch["desirable"]
    good_rewards = own[good].sum(1) - own_reference[good].sum(1)
    bad_rewards = own[~good][:, :-1].sum(1) - own_reference[~good][:, :-1].sum(1)
    losses = torch.cat([1 - torch.sigmoid(BETA * (good_rewards - z0)), 1 - torch.sigmoid(BETA * (z0 - bad_rewards))])
    shares = [(e + 1e-4) / (e.sum() + 1e-4) for e in (errors[good], errors[~good])]
    weights = torch.cat([1 - torch.exp(-shares[0]), torch.exp(-shares[1])])
    return (losses * weights).sum()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--adapter", help="PEFT directory; without it a random adapter")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--lean", action="store_true", help="leave out the released step's unused results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    checkpoint = openvla.load(options.checkpoint)
    checkpoint.model = None
    policy = adapted(options.checkpoint, options.adapter, options.rank, True)
    reference = adapted(options.checkpoint, options.adapter, options.rank, False)
    trainable = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=RATE)
    batch = make_batch(checkpoint, options.batch)
    loaded = peak_megabytes()
    times, busy = [], []
    for _ in range(options.warmup + options.repeats):
        start, used = time.perf_counter(), time.process_time()
        loss = step_loss(policy, reference, batch, checkpoint, options.lean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
        busy.append(time.process_time() - used)
    times, busy = times[options.warmup:], busy[options.warmup:]
    patches = (checkpoint.config["image_sizes"][0] // openvla.PATCH) ** 2
    print(f"batch {options.batch}, {patches} patches, {batch['input_ids'].shape[1]} text tokens "
          f"({batch['attention_mask'].sum(1).tolist()}), {sum(p.numel() for p in trainable)} trained parameters, "
          f"{options.threads} threads, float32{', lean' if options.lean else ''}")
    print(f"step {statistics.median(times):.2f} s median, {min(times):.2f} s fastest of {options.repeats}, "
          f"CPU time {statistics.median(busy):.2f} s; {options.batch / statistics.median(times):.3f} samples/s; last loss {loss.item():.6f}")
    print(f"peak memory {peak_megabytes():.0f} MiB, of it {loaded:.0f} MiB before the first step")


if __name__ == "__main__":
    main()
