"""OpenVLA-OFT with discrete action tokens in plain PyTorch, on the network of openvla.py.

One pass decides a chunk: behind the prompt stand as many zero vectors as there are action tokens and an end token, Llama
runs without a causal mask, and the logits one place before each zero vector say its token.

Needs: what openvla.py needs.

    import openvla, openvla_oft
    checkpoint = openvla.load("openvla-oft", dtype=torch.bfloat16)
    oft = openvla_oft.Settings.of("openvla-oft")
    logits = openvla_oft.chunk_logits(checkpoint.model, pixel_values, prompts, oft.chunk_steps * 7, stop=2)
"""
import pathlib
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import openvla

PROJECTOR = "proprio_projector"


@dataclass
class Settings:
    """What no tensor says of a checkpoint: the member "apo" of config.json, as the programs write it."""

    chunk_steps: int
    stop_token: bool = True
    action_normalization: str = "quantiles"
    cameras: list = field(default_factory=list)
    state_keys: list = field(default_factory=list)
    score_among: str = "actions"
    resize: str = "bicubic"

    @staticmethod
    def of(*directories):
        """Of the first directory whose config.json says it; None where none does."""
        for directory in directories:
            if directory:
                block = openvla.read_json(pathlib.Path(directory) / "config.json", {}).get("apo")
                if block:
                    return Settings(**block)
        return None


class StateProjector(nn.Module):
    """A normalised state -> one embedding: two linear layers with exact GELU between them."""

    def __init__(self, inputs, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(inputs, width), nn.Linear(width, width)

    def forward(self, state):
        return self.fc2(F.gelu(self.fc1(state)))


def load_projector(directory, dtype=torch.float32):
    """The state projector among the weights, else in proprio_projector--*.pt beside them; None where there is none."""
    directory = pathlib.Path(directory)
    tensors = {name.removeprefix(PROJECTOR + "."): t for name, t in openvla.read_tensors(directory).items()
               if name.startswith(PROJECTOR + ".")}
    for path in sorted(directory.glob(f"{PROJECTOR}--*.pt")):
        tensors = tensors or torch.load(path, weights_only=True)
    if not tensors:
        return None
    tensors = {name.removeprefix("module."): t.to(dtype) for name, t in tensors.items()}
    projector = StateProjector(tensors["fc1.weight"].shape[1], tensors["fc1.weight"].shape[0])
    projector.load_state_dict(tensors)
    return projector.to(dtype).eval().requires_grad_(False)


def prompt_ids(tokenizer, task):
    """Lower case, and nothing else: underscores stay."""
    ids = tokenizer.encode(f"In: What action should the robot take to {task.lower()}?\nOut:")
    return ids if ids[-1] == tokenizer.space else ids + [tokenizer.space]


def chunk_logits(model, pixel_values, prompts, places, stop=None, state=None):
    """Logits [B, places, V] of the action tokens.

    pixel_values [B, 6 N, Y, X] of N pictures; prompts: id lists up to the lone space; stop: the end token behind the
    places, None for models that were trained without; state: [B, D] embeddings. Sequences are padded at the right.
    """
    model = getattr(model, "get_base_model", lambda: model)()
    words = model.get_input_embeddings()
    device = words.weight.device
    patches = torch.cat([model.projector(model.vision_backbone(p)) for p in pixel_values.split(6, dim=1)], dim=1)
    rows = []
    for i, prompt in enumerate(prompts):
        text = words(torch.tensor(prompt, device=device))
        parts = [text[:1], patches[i], text[1:], text.new_zeros(places, text.shape[1])]
        if state is not None:
            parts.insert(2, state[i:i + 1].to(text.dtype))
        if stop is not None:
            parts.append(words(torch.tensor([stop], device=device)))
        rows.append(torch.cat(parts))
    lengths = [len(row) for row in rows]
    embeddings = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    seen = torch.arange(max(lengths), device=device)[None] < torch.tensor(lengths, device=device)[:, None]
    mask = torch.zeros(seen.shape, dtype=embeddings.dtype, device=device).masked_fill(~seen, -torch.inf)
    mask = mask[:, None, None].expand(-1, 1, max(lengths), -1)
    hidden = model.language_model.model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False)[0]
    after = places + (stop is not None)
    wanted = torch.stack([hidden[i, n - after - 1:n - after - 1 + places] for i, n in enumerate(lengths)])
    return model.language_model.lm_head(wanted)


def action_columns(tokenizer):
    """Ids of the action tokens, as a slice of the logits' last dimension."""
    return slice(tokenizer.vocabulary - len(tokenizer.bins), tokenizer.vocabulary)


def ends(statistics, how):
    low, high = ("min", "max") if how == "bounds" else ("q01", "q99")
    mask = np.asarray(statistics.get("mask", [True] * len(statistics[low])), bool)
    return np.asarray(statistics[low], np.float64), np.asarray(statistics[high], np.float64), mask


def normalize(actions, statistics, how="quantiles"):
    """Recorded actions [..., A] -> float32 in [-1, 1]; a dimension that never changes becomes 0."""
    low, high, mask = ends(statistics, how)
    actions = np.asarray(actions, np.float64)
    scaled = np.where(mask, 2 * (actions - low) / (high - low + 1e-8) - 1, actions)
    constant = np.asarray(statistics["min"]) == np.asarray(statistics["max"])
    return np.where(constant, 0, np.clip(scaled, -1, 1)).astype(np.float32)


