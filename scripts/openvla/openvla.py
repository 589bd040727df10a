"""OpenVLA in plain PyTorch: timm towers, a projector and transformers' Llama, without the checkpoint's remote code.

Needs: pip install torch transformers timm sentencepiece safetensors pillow numpy (peft for adapters).
Tried with transformers 5.23 and 4.49, timm 1.0.31 and 0.9.10, peft 0.21 and 0.11.

    import openvla
    checkpoint = openvla.load("openvla-7b", dtype=torch.bfloat16)
    policy = peft.PeftModel.from_pretrained(checkpoint.model, "adapter")
    action = checkpoint.predict_action(picture, "make coffee", unnorm_key="bridge_orig", model=policy)

The tensors are named as in the Hugging Face checkpoint, so PEFT adapters of OpenVLA fit by name. Tower width, depth and
MLP size come from the tensors' shapes, so small members of the family load as well.
"""
import json
import pathlib
from dataclasses import dataclass, field

import numpy as np
import sentencepiece
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

try:
    from transformers import PretrainedConfig
except ImportError:
    from transformers import PreTrainedConfig as PretrainedConfig

PATCH = 14
IGNORED = -100
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass
class Shape:
    """Sizes of one member of the family. Heads follow from the widths: 64 wide (DINOv2), 72 wide (SigLIP)."""

    image_size: int = 224
    dino_width: int = 1024
    dino_depth: int = 24
    dino_mlp: int = 4096
    siglip_width: int = 1152
    siglip_depth: int = 27
    siglip_mlp: int = 4304
    projector_width: int = 8704
    text: dict = field(default_factory=lambda: {"vocab_size": 32064, "pad_token_id": 32000})

    @staticmethod
    def of(shapes, config):
        """The sizes of a checkpoint: `shapes` maps tensor names to shapes, `config` is its config.json."""
        def depth(tower):
            prefix = f"vision_backbone.{tower}.blocks."
            return 1 + max(int(name[len(prefix):].split(".")[0]) for name in shapes if name.startswith(prefix))

        dino, siglip = "vision_backbone.featurizer.", "vision_backbone.fused_featurizer."
        return Shape(
            image_size=config["image_sizes"][0],
            dino_width=shapes[dino + "pos_embed"][-1], dino_depth=depth("featurizer"),
            dino_mlp=shapes[dino + "blocks.0.mlp.fc1.weight"][0],
            siglip_width=shapes[siglip + "pos_embed"][-1], siglip_depth=depth("fused_featurizer"),
            siglip_mlp=shapes[siglip + "blocks.0.mlp.fc1.weight"][0],
            projector_width=shapes["projector.fc1.weight"][0], text=dict(config["text_config"]))


class LayerScale(nn.Module):
    """timm's LayerScale under the parameter name that OpenVLA stores."""

    def __init__(self, width):
        super().__init__()
        self.scale_factor = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x):
        return x * self.scale_factor


def tower(width, depth, mlp, head_width, image_size, **options):
    return VisionTransformer(img_size=image_size, patch_size=PATCH, embed_dim=width, depth=depth,
                             num_heads=width // head_width, mlp_ratio=(mlp + 0.5) / width, num_classes=0,
                             weight_init="skip", **options)


class VisionBackbone(nn.Module):
    """Both towers. `forward` takes six channels and returns the patch features, DINOv2's before SigLIP's."""

    def __init__(self, shape):
        super().__init__()
        self.featurizer = tower(shape.dino_width, shape.dino_depth, shape.dino_mlp, 64, shape.image_size,
                                init_values=1e-5, reg_tokens=4, no_embed_class=True)
        for block in self.featurizer.blocks:
            block.ls1, block.ls2 = LayerScale(shape.dino_width), LayerScale(shape.dino_width)
        self.fused_featurizer = tower(shape.siglip_width, shape.siglip_depth, shape.siglip_mlp, 72, shape.image_size,
                                      class_token=False, global_pool="map")

    def towers(self, pixel_values):
        """[B, 6, Y, X] -> ([B, P, dino width], [B, P, siglip width]): output of each tower's second-to-last block."""
        out = []
        for network, pixels in zip((self.featurizer, self.fused_featurizer), pixel_values.split(3, dim=1)):
            out.append(network.get_intermediate_layers(pixels, n={len(network.blocks) - 2})[0])
        return tuple(out)

    def forward(self, pixel_values):
        return torch.cat(self.towers(pixel_values), dim=2)


