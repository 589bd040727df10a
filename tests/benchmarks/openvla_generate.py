#!/usr/bin/env python3
"""Greedy decoding of 7 action tokens by transformers' generate with its key-value cache, to compare with
openvla_benchmark (greedy_decode).

    OMP_NUM_THREADS=2 python tests/benchmarks/openvla_generate.py runs/openvla_mid --batches 1 8

An observation: towers, projector, prompt, 7 new tokens over the whole vocabulary, as predict_action does (batch 1). Larger
batches repeat the task, so that nothing is padded. Pictures are preprocessed before. Prints the median, the fastest, the
processor time and observations a second.

Needs: pip install torch transformers timm sentencepiece safetensors pillow numpy, peft for --adapter.
"""
import argparse
import pathlib
import statistics
import sys
import time

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts" / "openvla"))
import make_checkpoint  # noqa: E402
import openvla  # noqa: E402

TOKENS = 7


@torch.no_grad()
def generate(model, pixels, ids, pad):
    embeddings, mask = model.multimodal(pixels, ids, torch.ones_like(ids))
    return model.language_model.generate(inputs_embeds=embeddings, attention_mask=mask, max_new_tokens=TOKENS,
                                         do_sample=False, eos_token_id=None, pad_token_id=pad)[:, -TOKENS:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--adapter", help="PEFT directory")
    parser.add_argument("--merge", action="store_true", help="merge the adapter first")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    checkpoint = openvla.load(options.checkpoint, getattr(torch, options.dtype))
    model = checkpoint.model
    if options.adapter:
        import peft
        policy = peft.PeftModel.from_pretrained(model, options.adapter)
        model = policy.merge_and_unload() if options.merge else policy.base_model.model
    rng = np.random.default_rng(0)
    for size in options.batches:
        pictures = [make_checkpoint.picture(rng, (256, 256), *rng.uniform(-0.9, 0.9, (2, 2))) for _ in range(size)]
        pixels = checkpoint.preprocess(pictures).to(getattr(torch, options.dtype))
        ids = torch.tensor([checkpoint.tokenizer.prompt_ids(make_checkpoint.TASKS[0])] * size)
        times, busy = [], []
        for _ in range(options.warmup + options.repeats):
            start, used = time.perf_counter(), time.process_time()
            out = generate(model, pixels, ids, checkpoint.tokenizer.pad)
            times.append(time.perf_counter() - start)
            busy.append(time.process_time() - used)
        times, busy = times[options.warmup:], busy[options.warmup:]
        assert out.shape == (size, TOKENS)
        print(f"batch {size}, {ids.shape[1]} prompt tokens, {options.threads} threads, {options.dtype}: "
              f"median {1e3 * statistics.median(times):.1f} ms, fastest {1e3 * min(times):.1f} ms, CPU time "
              f"{1e3 * statistics.median(busy):.1f} ms, "
              f"{size / statistics.median(times):.2f} observations/s")


if __name__ == "__main__":
    main()
