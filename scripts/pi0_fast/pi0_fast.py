"""pi0-FAST in Python, in the formulas of openpi and of LeRobot: what the C++ programs are compared with.

PaliGemma is transformers' own; prompts, masks, positions, normalisation, FAST and decoding are written out here as the two
programs do them, padding included, and share nothing with the C++ code.

Needs: pip install torch transformers tokenizers sentencepiece safetensors scipy numpy pillow (transformers 5.5 or later).
"""
import json
import pathlib

import numpy as np
import scipy.fft
import sentencepiece
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer

SIGLIP_HEAD = 72


def canonical(name):
    """A tensor's name without what transformers, LeRobot, openpi and converters put in front of it."""
    if "paligemma." in name:
        name = name[name.rindex("paligemma.") + len("paligemma."):]
    name = name.removeprefix("model.")
    for old, new in (("vision_tower.vision_model.", "vision_tower."), ("language_model.model.", "language_model."),
                     ("language_model.lm_head.", "lm_head.")):
        if name.startswith(old):
            name = new + name[len(old):]
    return name


def read_weights(directory):
    directory = pathlib.Path(directory)
    tensors = {}
    for file in sorted(directory.glob("model*.safetensors")):
        tensors |= load_file(file)
    return {canonical(name): tensor.float() for name, tensor in tensors.items()}


def count(weights, pattern):
    n = 0
    while pattern.format(n) in weights:
        n += 1
    return n


