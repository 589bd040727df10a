"""A FAST tokenizer made of chunks, as `fit` of physical-intelligence/fast makes it.

Needs: pip install tokenizers scipy numpy.
"""
import json
import pathlib

import numpy as np
import scipy.fft
from tokenizers import ByteLevelBPETokenizer
from tokenizers.trainers import BpeTrainer

SCALE = 10.0


def coefficients(chunk):
    return np.around(scipy.fft.dct(chunk, axis=0, norm="ortho") * SCALE).astype(int)


def fit(chunks, vocabulary):
    """The BPE of normalised chunks [N, H, A], and the coefficient of character 0."""
    numbers = [coefficients(c).flatten() for c in chunks]
    low, high = int(min(c.min() for c in numbers)), int(max(c.max() for c in numbers))
    bpe = ByteLevelBPETokenizer()
    trainer = BpeTrainer(vocab_size=vocabulary, min_frequency=2, show_progress=False, special_tokens=[],
                         initial_alphabet=[chr(i) for i in range(high - low + 1)], max_token_length=10000)
    bpe._tokenizer.train_from_iterator(["".join(chr(c - low) for c in flat) for flat in numbers], trainer=trainer)
    return bpe._tokenizer, low


def write(directory, tokenizer, low, horizon, size, vocabulary):
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    (directory / "processor_config.json").write_text(json.dumps(
        {"action_dim": size, "min_token": low, "processor_class": "UniversalActionProcessor", "scale": SCALE,
         "time_horizon": horizon, "vocab_size": vocabulary}, indent=2) + "\n")
