#!/usr/bin/env python3
"""Makes a pi0-FAST checkpoint of openpi (orbax) a directory that the programs read.

    python scripts/pi0_fast/convert_openpi.py CHECKPOINT OUT --tokenizer paligemma_tokenizer.model --fast FAST_DIR \\
        --action-dim 7 --action-horizon 10 --max-token-len 180 --normalization z-score --delta-action-dims 0 1 2 3 4 5 \\
        --image-keys base_0_rgb left_wrist_0_rgb right_wrist_0_rgb

CHECKPOINT  a step of openpi's: the folder that holds params/ and assets/
FAST_DIR    tokenizer.json and processor_config.json of physical-intelligence/fast
An adapter of openpi's own (its *_lora configs) is added to the weights: alpha / rank for attention, 1 for the feed-forward
part, the sum over heads for the output projection, as openpi computes it.

What nothing in a checkpoint says must be given: horizon, normalization (the released pi0_fast_libero: z-score), and the
dimensions that openpi's config counts from the state.

Needs: pip install orbax-checkpoint jax numpy safetensors torch; where the tree is an .npz of its paths, numpy, safetensors and
torch alone.
"""
import argparse
import json
import pathlib
import shutil

import numpy as np
import torch
from safetensors.torch import save_file

ATTENTION_SCALE = 1.0  # alpha / rank of openpi's gemma_2b_lora: 16 / 16


def read_tree(checkpoint):
    """Arrays by path ("PaliGemma/llm/embedder/input_embedding"), without the /value that training adds."""
    checkpoint = pathlib.Path(checkpoint)
    if checkpoint.suffix == ".npz":
        flat = dict(np.load(checkpoint))
    else:
        import orbax.checkpoint as ocp
        params = checkpoint / "params" if (checkpoint / "params").is_dir() else checkpoint
        with ocp.PyTreeCheckpointer() as reader:
            metadata = reader.metadata(params)
            tree = {"params": getattr(metadata, "item_metadata", metadata)["params"]}
            flat = flatten(reader.restore(params, ocp.args.PyTreeRestore(
                item=tree, restore_args=ocp.checkpoint_utils.construct_restore_args(tree, None)))["params"])
    return {path.removesuffix("/value"): np.asarray(array) for path, array in flat.items()}


def flatten(tree, path=""):
    if not hasattr(tree, "items"):
        return {path: np.asarray(tree)}
    found = {}
    for key, value in tree.items():
        found |= flatten(value, f"{path}/{key}" if path else str(key))
    return found


def with_lora(tree, name, scale=ATTENTION_SCALE):
    """An einsum's weight [.., in, out] with its adapter, if it has one."""
    w = tree[name + "/w"].astype(np.float32)
    if name + "/lora_a" not in tree:
        return w
    a, b = tree[name + "/lora_a"].astype(np.float32), tree[name + "/lora_b"].astype(np.float32)
    if name.endswith("attn_vec_einsum"):  # openpi sums over the heads between A and B, too
        stacked = a.reshape(a.shape[0], -1, a.shape[-1])  # [layers, heads * head_dim, rank]
        return w + scale * (stacked @ b.sum(1)).reshape(w.shape)
    return w + scale * (a @ b)


def feed_forward(tree, name):
    w = tree[name].astype(np.float32)
    if name + "_lora_a" not in tree:
        return w
    return w + tree[name + "_lora_a"].astype(np.float32) @ tree[name + "_lora_b"].astype(np.float32)


