#!/usr/bin/env python3
"""scripts/pi0_fast/convert_openpi.py on a made-up tree of openpi's shapes: what it writes computes what openpi's einsums do,
adapters among them. Skipped (77) without torch and safetensors."""
import pathlib
import sys

try:
    import numpy as np
    import torch
    import safetensors  # noqa: F401
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts" / "pi0_fast"))
import convert_openpi  # noqa: E402

L, HEADS, WIDTH, HEAD, MLP, V, RANK = 2, 4, 12, 6, 20, 30, 3
VL, VH, VS, VM, PATCH = 2, 2, 10, 14, 4
rng = np.random.default_rng(1)


def tree(lora):
    shapes = {
        "llm/embedder/input_embedding": (V, WIDTH), "llm/final_norm/scale": (WIDTH,),
        "llm/layers/attn/q_einsum/w": (L, HEADS, WIDTH, HEAD), "llm/layers/attn/kv_einsum/w": (L, 2, 1, WIDTH, HEAD),
        "llm/layers/attn/attn_vec_einsum/w": (L, HEADS, HEAD, WIDTH),
        "llm/layers/mlp/gating_einsum": (L, 2, WIDTH, MLP), "llm/layers/mlp/linear": (L, MLP, WIDTH),
        "llm/layers/pre_attention_norm/scale": (L, WIDTH), "llm/layers/pre_ffw_norm/scale": (L, WIDTH),
        "img/embedding/kernel": (PATCH, PATCH, 3, VS), "img/embedding/bias": (VS,), "img/pos_embedding": (1, 9, VS),
        "img/Transformer/encoder_norm/scale": (VS,), "img/Transformer/encoder_norm/bias": (VS,),
        "img/head/kernel": (VS, WIDTH), "img/head/bias": (WIDTH,)}
    block = "img/Transformer/encoderblock/"
    for norm in ("LayerNorm_0", "LayerNorm_1"):
        shapes |= {f"{block}{norm}/scale": (VL, VS), f"{block}{norm}/bias": (VL, VS)}
    shapes |= {f"{block}MlpBlock_0/Dense_0/kernel": (VL, VS, VM), f"{block}MlpBlock_0/Dense_0/bias": (VL, VM),
               f"{block}MlpBlock_0/Dense_1/kernel": (VL, VM, VS), f"{block}MlpBlock_0/Dense_1/bias": (VL, VS)}
    attention = block + "MultiHeadDotProductAttention_0/"
    for part in ("query", "key", "value"):
        shapes |= {f"{attention}{part}/kernel": (VL, VS, VH, VS // VH), f"{attention}{part}/bias": (VL, VH, VS // VH)}
    shapes |= {f"{attention}out/kernel": (VL, VH, VS // VH, VS), f"{attention}out/bias": (VL, VS)}
    if lora:
        shapes |= {"llm/layers/attn/q_einsum/lora_a": (L, HEADS, WIDTH, RANK),
                   "llm/layers/attn/q_einsum/lora_b": (L, HEADS, RANK, HEAD),
                   "llm/layers/attn/kv_einsum/lora_a": (L, 2, 1, WIDTH, RANK),
                   "llm/layers/attn/kv_einsum/lora_b": (L, 2, 1, RANK, HEAD),
                   "llm/layers/attn/attn_vec_einsum/lora_a": (L, HEADS, HEAD, RANK),
                   "llm/layers/attn/attn_vec_einsum/lora_b": (L, HEADS, RANK, WIDTH),
                   "llm/layers/mlp/gating_einsum_lora_a": (L, 2, WIDTH, RANK),
                   "llm/layers/mlp/gating_einsum_lora_b": (L, 2, RANK, MLP),
                   "llm/layers/mlp/linear_lora_a": (L, MLP, RANK), "llm/layers/mlp/linear_lora_b": (L, RANK, WIDTH)}
    return {"PaliGemma/" + name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def einsum(equation_a, equation_b, equation, x, t, name):
    """openpi's einsum with an adapter, whose equations its LoRA class rewrites."""
    result = np.einsum(equation, x, t[name + "/w"][1])
    if name + "/lora_a" in t:
        result = result + np.einsum(equation_b, np.einsum(equation_a, x, t[name + "/lora_a"][1]), t[name + "/lora_b"][1])
    return result


def near(a, b, what):
    worst = np.abs(np.asarray(a) - np.asarray(b)).max()
    assert worst < 1e-4, (what, worst)


for lora in (False, True):
    t = tree(lora)
    out = convert_openpi.convert(t)
    layer, attn = "paligemma.model.language_model.layers.1.", "PaliGemma/llm/layers/attn/"
    x = rng.standard_normal((1, 5, WIDTH)).astype(np.float32)
    apply = lambda name, rows: rows @ out[layer + name].numpy().T  # noqa: E731
    q = einsum("BTD,NDL->BTNL", "BTNL,NLH->BTNH", "BTD,NDH->BTNH", x, t, attn + "q_einsum")
    near(apply("self_attn.q_proj.weight", x), q.reshape(1, 5, -1), "q")
    kv = einsum("BSD,CKDL->CBSKL", "CBSKL,CKLH->CBSKH", "BSD,CKDH->CBSKH", x, t, attn + "kv_einsum")
    near(apply("self_attn.k_proj.weight", x), kv[0][:, :, 0], "k")
    near(apply("self_attn.v_proj.weight", x), kv[1][:, :, 0], "v")
    y = rng.standard_normal((1, 5, HEADS, HEAD)).astype(np.float32)
    o = einsum("BTNH,NHL->BTL", "BTL,NLD->BTD", "BTNH,NHD->BTD", y, t, attn + "attn_vec_einsum")
    near(apply("self_attn.o_proj.weight", y.reshape(1, 5, -1)), o, "o")
    mlp = "PaliGemma/llm/layers/mlp/"
    low = (lambda rows, name, *i: rows @ t[mlp + name + "_lora_a"][1][i] @ t[mlp + name + "_lora_b"][1][i]) if lora \
        else (lambda rows, name, *i: 0)
    near(apply("mlp.gate_proj.weight", x), x @ t[mlp + "gating_einsum"][1, 0] + low(x, "gating_einsum", 0), "gate")
    near(apply("mlp.up_proj.weight", x), x @ t[mlp + "gating_einsum"][1, 1] + low(x, "gating_einsum", 1), "up")
    z = rng.standard_normal((1, 5, MLP)).astype(np.float32)
    near(apply("mlp.down_proj.weight", z), z @ t[mlp + "linear"][1] + low(z, "linear"), "down")
    picture = rng.standard_normal((1, 3 * PATCH, 3 * PATCH, 3)).astype(np.float32)
    tower = "paligemma.model.vision_tower.vision_model."
    ours = torch.nn.functional.conv2d(torch.from_numpy(picture).permute(0, 3, 1, 2),
                                      out[tower + "embeddings.patch_embedding.weight"], stride=PATCH)
    patches = picture.reshape(1, 3, PATCH, 3, PATCH, 3).transpose(0, 1, 3, 2, 4, 5)  # [1, rows, columns, y, x, rgb]
    near(ours.permute(0, 2, 3, 1), np.einsum("brcyxi,yxio->brco", patches, t["PaliGemma/img/embedding/kernel"]), "patches")
    v = rng.standard_normal((5, VS)).astype(np.float32)
    attention = "PaliGemma/img/Transformer/encoderblock/MultiHeadDotProductAttention_0/"
    near(v @ out[tower + "encoder.layers.1.self_attn.q_proj.weight"].numpy().T,
         np.einsum("td,dnh->tnh", v, t[attention + "query/kernel"][1]).reshape(5, -1), "siglip q")
    near(v @ out[tower + "encoder.layers.1.self_attn.out_proj.weight"].numpy().T,
         np.einsum("tnh,nhd->td", v.reshape(5, VH, VS // VH), t[attention + "out/kernel"][1]), "siglip out")
    assert len(out) == 2 + 9 * L + 3 + 2 + 2 + 16 * VL, len(out)
print("the converted weights compute what openpi's einsums do")