class Projector(nn.Module):
    """Patch features -> word embeddings: three linear layers with exact GELU between them."""

    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, outputs)
        self.fc3 = nn.Linear(outputs, outputs)

    def forward(self, x):
        return self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(x)))))


class OpenVlaConfig(PretrainedConfig):
    model_type = "openvla"


class OpenVla(PreTrainedModel):
    """The whole network. A PreTrainedModel only so that peft treats it as the released class."""

    config_class = OpenVlaConfig
    base_model_prefix = ""
    _supports_sdpa = True
    _supports_flash_attn_2 = True

    def __init__(self, shape: Shape, device=None):
        super().__init__(OpenVlaConfig())
        self.vision_backbone = VisionBackbone(shape)
        text = {k: v for k, v in shape.text.items() if k not in ("model_type", "torch_dtype", "dtype")}
        text = LlamaConfig(**text)
        self.projector = Projector(shape.dino_width + shape.siglip_width, shape.projector_width, text.hidden_size)
        with torch.device(device or "cpu"):
            self.language_model = LlamaForCausalLM(text)
        self.language_model.model.rotary_emb = LlamaRotaryEmbedding(config=text)

    def get_input_embeddings(self):
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self):
        return self.language_model.lm_head

    def multimodal(self, pixel_values, input_ids, attention_mask):
        """-> embeddings [B, P + L, D] and mask [B, P + L]: the first token, the patches, the other tokens."""
        patches = self.projector(self.vision_backbone(pixel_values))
        words = self.get_input_embeddings()(input_ids)
        ones = attention_mask.new_ones(patches.shape[:2])
        return (torch.cat([words[:, :1], patches, words[:, 1:]], dim=1),
                torch.cat([attention_mask[:, :1], ones, attention_mask[:, 1:]], dim=1))

    def forward(self, pixel_values, input_ids, attention_mask):
        """pixel_values [B, 6, Y, X], input_ids and attention_mask [B, L], right padded -> logits [B, P + L, V].

        P patches stand between token 0 and token 1: the logits that predict token j >= 1 are at position P + j - 1.
        """
        embeddings, mask = self.multimodal(pixel_values, input_ids, attention_mask)
        return self.language_model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).logits


class Tokenizer:
    """SentencePiece text as Llama reads it, and actions at the end of the vocabulary.

    `vocabulary` is the number of pieces; the action bin d (1..256) is id vocabulary - d, the padding id is vocabulary.
    """

    def __init__(self, path, bins=256):
        self.processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.vocabulary, self.pad = len(self.processor), len(self.processor)
        self.begin, self.end = self.processor.bos_id(), self.processor.eos_id()
        self.space = self.processor.piece_to_id("\u2581")
        self.bins = np.linspace(-1, 1, bins)
        self.centres = (self.bins[:-1] + self.bins[1:]) / 2

    def encode(self, text):
        """Ids of a text with the beginning-of-sequence id in front."""
        return [self.begin] + self.processor.encode(text)

    def prompt_ids(self, task, lower=False):
        """Ids of the prompt up to the lone space that every action follows."""
        ids = self.encode(prompt(task, lower))
        return ids if ids[-1] == self.space else ids + [self.space]

    def action_ids(self, actions):
        """Normalised actions [..., A] -> token ids."""
        return self.vocabulary - np.digitize(np.clip(np.asarray(actions, np.float64), -1, 1), self.bins)

    def actions(self, ids):
        """Token ids -> normalised actions: bin centres, ids outside the bins go to the nearest one."""
        bins = np.clip(self.vocabulary - np.asarray(ids) - 1, 0, len(self.centres) - 1)
        return self.centres[bins]


def released_targets(model):
    """What peft 0.11.1, which the released program asks for, makes of "all-linear": the last names of all linear layers,
    the head's among them, and with them whatever else is called so (the patch embeddings)."""
    return sorted({name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, nn.Linear)})


def prompt(task, lower=False):
    """The prompt without its trailing space. Released training turns _ into a space; OpenVLA's inference lower-cases."""
    task = task.replace("_", " ")
    return f"In: What action should the robot take to {task.lower() if lower else task}?\nOut:"


