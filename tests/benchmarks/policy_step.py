#!/usr/bin/env python3
"""One training step of the built-in policy's network in eager PyTorch, to compare with policy_step_benchmark.

    OMP_NUM_THREADS=1 python tests/benchmarks/policy_step.py --batch 32 --threads 1

The step: forward, cross-entropy with Gaussian labels (3 bins), backward, clipping to norm 1, AdamW. Prints the median
and the fastest milliseconds a step and the processor's time, and the same for greedy decoding with a key-value cache.
"""
import argparse
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

SIZE, CHANNELS, WIDTH, LAYERS, HEADS, BINS, ACTIONS, STATE, WORDS, VOCABULARY = 64, 16, 64, 3, 4, 256, 7, 2, 5, 8
PATCHES = (SIZE // 16) ** 2
PREFIX = PATCHES + WORDS + 1


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x, mask=None, cache=None):
        batch, length, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            cache[:] = [k, v]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(batch, length, WIDTH)
        x = x + self.out(y)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        c = CHANNELS
        self.convolutions = nn.ModuleList([nn.Conv2d(3, c, 5, 2, 2), nn.Conv2d(c, 2 * c, 3, 2, 1), nn.Conv2d(2 * c, 2 * c, 3, 2, 1)])
        self.films = nn.ModuleList([nn.Linear(WIDTH, 2 * c), nn.Linear(WIDTH, 4 * c), nn.Linear(WIDTH, 4 * c)])
        self.patch = nn.Conv2d(2 * c, WIDTH, 2, 2)
        self.word, self.action = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(BINS, WIDTH)
        self.state = nn.Sequential(nn.Linear(5 * STATE, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.begin = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.position = nn.Parameter(torch.randn(1, PREFIX + ACTIONS, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, BINS)
        mask = torch.ones(PREFIX + ACTIONS, PREFIX + ACTIONS).tril().bool()
        mask[:, :PREFIX] = True
        self.register_buffer("mask", mask)

    def prefix(self, images, prompt, state):
        words = self.word(prompt)
        meaning, x = words.mean(1) * 8, images
        for convolution, film in zip(self.convolutions, self.films):
            gain, shift = film(meaning)[:, :, None, None].chunk(2, 1)
            x = F.gelu(convolution(x) * (1 + gain) + shift)
        features = torch.cat([state, (2 * state).sin(), (2 * state).cos(), (5 * state).sin(), (5 * state).cos()], 1)
        return torch.cat([self.patch(x).flatten(2).transpose(1, 2), words, self.state(features)[:, None]], 1)

    def forward(self, images, prompt, state, ids):
        prefix = self.prefix(images, prompt, state)
        x = torch.cat([prefix, self.begin.expand(len(prefix), 1, -1), self.action(ids[:, :-1])], 1) + self.position
        for block in self.blocks:
            x = block(x, self.mask)
        return self.head(self.norm(x[:, PREFIX:]))

    @torch.no_grad()
    def act(self, images, prompt, state):
        prefix = self.prefix(images, prompt, state)
        x = torch.cat([prefix, self.begin.expand(len(prefix), 1, -1)], 1) + self.position[:, :PREFIX + 1]
        caches, ids = [[] for _ in self.blocks], []
        for t in range(ACTIONS):
            if t:
                x = self.action(ids[-1][:, None]) + self.position[:, PREFIX + t:PREFIX + t + 1]
            for block, cache in zip(self.blocks, caches):
                x = block(x, self.mask[:PREFIX + 1, :PREFIX + 1] if t == 0 else None, cache)
            ids.append(self.head(self.norm(x[:, -1])).argmax(-1))
        return torch.stack(ids, 1)


def timed(call, repeats):
    for _ in range(5):
        call()
    times, busy = [], time.process_time()
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    busy = 1e3 * (time.process_time() - busy) / repeats
    return f"median {statistics.median(times):.2f} ms, fastest {min(times):.2f} ms, mean CPU time {busy:.2f} ms"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--channels-last", action="store_true", help="pictures and convolutions in that memory layout")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    network, batch = Network().to(memory_format=layout), options.batch
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05, betas=(0.9, 0.95))
    images = (torch.rand(batch, 3, SIZE, SIZE) - 0.5).contiguous(memory_format=layout)
    prompt, state = torch.randint(2, VOCABULARY, (batch, WORDS)), torch.randn(batch, STATE)
    ids = torch.randint(0, BINS, (batch, ACTIONS))
    bins = torch.arange(BINS)
    labels = torch.exp(-0.5 * ((bins[:, None] - bins[None]) / 3.0) ** 2)
    labels = labels / labels.sum(-1, keepdim=True)

    def step():
        loss = -(labels[ids] * network(images, prompt, state, ids).log_softmax(-1)).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    print(f"train step, batch {batch}, {options.threads} thread(s): {timed(step, options.repeats)}")
    print(f"act, batch {batch}, {options.threads} thread(s): {timed(lambda: network.act(images, prompt, state), options.repeats)}")


if __name__ == "__main__":
    main()
