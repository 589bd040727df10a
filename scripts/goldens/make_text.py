#!/usr/bin/env python3
"""Makes tests/tokenizers/goldens/merged: a made-up tokenizer set up as Gemma's, in both forms, and what they split.

    python scripts/goldens/make_text.py

Needs: pip install torch transformers tokenizers sentencepiece protobuf safetensors scipy numpy pillow. Made with
transformers 5.23 and tokenizers 0.23.

tokenizer.model   the SentencePiece model
tokenizer.json    what transformers makes of it, with added tokens behind its vocabulary
text.json         texts and their ids, by `tokenizers`; the same as SentencePiece's
"""
import json
import pathlib
import sys
import tempfile

import numpy as np
import sentencepiece
import transformers
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "tokenizers" / "goldens" / "merged"
sys.path.insert(0, str(ROOT / "scripts" / "pi0_fast"))
import make_checkpoint  # noqa: E402

TEXTS = ["Task: pick up the red block, State: 12 128 255;\n", "Action: ", "|", "  two  spaces ", "a\tb\r\n", "",
         "na\u00efve \u6771\u4eac \U0001F600\n\n\n", "2048", "Action Actions action:", "x" * 40, "\u2581\u2581", "<0x41>"]


def random_texts(count):
    rng = np.random.default_rng(3)
    characters = list("abcdefghijklmnopqrstuvwxyz ABCDEFGH 0123456789 .,:;|\n") + list("\u00e4\u00df\u4e00\u4e8c\u20ac")
    words = "robot arm hand block red green Task State Action stack the".split()
    for _ in range(count):
        parts = [str(rng.choice(words)) if rng.random() < 0.5 else "".join(rng.choice(characters, rng.integers(1, 9)))
                 for _ in range(rng.integers(1, 8))]
        yield " ".join(parts)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "tokenizer.model").write_bytes(make_checkpoint.tokenizer_model(600))
    with tempfile.TemporaryDirectory() as folder:
        transformers.GemmaTokenizer.from_pretrained(str(OUT)).save_pretrained(folder)
        made = json.loads((pathlib.Path(folder) / "tokenizer.json").read_text())
    (OUT / "tokenizer.json").write_text(json.dumps(made, ensure_ascii=False, separators=(",", ":")) + "\n")
    theirs = Tokenizer.from_file(str(OUT / "tokenizer.json"))
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(OUT / "tokenizer.model"))
    texts = []
    for text in [*TEXTS, *random_texts(200)]:
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ids == pieces.encode(text), text
        texts.append({"text": text, "ids": ids})
    (OUT / "text.json").write_text(json.dumps({"size": pieces.get_piece_size(), "bos": pieces.bos_id(), "eos": pieces.eos_id(),
                                               "texts": texts}, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