def sequences(prompts, answers, pad):
    """Right-padded training batch as in the released code: ids, attention mask and labels, each [B, L].

    `prompts` and `answers` are lists of id lists; the labels of everything but the answer are -100.
    """
    length = max(len(p) + len(a) for p, a in zip(prompts, answers))
    ids = torch.full((len(prompts), length), pad)
    labels = torch.full((len(prompts), length), IGNORED)
    for i, (p, a) in enumerate(zip(prompts, answers)):
        a = [int(x) for x in a]
        ids[i, :len(p) + len(a)] = torch.tensor(list(p) + a)
        labels[i, len(p):len(p) + len(a)] = torch.tensor(a)
    return ids, (ids != pad).long(), labels


def answer_logits(logits, labels):
    """Logits [B, P + L, V] and labels [B, L] -> [B, T, V]: those that predict the T labelled tokens of each sample."""
    patches = logits.shape[1] - labels.shape[1]
    rows = [logits[i, patches - 1 + (labels[i] != IGNORED).nonzero()[:, 0]] for i in range(len(labels))]
    return torch.stack(rows)


def token_log_probs(logits, labels):
    """log p [B, T] of the labelled tokens, softmax over the whole vocabulary in float32."""
    targets = torch.stack([row[row != IGNORED] for row in labels])
    return answer_logits(logits, labels).float().log_softmax(-1).gather(-1, targets[..., None])[..., 0]


def letterbox(picture, fill):
    """Pads to a square; where the difference is odd one row or column is missing, as in the released processor."""
    width, height = picture.size
    x, y = (max(picture.size) - width) // 2, (max(picture.size) - height) // 2
    out = Image.new("RGB", (width + 2 * x, height + 2 * y), tuple(fill))
    out.paste(picture, (x, y))
    return out


def resize_shorter(picture, size):
    """Shorter side to `size`, the longer one rounded down; then the central square."""
    width, height = picture.size
    new = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    if new != picture.size:
        picture = picture.resize(new, Image.BICUBIC)
    left, top = int(round((new[0] - size) / 2)), int(round((new[1] - size) / 2))
    return picture.crop((left, top, left + size, top + size))


def center_crop(picture, size, share=0.9):
    """The evaluation's crop: TensorFlow's crop_and_resize of the central box with `share` of the area, bilinear
    without antialiasing. uint8 [Y, X, 3] -> uint8 [size, size, 3]."""
    pixels = np.asarray(picture, np.float32) / np.float32(255)

    def samples(length):
        begin = (1 - share ** 0.5) / 2
        at = begin * (length - 1) + np.arange(size) * (1 - 2 * begin) * (length - 1) / (size - 1)
        low = np.floor(at).astype(int)
        return low, np.ceil(at).astype(int), (at - low).astype(np.float32)

    top, bottom, y = samples(pixels.shape[0])
    left, right, x = samples(pixels.shape[1])
    x, y = x[None, :, None], y[:, None, None]
    upper = pixels[top][:, left] * (1 - x) + pixels[top][:, right] * x
    lower = pixels[bottom][:, left] * (1 - x) + pixels[bottom][:, right] * x
    return np.floor(np.clip(upper * (1 - y) + lower * y, 0, 1) * np.float32(255.5)).clip(0, 255).astype(np.uint8)


class Preprocessor:
    """Pictures -> pixel_values, by config.json and preprocessor_config.json.

    The stored tvf_normalize_params win over means and stds: the release has bfloat16-rounded ones there.
    """

    def __init__(self, config, preprocessor):
        self.size = config["image_sizes"][0]
        self.strategy = preprocessor.get("image_resize_strategy", config["image_resize_strategy"])
        stored = preprocessor.get("tvf_normalize_params")
        if stored:
            self.means, self.stds = [p["mean"] for p in stored], [p["std"] for p in stored]
        else:
            self.means, self.stds = preprocessor["means"], preprocessor["stds"]
        fill = preprocessor.get("tvf_letterbox_fill")
        self.fill = tuple(fill) if fill else tuple(int(255 * x) for x in preprocessor["means"][-1])

    def resize(self, picture):
        """uint8 [Y, X, 3] -> uint8 [size, size, 3]."""
        picture = Image.fromarray(np.asarray(picture)).convert("RGB")
        size = (self.size, self.size)
        if self.strategy == "resize-naive":
            picture = picture if picture.size == size else picture.resize(size, Image.BICUBIC)
        elif self.strategy == "letterbox":
            picture = resize_shorter(letterbox(picture, self.fill), self.size)
        elif self.strategy == "resize-crop":
            picture = resize_shorter(picture, self.size)
        else:
            raise ValueError("image_resize_strategy: expected resize-naive, letterbox or resize-crop, found "
                             f"{self.strategy}")
        return np.asarray(picture)

    def __call__(self, pictures):
        """uint8 [B][Y, X, 3] -> float32 [B, 6, size, size], DINOv2's channels first."""
        pixels = torch.stack([torch.from_numpy(self.resize(p).copy()) for p in pictures]).permute(0, 3, 1, 2) / 255
        both = [(pixels - torch.tensor(m)[:, None, None]) / torch.tensor(s)[:, None, None]
                for m, s in zip(self.means, self.stds)]
        return torch.cat(both, dim=1)


