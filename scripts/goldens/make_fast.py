#!/usr/bin/env python3
"""Makes tests/tokenizers/goldens/fast with scipy's DCT and the byte-level BPE of `tokenizers`.

    python scripts/goldens/make_fast.py

Needs: pip install tokenizers scipy numpy. Made with tokenizers 0.22.2.

VARIANT letters (zero is a letter) and mixed (zero is a sign, between digits, blanks and quotes):
VARIANT/tokenizer.json, processor_config.json    a FAST tokenizer, fitted as its processor fits one
fast.json   by variant: horizon, action_size, fitted_on [N][H A] chunks and the vocabulary it was fitted with;
            chunks [n][H A], ids [n][.], decoded [n][H A]; answers: lists of ids, most of them no code, and what they are
            by the fixed rule: coefficients (U+FFFD is 0, filled up with 0 or cut) and whether they are malformed;
            texts: characters by number, their words and ids
dct.json    numbers [H][A] and their orthonormal DCT-II for several H
"""
import json
import pathlib
import sys

import numpy as np
import scipy.fft
import tokenizers
from tokenizers import pre_tokenizers

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "tokenizers" / "goldens" / "fast"
sys.path.insert(0, str(ROOT / "scripts" / "pi0_fast"))
import fit_fast  # noqa: E402

SCALE = fit_fast.SCALE
coefficients = fit_fast.coefficients


def walks(random, count, horizon, size, step=0.3):
    chunks = np.cumsum(random.normal(0, step, (count, horizon, size)), axis=1)
    chunks += random.normal(0, 0.4, (count, 1, size))
    chunks[:, :, -1] = np.where(random.random((count, 1)) < 0.5, -1.0, 1.0)  # a gripper
    return np.round(chunks, 4)


def encode(tokenizer, low, chunk):
    text = "".join(chr(max(int(c) - low, 0)) for c in coefficients(chunk).flatten())
    return tokenizer.encode(text, add_special_tokens=False).ids


def by_the_rule(tokenizer, low, ids, horizon, size):
    text = tokenizer.decode(ids, skip_special_tokens=False)
    numbers = [0 if c == "\ufffd" else ord(c) + low for c in text]
    malformed = "\ufffd" in text or len(numbers) != horizon * size or any(i >= tokenizer.get_vocab_size() for i in ids)
    return (numbers + [0] * (horizon * size))[: horizon * size], malformed


def actions(numbers, horizon, size):
    return scipy.fft.idct(np.array(numbers).reshape(horizon, size) / SCALE, axis=0, norm="ortho")


def make(variant, seed, horizon, size, vocabulary, outlier):
    random = np.random.default_rng(seed)
    fitted_on = walks(random, 60, horizon, size)
    fitted_on[0, :, 0] = outlier
    tokenizer, low = fit_fast.fit(fitted_on, vocabulary)
    fit_fast.write(OUT / variant, tokenizer, low, horizon, size, vocabulary)

    chunks = walks(random, 12, horizon, size)
    chunks[1] *= 4  # beyond what it was fitted on
    ids = [encode(tokenizer, low, c) for c in chunks]
    decoded = [actions(by_the_rule(tokenizer, low, i, horizon, size)[0], horizon, size) for i in ids]

    answers = [list(i) for i in ids[:3]] + [ids[0][:-1], ids[0] + ids[1], [], [tokenizer.get_vocab_size() + 5] + ids[2]]
    answers += [[int(i) for i in random.integers(0, tokenizer.get_vocab_size(), int(random.integers(1, 40)))]
                for _ in range(40)]
    ruled = [by_the_rule(tokenizer, low, a, horizon, size) for a in answers]

    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    texts = ["'s 't're've 'm'll'd'", "a  b   c ", "  ", "don't  12 3a4", "\n\n x\t\ty", "!? ?a' 's", "\u0660\u0661 \u00e9\u0301 \u3000\u3000z"]
    texts += ["".join(chr(int(c)) for c in random.integers(0, high, int(random.integers(1, 30))))
              for high in (60, 130, 1200) for _ in range(20)]
    texts += ["".join(random.choice(list(" '\u00a0stlredvm1a!\n"), 20)) for _ in range(20)]
    return {
        "horizon": horizon, "action_size": size, "vocabulary": vocabulary,
        "fitted_on": fitted_on.reshape(len(fitted_on), -1).tolist(),
        "chunks": chunks.reshape(len(chunks), -1).tolist(), "ids": ids,
        "decoded": np.round(np.reshape(decoded, (len(chunks), -1)), 9).tolist(),
        "answers": answers, "coefficients": [[int(n) for n in r[0]] for r in ruled], "malformed": [bool(r[1]) for r in ruled],
        "texts": [{"characters": [ord(c) for c in text],
                   "words": [list(span) for _, span in split.pre_tokenize_str(text)],
                   "ids": tokenizer.encode(text, add_special_tokens=False).ids} for text in texts],
    }


OUT.mkdir(parents=True, exist_ok=True)
result = {"letters": make("letters", 1, 10, 3, 512, -10.0), "mixed": make("mixed", 2, 8, 4, 300, -2.0)}
(OUT / "fast.json").write_text(json.dumps(result) + "\n")
random = np.random.default_rng(3)
dcts = []
for horizon in (1, 2, 7, 10, 16, 50):
    numbers = np.round(random.normal(0, 1, (horizon, 2)), 4)
    dcts.append({"numbers": numbers.tolist(), "dct": scipy.fft.dct(numbers, axis=0, norm="ortho").tolist()})
(OUT / "dct.json").write_text(json.dumps(dcts) + "\n")
for variant, numbers in result.items():
    print(variant, tokenizers.__version__, "malformed", sum(numbers["malformed"]), "of", len(numbers["malformed"]),
          "mean length", np.mean([len(i) for i in numbers["ids"]]))