def unnormalize(actions, statistics, how="quantiles"):
    low, high, mask = ends(statistics, how)
    actions = np.asarray(actions, np.float64)
    return np.where(mask, 0.5 * (actions + 1) * (high - low + 1e-8) + low, actions)


def normalize_state(state, statistics, how="quantiles"):
    low, high, mask = ends(statistics, how)
    state = np.asarray(state, np.float64)
    return np.clip(np.where(mask, 2 * (state - low) / (high - low + 1e-8) - 1, state), -1, 1).astype(np.float32)


def resize_lanczos(picture, size):
    """tf.image.resize(method="lanczos3", antialias=True), rounded: uint8 [Y, X, 3] -> uint8 [size, size, 3]."""
    def matrix(length):
        scale = np.float32(1) / (np.float32(size) / np.float32(length))
        stretch = max(scale, np.float32(1))
        middle = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale
        x = np.abs((np.arange(length, dtype=np.float32)[None] + np.float32(0.5) - middle[:, None]) / stretch)
        safe = np.maximum(x, np.float32(1e-3)) * np.float32(np.pi)
        kernel = np.where(x <= 1e-3, 1, 3 * np.sin(safe) * np.sin(safe / 3) / safe ** 2)
        kernel = np.where(x > 3, 0, kernel).astype(np.float32)
        return kernel / kernel.sum(1, keepdims=True)

    pixels = np.asarray(picture, np.float32)
    rows = np.einsum("ty,yxc->txc", matrix(pixels.shape[0]), pixels)
    both = np.einsum("sx,txc->tsc", matrix(pixels.shape[1]), rows)
    return np.clip(np.rint(both), 0, 255).astype(np.uint8)


def chunk(actions, sources, t, steps):
    """The actions of a chunk from step t on: up to the episode's end or where somebody else acts."""
    end = t + 1
    while end < min(t + steps, len(actions)) and sources[end] == sources[t]:
        end += 1
    return actions[t:end]


class Scorer:
    """Log-probabilities and decisions of one policy, from observations as they are recorded."""

    def __init__(self, checkpoint, oft, statistics, model=None, center_crop=False, projector=None):
        self.checkpoint, self.oft, self.statistics = checkpoint, oft, statistics
        self.model, self.center_crop = model or checkpoint.model, center_crop
        weight = next(checkpoint.model.parameters())
        self.dtype, self.device = weight.dtype, weight.device
        self.projector = projector or (load_projector(checkpoint.directory, self.dtype) if oft.state_keys else None)
        if self.projector:
            self.projector.to(self.device)

    def pixels(self, observations):
        """[B][N] recorded pictures -> [B, 6 N, size, size]."""
        size = self.checkpoint.preprocess.size

        def shown(picture):
            if self.oft.resize == "lanczos":
                picture = resize_lanczos(picture, size)
            return openvla.center_crop(picture, size) if self.center_crop else picture

        flat = self.checkpoint.preprocess([shown(p) for pictures in observations for p in pictures])
        return flat.reshape(len(observations), -1, size, size).to(self.device, self.dtype)

    def logits(self, tasks, pictures, states=None):
        """[B, H A, V] of H steps, without any restriction."""
        tokenizer, action = self.checkpoint.tokenizer, self.statistics["action"]
        state = None
        if self.projector:
            numbers = normalize_state(np.stack(states), self.statistics["proprio"], self.oft.action_normalization)
            state = self.projector(torch.from_numpy(numbers).to(self.device, self.dtype))
        return chunk_logits(self.model, self.pixels(pictures), [prompt_ids(tokenizer, task) for task in tasks],
                            self.oft.chunk_steps * len(action["q01"]), tokenizer.end if self.oft.stop_token else None, state)

    def log_probs(self, logits):
        """The same as log-probabilities, [B, H A, V] with -inf where score_among leaves columns out."""
        if self.oft.score_among == "vocabulary":
            return logits.float().log_softmax(-1)
        among = action_columns(self.checkpoint.tokenizer)
        out = torch.full(logits.shape, -torch.inf, device=logits.device)
        out[..., among] = logits[..., among].float().log_softmax(-1)
        return out

    def target_ids(self, actions):
        """[n, A] recorded actions -> n A token ids."""
        how = self.oft.action_normalization
        return self.checkpoint.tokenizer.action_ids(normalize(actions, self.statistics["action"], how)).ravel()

    def decode(self, logits, restrict=True):
        """Greedy ids [B, H A] and actions [B, H, A] in the world's units."""
        if restrict:
            among = action_columns(self.checkpoint.tokenizer)
            ids = logits[..., among].argmax(-1) + among.start
        else:
            ids = logits.argmax(-1)
        size = len(self.statistics["action"]["q01"])
        decoded = self.checkpoint.tokenizer.actions(ids.cpu().numpy()).reshape(len(ids), -1, size)
        return ids, unnormalize(decoded, self.statistics["action"], self.oft.action_normalization)