def normalize(actions, statistics):
    """Environment actions -> [-1, 1] by the 1 % and 99 % quantiles; unmasked dimensions stay (OpenVLA's rule)."""
    low, high, mask = _quantiles(statistics)
    actions = np.asarray(actions, np.float64)
    scaled = np.clip(2 * (actions - low) / (high - low + 1e-8) - 1, -1, 1)
    return np.where(mask, scaled, actions)


def unnormalize(actions, statistics):
    """The way back, exactly as predict_action does it."""
    low, high, mask = _quantiles(statistics)
    return np.where(mask, 0.5 * (np.asarray(actions, np.float64) + 1) * (high - low) + low, actions)


def _quantiles(statistics):
    low, high = np.asarray(statistics["q01"], np.float64), np.asarray(statistics["q99"], np.float64)
    return low, high, np.asarray(statistics.get("mask", [True] * len(low)), bool)


@dataclass
class Checkpoint:
    """What a checkpoint directory holds."""

    model: OpenVla
    config: dict
    preprocessor: dict
    tokenizer: Tokenizer
    statistics: dict
    directory: pathlib.Path

    def __post_init__(self):
        self.preprocess = Preprocessor(self.config, self.preprocessor)

    def action_statistics(self, unnorm_key=None):
        """q01, q99 and mask of one data set; the key may be left out where there is only one."""
        if unnorm_key is None and len(self.statistics) == 1:
            unnorm_key = next(iter(self.statistics))
        if unnorm_key not in self.statistics:
            raise ValueError(f"unnorm_key: expected one of {sorted(self.statistics)}, found {unnorm_key}")
        return self.statistics[unnorm_key]["action"]

    @torch.no_grad()
    def greedy(self, pixel_values, prompts, tokens=7, restrict=False, model=None):
        """Greedy ids [B, tokens] after `prompts`, as from Tokenizer.prompt_ids; `restrict` allows action ids only.

        Plain and slow: the whole sequence runs again for every token, exactly as the training forward does.
        """
        model, rows = model or self.model, [list(p) for p in prompts]
        for _ in range(tokens):
            ids, mask, _ = sequences(rows, [[] for _ in rows], self.tokenizer.pad)
            logits = model(pixel_values=pixel_values, input_ids=ids.to(pixel_values.device),
                           attention_mask=mask.to(pixel_values.device))
            patches = logits.shape[1] - ids.shape[1]
            for i, row in enumerate(rows):
                scores = logits[i, patches + len(row) - 1].float().clone()
                if restrict:
                    scores[:self.tokenizer.vocabulary - len(self.tokenizer.bins)] = -torch.inf
                    scores[self.tokenizer.vocabulary:] = -torch.inf
                row.append(int(scores.argmax()))
        return torch.tensor([row[-tokens:] for row in rows])

    def predict_action(self, picture, task, unnorm_key=None, model=None):
        """uint8 picture [Y, X, 3] and a task -> action in environment units, greedy."""
        weight = next(self.model.parameters())
        pixels = self.preprocess([picture]).to(weight.device, weight.dtype)
        ids = self.greedy(pixels, [self.tokenizer.prompt_ids(task, lower=True)], model=model)[0]
        return unnormalize(self.tokenizer.actions(ids), self.action_statistics(unnorm_key))


def read_json(path, default=None):
    if default is not None and not path.exists():
        return default
    return json.loads(path.read_text())


def read_tensors(directory):
    """All tensors of a directory with model.safetensors, or with shards and an index."""
    directory = pathlib.Path(directory)
    index = directory / "model.safetensors.index.json"
    shards = sorted(set(read_json(index)["weight_map"].values())) if index.exists() else ["model.safetensors"]
    tensors = {}
    for shard in shards:
        with safe_open(directory / shard, framework="pt") as file:
            tensors.update({name: file.get_tensor(name) for name in file.keys()})
    return tensors