def build(weights):
    """transformers' PaliGemma with these (canonical) weights; sizes are read off their shapes."""
    vision, text = "vision_tower.", "language_model.layers.0."
    table = weights.get("language_model.embed_tokens.weight", weights.get("lm_head.weight"))
    width = weights[vision + "embeddings.patch_embedding.bias"].shape[0]
    patches = weights[vision + "embeddings.position_embedding.weight"].shape[0]
    patch = weights[vision + "embeddings.patch_embedding.weight"].shape[-1]
    head = weights[text + "self_attn.k_proj.weight"].shape[0]
    siglip = transformers.SiglipVisionConfig(
        hidden_size=width, intermediate_size=weights[vision + "encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=count(weights, vision + "encoder.layers.{}.layer_norm1.weight"),
        num_attention_heads=width // SIGLIP_HEAD, image_size=int(patches ** 0.5) * patch, patch_size=patch,
        projection_dim=table.shape[1], vision_use_head=False)
    gemma = transformers.GemmaConfig(
        vocab_size=table.shape[0], hidden_size=table.shape[1], head_dim=head, num_key_value_heads=1,
        intermediate_size=weights[text + "mlp.gate_proj.weight"].shape[0],
        num_hidden_layers=count(weights, "language_model.layers.{}.input_layernorm.weight"),
        num_attention_heads=weights[text + "self_attn.q_proj.weight"].shape[0] // head, hidden_activation="gelu_pytorch_tanh")
    config = transformers.PaliGemmaConfig(
        vision_config=siglip.to_dict(), text_config=gemma.to_dict(), projection_dim=table.shape[1],
        hidden_size=table.shape[1], image_token_index=table.shape[0], tie_word_embeddings=False)
    model = transformers.PaliGemmaForConditionalGeneration._from_config(config, attn_implementation="eager")
    own = {canonical(name): name for name in model.state_dict()}
    given = dict(weights)
    given.setdefault("language_model.embed_tokens.weight", table)
    given.setdefault("lm_head.weight", table)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())  # not tied
    missing = model.load_state_dict({own[name]: tensor for name, tensor in given.items()}, strict=True)
    assert not missing.missing_keys and not missing.unexpected_keys
    return model.eval()


class Fast:
    """The FAST tokenizer's files, by the rule of malformed answers."""

    def __init__(self, directory):
        config = json.loads((pathlib.Path(directory) / "processor_config.json").read_text())
        self.scale, self.low = config["scale"], config["min_token"]
        self.bpe = Tokenizer.from_file(str(pathlib.Path(directory) / "tokenizer.json"))

    def encode(self, chunk):
        numbers = np.around(scipy.fft.dct(chunk, axis=0, norm="ortho") * self.scale).astype(int).flatten()
        return self.bpe.encode("".join(chr(max(int(n) - self.low, 0)) for n in numbers), add_special_tokens=False).ids

    def decode(self, codes, horizon, size):
        text = self.bpe.decode(codes, skip_special_tokens=False)
        numbers = [0 if c == "\ufffd" else ord(c) + self.low for c in text]
        numbers = (numbers + [0] * (horizon * size))[: horizon * size]
        return scipy.fft.idct(np.array(numbers, dtype=float).reshape(horizon, size) / self.scale, axis=0, norm="ortho")


class Normalizer:
    """x -> y and back by the dialect's formula and arithmetic."""

    def __init__(self, how, statistics, size, dialect):
        kind = np.float64 if dialect == "openpi" else np.float32
        self.s = {name: np.asarray(values, dtype=kind)[:size] for name, values in statistics.items() if values is not None}
        self.how, self.openpi = how, dialect == "openpi"

    def there(self, x):
        s = self.s
        if self.openpi:
            x = np.asarray(x, dtype=np.float32).astype(np.float64)
            if self.how == "z-score":
                return (x - s["mean"]) / (s["std"] + 1e-6)
            return (x - s["q01"]) / (s["q99"] - s["q01"] + 1e-6) * 2.0 - 1.0
        x = np.asarray(x, dtype=np.float32)
        if self.how == "MEAN_STD":
            return (x - s["mean"]) / (s["std"] + np.float32(1e-8))
        spread = np.where(s["q99"] - s["q01"] == 0, np.float32(1e-8), s["q99"] - s["q01"])
        return np.float32(2) * (x - s["q01"]) / spread - np.float32(1)

    def back(self, y):
        s = self.s
        if self.openpi:
            if self.how == "z-score":
                return y * (s["std"] + 1e-6) + s["mean"]
            return (y + 1.0) / 2.0 * (s["q99"] - s["q01"] + 1e-6) + s["q01"]
        y = np.asarray(y, dtype=np.float32)
        if self.how == "MEAN_STD":
            return y * s["std"] + s["mean"]
        spread = np.where(s["q99"] - s["q01"] == 0, np.float32(1e-8), s["q99"] - s["q01"])
        return (y + np.float32(1)) * spread / np.float32(2) + s["q01"]


def resize_openpi(image, size):
    """uint8 [Y, X, 3] -> [3, size, size] within [-1, 1]: Pillow's bilinear, black borders."""
    picture = Image.fromarray(image)
    width, height = picture.size
    if (width, height) != (size, size):
        ratio = max(width / size, height / size)
        small = picture.resize((int(width / ratio), int(height / ratio)), resample=Image.BILINEAR)
        picture = Image.new("RGB", (size, size), 0)
        picture.paste(small, (int((size - small.size[0]) / 2), int((size - small.size[1]) / 2)))
    return torch.from_numpy(np.asarray(picture).astype(np.float32) / 255.0 * 2.0 - 1.0).permute(2, 0, 1)


def resize_lerobot(image, size):
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    height, width = x.shape[2:]
    if (height, width) != (size, size):
        ratio = max(width / size, height / size)
        h, w = int(height / ratio), int(width / ratio)
        x = torch.nn.functional.interpolate(x, size=(h, w), mode="bilinear", align_corners=False).clamp(0, 1)
        top, left = divmod(size - h, 2)[0], divmod(size - w, 2)[0]
        x = torch.nn.functional.pad(x, (left, size - w - left, top, size - h - top), value=0.0)
    return x[0] * 2.0 - 1.0


class Policy:
    """A checkpoint directory in either dialect."""

    def __init__(self, directory, model=None):
        directory = pathlib.Path(directory)
        config = json.loads((directory / "config.json").read_text())
        self.openpi = config.get("dialect", "lerobot") == "openpi"
        self.text = sentencepiece.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
        self.fast = Fast(directory / "action_tokenizer")
        self.model = model if model is not None else build(read_weights(directory))
        self.image_size = self.model.config.vision_config.image_size
        if self.openpi:
            self.slots = sorted(config["image_keys"])
            self.size, self.horizon = config["action_dim"], config["action_horizon"]
            self.max_length = config["max_token_len"]
            self.delta = config.get("delta_action_dims") or []
            file = directory / "assets" / config["asset_id"] / "norm_stats.json"
            stats = json.loads(file.read_text())["norm_stats"]
            how = {"state": config["normalization"], "action": config["normalization"]}
            stats = {"state": stats["state"], "action": stats["actions"]}
        else:
            self.slots = [k.removeprefix("observation.images.") for k, f in config["input_features"].items()
                          if f["type"] == "VISUAL"]
            self.size, self.horizon = config["output_features"]["action"]["shape"][0], config["chunk_size"]
            self.max_prompt, self.max_answer = config["tokenizer_max_length"], config["max_action_tokens"]
            self.delta = []
            steps = json.loads((directory / "policy_preprocessor.json").read_text())["steps"]
            step = next(s for s in steps if s["registry_name"] == "normalizer_processor")
            tensors = load_file(directory / step["state_file"])
            stats = {ours: {name.rsplit(".", 1)[1]: t.numpy() for name, t in tensors.items() if name.startswith(theirs + ".")}
                     for ours, theirs in (("state", "observation.state"), ("action", "action"))}
            how = {"state": step["config"]["norm_map"]["STATE"], "action": step["config"]["norm_map"]["ACTION"]}
        self.stats, self.how = stats, how
        self.steps = config["max_decoding_steps"]
        self.skip = config.get("fast_skip_tokens", 128)
        self.first_code = self.text.get_piece_size() - 1 - self.skip
        self.prefix, self.bar = self.text.encode("Action: "), self.text.encode("|")

    def normalizer(self, part, size):
        return Normalizer(self.how[part], self.stats[part], size, "openpi" if self.openpi else "lerobot")

    def prompt(self, task, state, pad_state_to=0):
        state = self.normalizer("state", len(state)).there(state)
        state = np.concatenate([state, np.zeros(max(0, pad_state_to - len(state)), dtype=state.dtype)])
        bins = np.digitize(state, bins=np.linspace(-1, 1, 256 + 1)[:-1]) - 1
        text = task.lower().strip().replace("_", " ") if self.openpi else task.strip().replace("_", " ").replace("\n", " ")
        ids = [self.text.bos_id(), *self.text.encode(f"Task: {text}, State: {' '.join(map(str, bins))};\n")]
        return ids if self.openpi else ids[: self.max_prompt]

    def answer(self, chunk, state, prompt):
        """The ids that are scored: of [horizon, size] actions in environment units."""
        actions = np.array(chunk, dtype=np.float32).astype(np.float64)
        actions[:, self.delta] -= np.asarray(state, dtype=np.float64)[self.delta]
        if not self.openpi:
            actions = actions.astype(np.float32)
        codes = self.fast.encode(self.normalizer("action", self.size).there(actions))
        ids = self.prefix + [self.first_code - c for c in codes] + self.bar + [self.text.eos_id()]
        return ids[: self.max_length - len(prompt)] if self.openpi else ids[: self.max_answer - 1]

    def actions(self, ids, state):
        """What an answer means, [horizon, size] in environment units, by the fixed rule."""
        ids = list(ids)
        if self.bar[0] in ids:
            ids = ids[: ids.index(self.bar[0])]
        if ids[: len(self.prefix)] == self.prefix:
            ids = ids[len(self.prefix):]
        codes = [self.first_code - i for i in ids if 0 <= self.first_code - i < self.fast.bpe.get_vocab_size()]
        actions = self.normalizer("action", self.size).back(self.fast.decode(codes, self.horizon, self.size))
        actions = np.array(actions, dtype=np.float64)
        actions[:, self.delta] += np.asarray(state, dtype=np.float64)[self.delta]
        return actions

    def pictures(self, images):
        """One [Y, X, 3] picture a slot, or None -> [N, 3, Y, X], and which are seen."""
        resize = resize_openpi if self.openpi else resize_lerobot
        there = [resize(i, self.image_size) if i is not None else None for i in images]
        absent = -torch.ones(3, self.image_size, self.image_size)
        if self.openpi:
            return torch.stack([absent if x is None else x for x in there]), [True] * len(there)
        present = [x for x in there if x is not None]  # LeRobot: absent ones last, masked
        return torch.stack(present + [absent] * (len(there) - len(present))), [i < len(present) for i in range(len(there))]

    def run(self, pictures, seen, tokens, token_mask, causal, gap_at=None):
        """Hidden states of one sequence [patches, tokens]: `causal` marks tokens of the answer; from token `gap_at` on,
        positions are one too far (openpi's decoder)."""
        inner = self.model.model
        features = inner.get_image_features(pictures)
        features = getattr(features, "pooler_output", features)
        rows = torch.cat([features.reshape(-1, features.shape[-1]),
                          inner.get_input_embeddings()(torch.tensor(tokens))])[None]
        per_picture = features.shape[1]
        mask = torch.tensor([s for s in seen for _ in range(per_picture)] + list(token_mask))
        steps = torch.cumsum(torch.tensor([0] * (len(seen) * per_picture) + [int(c) for c in causal]), 0)
        visible = (steps[None, :] <= steps[:, None]) & mask[None, :] & mask[:, None]
        additive = torch.where(visible, 0.0, -2.3819763e38)[None, None]
        positions = torch.cumsum(mask.int(), 0) - 1
        if gap_at is not None:
            positions[len(seen) * per_picture + gap_at:] += 1
        return inner.language_model(inputs_embeds=rows, attention_mask=additive,
                                    position_ids=positions.clamp(min=0)[None]).last_hidden_state[0]

    def score(self, images, prompt, answer):
        """Log-probabilities of an answer's tokens, with padding where the programs have it."""
        pictures, seen = self.pictures(images)
        if self.openpi:
            tokens = prompt + answer
            pad = self.max_length - len(tokens)
            hidden = self.run(pictures, seen, tokens + [0] * pad, [True] * len(tokens) + [False] * pad,
                              [False] * len(prompt) + [True] * (len(answer) + pad))
            first = hidden.shape[0] - self.max_length + len(prompt) - 1
        else:
            pad, behind = self.max_prompt - len(prompt), self.max_answer - len(answer) - 1
            tokens = prompt + [0] * pad + [self.text.bos_id()] + answer + [0] * behind
            mask = [True] * len(prompt) + [False] * pad + [True] * (len(answer) + 1) + [False] * behind
            hidden = self.run(pictures, seen, tokens, mask, [False] * self.max_prompt + [True] * self.max_answer)
            first = hidden.shape[0] - self.max_answer
        rows = hidden[first: first + len(answer)]
        return self.model.lm_head(rows).float().log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]

    @torch.no_grad()
    def greedy(self, images, prompt, released=False):
        """Greedy ids without a cache, up to and with the end token."""
        pictures, seen = self.pictures(images)
        ids = []
        while len(ids) < self.steps:
            begin = [] if self.openpi else [self.text.bos_id()]
            tokens = prompt + begin + ids
            in_prompt = len(prompt) + (len(begin) if released else 0)
            gap = len(prompt) if self.openpi and released else None
            hidden = self.run(pictures, seen, tokens, [True] * len(tokens),
                              [i >= in_prompt for i in range(len(tokens))], gap)
            ids.append(int(self.model.lm_head(hidden[-1]).argmax()))
            if ids[-1] == self.text.eos_id():
                break
        return ids