def convert(tree):
    """transformers' names and layouts; words and head are one table, under lm_head."""
    llm, layers = "PaliGemma/llm/", "PaliGemma/llm/layers/"
    q = with_lora(tree, layers + "attn/q_einsum")  # [L, heads, width, head_dim]
    kv = with_lora(tree, layers + "attn/kv_einsum")  # [L, 2, 1, width, head_dim]
    o = with_lora(tree, layers + "attn/attn_vec_einsum")  # [L, heads, head_dim, width]
    gating, linear = feed_forward(tree, layers + "mlp/gating_einsum"), feed_forward(tree, layers + "mlp/linear")
    count, heads, width, head_dim = q.shape
    text, vision = "paligemma.model.language_model.", "paligemma.model.vision_tower.vision_model."
    out = {"paligemma.lm_head.weight": tree[llm + "embedder/input_embedding"],
           text + "norm.weight": tree[llm + "final_norm/scale"]}
    for j in range(count):
        layer = f"{text}layers.{j}."
        out[layer + "self_attn.q_proj.weight"] = q[j].transpose(0, 2, 1).reshape(heads * head_dim, width)
        out[layer + "self_attn.k_proj.weight"] = kv[j, 0, 0].T
        out[layer + "self_attn.v_proj.weight"] = kv[j, 1, 0].T
        out[layer + "self_attn.o_proj.weight"] = o[j].transpose(2, 0, 1).reshape(width, heads * head_dim)
        out[layer + "mlp.gate_proj.weight"], out[layer + "mlp.up_proj.weight"] = gating[j, 0].T, gating[j, 1].T
        out[layer + "mlp.down_proj.weight"] = linear[j].T
        out[layer + "input_layernorm.weight"] = tree[layers + "pre_attention_norm/scale"][j]
        out[layer + "post_attention_layernorm.weight"] = tree[layers + "pre_ffw_norm/scale"][j]
    img, blocks = "PaliGemma/img/", "PaliGemma/img/Transformer/encoderblock/"
    out[vision + "embeddings.patch_embedding.weight"] = tree[img + "embedding/kernel"].transpose(3, 2, 0, 1)
    out[vision + "embeddings.patch_embedding.bias"] = tree[img + "embedding/bias"]
    out[vision + "embeddings.position_embedding.weight"] = tree[img + "pos_embedding"][0]
    for name, norm in (("weight", "scale"), ("bias", "bias")):
        out[f"{vision}post_layernorm.{name}"] = tree[f"{img}Transformer/encoder_norm/{norm}"]
    out["paligemma.model.multi_modal_projector.linear.weight"] = tree[img + "head/kernel"].T
    out["paligemma.model.multi_modal_projector.linear.bias"] = tree[img + "head/bias"]
    for i in range(tree[blocks + "LayerNorm_0/scale"].shape[0]):
        layer = f"{vision}encoder.layers.{i}."
        for ours, theirs in (("layer_norm1", "LayerNorm_0"), ("layer_norm2", "LayerNorm_1")):
            out[f"{layer}{ours}.weight"] = tree[f"{blocks}{theirs}/scale"][i]
            out[f"{layer}{ours}.bias"] = tree[f"{blocks}{theirs}/bias"][i]
        for ours, theirs in (("fc1", "Dense_0"), ("fc2", "Dense_1")):
            out[f"{layer}mlp.{ours}.weight"] = tree[f"{blocks}MlpBlock_0/{theirs}/kernel"][i].T
            out[f"{layer}mlp.{ours}.bias"] = tree[f"{blocks}MlpBlock_0/{theirs}/bias"][i]
        attention = blocks + "MultiHeadDotProductAttention_0/"
        size = tree[blocks + "LayerNorm_0/scale"].shape[1]
        for ours, theirs in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
            out[f"{layer}self_attn.{ours}.weight"] = tree[f"{attention}{theirs}/kernel"][i].reshape(size, size).T
            out[f"{layer}self_attn.{ours}.bias"] = tree[f"{attention}{theirs}/bias"][i].reshape(size)
        out[f"{layer}self_attn.out_proj.weight"] = tree[f"{attention}out/kernel"][i].reshape(size, size).T
        out[f"{layer}self_attn.out_proj.bias"] = tree[f"{attention}out/bias"][i]
    return {name: torch.from_numpy(np.ascontiguousarray(array.astype(np.float32))) for name, array in out.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True, help="PaliGemma's SentencePiece model")
    parser.add_argument("--fast", type=pathlib.Path, required=True, help="folder of the FAST tokenizer")
    parser.add_argument("--action-dim", type=int, required=True)
    parser.add_argument("--action-horizon", type=int, required=True)
    parser.add_argument("--max-token-len", type=int, default=250)
    parser.add_argument("--normalization", choices=["quantile", "z-score"], required=True)
    parser.add_argument("--delta-action-dims", type=int, nargs="*", default=[])
    parser.add_argument("--image-keys", nargs="+", required=True)
    parser.add_argument("--asset-id", help="folder under assets/ (default: the only one)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    options = parser.parse_args()
    weights = convert(read_tree(options.checkpoint))
    options.out.mkdir(parents=True, exist_ok=True)
    save_file({n: t.to(getattr(torch, options.dtype)) for n, t in weights.items()}, options.out / "model.safetensors")
    patches = weights["paligemma.model.vision_tower.vision_model.embeddings.position_embedding.weight"].shape[0]
    patch = weights["paligemma.model.vision_tower.vision_model.embeddings.patch_embedding.weight"].shape[-1]
    side = int(patches ** 0.5) * patch
    assets = options.checkpoint / "assets"
    found = sorted(f.parent.relative_to(assets) for f in assets.rglob("norm_stats.json"))
    asset = options.asset_id or (str(found[0]) if len(found) == 1 else None)
    if asset is None:
        parser.error(f"--asset-id: expected which of {[str(f) for f in found]}")
    (options.out / "assets" / asset).mkdir(parents=True, exist_ok=True)
    shutil.copy(assets / asset / "norm_stats.json", options.out / "assets" / asset / "norm_stats.json")
    shutil.copy(options.tokenizer, options.out / "tokenizer.model")
    (options.out / "action_tokenizer").mkdir(exist_ok=True)
    for file in options.fast.iterdir():
        if file.suffix in (".json", ".py"):
            shutil.copy(file, options.out / "action_tokenizer" / file.name)
    (options.out / "config.json").write_text(json.dumps(
        {"model_type": "pi0_fast", "dialect": "openpi", "action_dim": options.action_dim,
         "action_horizon": options.action_horizon, "max_token_len": options.max_token_len, "max_decoding_steps": 256,
         "fast_skip_tokens": 128, "image_keys": sorted(options.image_keys), "image_resolution": [side, side],
         "normalization": options.normalization, "asset_id": asset,
         "delta_action_dims": options.delta_action_dims}, indent=2) + "\n")
    print(f"checkpoint: {options.out}")


if __name__ == "__main__":
    main()