def load(directory, dtype=torch.float32):
    """Reads a Hugging Face directory (config.json, preprocessor_config.json, tokenizer.model, safetensors).

    Statistics come from dataset_statistics.json where it lies beside the weights, else from config.json's norm_stats.
    """
    directory = pathlib.Path(directory)
    config = read_json(directory / "config.json")
    preprocessor = read_json(directory / "preprocessor_config.json")
    tensors = {name.replace(".gamma", ".scale_factor"): t.to(dtype) for name, t in read_tensors(directory).items()
               if not name.startswith(("proprio_projector.", "value_head."))}
    model = OpenVla(Shape.of({name: t.shape for name, t in tensors.items()}, config), device="meta")
    model.load_state_dict(tensors, strict=True, assign=True)
    statistics = read_json(directory / "dataset_statistics.json", config.get("norm_stats", {}))
    tokenizer = Tokenizer(directory / "tokenizer.model", config["n_action_bins"])
    return Checkpoint(model.eval().requires_grad_(False), config, preprocessor, tokenizer, statistics, directory)


def describe(shape, statistics, resize_strategy="resize-naive", dtype="bfloat16"):
    """config.json and preprocessor_config.json of a checkpoint of this shape, with the fields of the release."""
    size, pad_multiple = shape.image_size, 64
    config = {
        "architectures": ["OpenVLAForActionPrediction"], "model_type": "openvla",
        "vision_backbone_id": "dinosiglip-vit-so-224px", "use_fused_vision_backbone": True,
        "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
        "timm_override_act_layers": [None, None], "image_sizes": [size, size], "image_resize_strategy": resize_strategy,
        "arch_specifier": "no-align+fused-gelu-mlp", "llm_backbone_id": "llama2-7b-pure",
        "hf_llm_id": "meta-llama/Llama-2-7b-hf", "llm_max_length": 2048,
        "pad_token_id": shape.text["vocab_size"] - pad_multiple, "pad_to_multiple_of": pad_multiple, "n_action_bins": 256,
        "torch_dtype": dtype, "text_config": {"model_type": "llama", "torch_dtype": dtype, **shape.text},
        "norm_stats": statistics}
    rounded = [torch.tensor(v).bfloat16().float().tolist() for v in IMAGENET]
    params = [dict(mean=list(mean), std=list(std), inplace=False) for mean, std in (rounded, HALF)]
    preprocessor = {
        "image_processor_type": "PrismaticImageProcessor", "processor_class": "PrismaticProcessor",
        "use_fused_vision_backbone": True, "image_resize_strategy": resize_strategy,
        "input_sizes": [[3, size, size]] * 2, "interpolations": ["bicubic"] * 2,
        "means": [list(IMAGENET[0]), list(HALF[0])], "stds": [list(IMAGENET[1]), list(HALF[1])],
        "tvf_resize_params": [dict(size=[size, size] if resize_strategy == "resize-naive" else size, interpolation=3,
                                   max_size=None, antialias=True)] * 2,
        "tvf_crop_params": [{"output_size": [size, size]}] * 2, "tvf_normalize_params": params,
        "tvf_do_letterbox": resize_strategy == "letterbox",
        "tvf_letterbox_fill": [127, 127, 127] if resize_strategy == "letterbox" else None}
    return config, preprocessor


def save(directory, model, config, preprocessor, tokenizer_model, statistics=None, max_shard_bytes=7 * 10**9,
         dtype=None):
    """Writes a Hugging Face directory. `tokenizer_model` is the bytes of tokenizer.model; `statistics`, where given,
    goes to dataset_statistics.json; more than `max_shard_bytes` of tensors become shards with an index."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)

    def write(name, value):
        (directory / name).write_text(json.dumps(value, indent=1) + "\n")

    write("config.json", config)
    write("preprocessor_config.json", preprocessor)
    if statistics is not None:
        write("dataset_statistics.json", statistics)
    (directory / "tokenizer.model").write_bytes(tokenizer_model)
    shards, used = [{}], 0
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().to("cpu", dtype).contiguous()
        if used and used + tensor.nbytes > max_shard_bytes:
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += tensor.nbytes
    if len(shards) == 1:
        save_file(shards[0], directory / "model.safetensors", {"format": "pt"})
        return
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    for name, shard in zip(names, shards):
        save_file(shard, directory / name, {"format": "pt"})
    total = sum(t.nbytes for shard in shards for t in shard.values())
    write("model.safetensors.index.json", {
        "metadata": {"total_size": total},
        "weight_map": {key: name for name, shard in zip(names, shards) for key in shard}})
