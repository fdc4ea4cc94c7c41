"""Original mamba-ssm, RWKV-4 and RWKV-7 checkpoints, made name by name from tiny Hugging Face models, so that a mistake in a mapping shows
as other logits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from support import tiny

IDS = torch.randint(1, 61, (3, 20), generator=torch.Generator().manual_seed(0))
Weights = dict[str, Tensor]


def logits(hf: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = hf(IDS, use_cache=False).logits
    return found


def read(folder: Path) -> Any:
    """A Hugging Face folder, by transformers alone, or by circuitry's class where transformers has none."""
    from transformers import AutoModelForCausalLM

    from circuitry.native.rwkv7_model import Rwkv7ForCausalLM

    own = json.loads((folder / "config.json").read_text())["model_type"] == "rwkv7"
    return (Rwkv7ForCausalLM if own else AutoModelForCausalLM).from_pretrained(folder, use_safetensors=True).eval()


MIXER = {
    "mamba": "A_log D in_proj.weight conv1d.weight conv1d.bias x_proj.weight dt_proj.weight dt_proj.bias out_proj.weight",
    "mamba2": "A_log D dt_bias in_proj.weight conv1d.weight conv1d.bias norm.weight out_proj.weight",
}
TIME_MIX = {"time_mix_k": "time_mix_key", "time_mix_v": "time_mix_value", "time_mix_r": "time_mix_receptance"}
BASE = {"rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": 8}
# By name: model_type and sizes of the Hugging Face model, and the config.json of the same model in mamba-ssm's words. A
# vocabulary of 61 is stored as 64.
CHECKPOINTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "mamba": (
        "mamba",
        {"vocab": 64},
        {"d_model": 16, "n_layer": 3, "vocab_size": 61, "ssm_cfg": {"d_state": 4, "dt_rank": 3}, **BASE},
    ),
    "mamba-other": (
        "mamba",
        {"vocab": 61, "conv_kernel": 3, "expand": 3, "use_bias": True, "tie_word_embeddings": False, "time_step_rank": 1},
        {
            **{"d_model": 16, "n_layer": 3, "vocab_size": 61, "pad_vocab_size_multiple": 1, "tie_embeddings": False},
            "ssm_cfg": {"layer": "Mamba1", "d_state": 4, "d_conv": 3, "expand": 3, "bias": True, "dt_scale": 1.0},
        },
    ),
    "mamba2": (
        "mamba2",
        {"vocab": 64, "tie_word_embeddings": True},
        {
            **{"d_model": 16, "n_layer": 3, "d_intermediate": 0, "vocab_size": 61, "attn_layer_idx": [], "attn_cfg": {}, **BASE},
            "ssm_cfg": {"layer": "Mamba2", "d_state": 4, "headdim": 8, "ngroups": 2, "chunk_size": 4},
        },
    ),
}


def stock(name: str) -> Any:
    """The Hugging Face model of a checkpoint, in float32."""
    if name == "rwkv":
        return rwkv()
    if name == "rwkv7":
        return tiny.stock("rwkv7", dtype=torch.float32)
    kind, changes, _ = CHECKPOINTS[name]
    return tiny.stock(kind, dtype=torch.float32, **changes)


def rwkv() -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 61, "hidden_size": 16, "attention_hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3}
    torch.manual_seed(0)
    hf = AutoModelForCausalLM.from_config(AutoConfig.for_model("rwkv", **sizes, rescale_every=0)).eval()
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return hf


def as_mamba_ssm(hf: Any) -> Weights:
    """By mamba_ssm's names; with the head, which it writes even where it is the embedding."""
    found = {"backbone.embedding.weight": hf.backbone.embeddings.weight, "backbone.norm_f.weight": hf.backbone.norm_f.weight}
    found["lm_head.weight"] = hf.lm_head.weight
    for l, block in enumerate(hf.backbone.layers):
        found[f"backbone.layers.{l}.norm.weight"] = block.norm.weight
        names = MIXER[hf.config.model_type].split()
        for name in names + [f"{name}.bias" for name in ("in_proj", "out_proj") if hf.config.use_bias]:
            found[f"backbone.layers.{l}.mixer.{name}"] = block.mixer.get_parameter(name)
    return {name: value.detach().clone() for name, value in found.items()}


def as_rwkv4(hf: Any) -> Weights:
    """By the names of RWKV-LM/RWKV-v4/src/model.py."""
    found = {"emb.weight": hf.rwkv.embeddings.weight, "head.weight": hf.head.weight}
    norms = {"ln_out": hf.rwkv.ln_out, "blocks.0.ln0": hf.rwkv.blocks[0].pre_ln}
    for l, block in enumerate(hf.rwkv.blocks):
        norms |= {f"blocks.{l}.ln1": block.ln1, f"blocks.{l}.ln2": block.ln2}
        att, ffn = block.attention, block.feed_forward
        for name in ("time_decay", "time_first"):
            found[f"blocks.{l}.att.{name}"] = getattr(att, name)
        for old, new in TIME_MIX.items():
            found[f"blocks.{l}.att.{old}"] = getattr(att, new)
            if old != "time_mix_v":
                found[f"blocks.{l}.ffn.{old}"] = getattr(ffn, new)
        for name in ("key", "value", "receptance", "output"):
            found[f"blocks.{l}.att.{name}.weight"] = getattr(att, name).weight
        for name in ("key", "value", "receptance"):
            found[f"blocks.{l}.ffn.{name}.weight"] = getattr(ffn, name).weight
    for name, norm in norms.items():
        found |= {f"{name}.weight": norm.weight, f"{name}.bias": norm.bias}
    return {name: value.detach().clone() for name, value in found.items()}


def as_rwkv7(hf: Any) -> Weights:
    """By the names of RWKV-LM/RWKV-v7/rwkv_v7_demo.py, which makes weights for layer 0 that it does not use."""
    found = {f"blocks.0.att.{name}": value for name, value in hf.blocks[1].att.named_parameters() if name in ("v0", "v1", "v2")}
    found |= {"emb.weight": hf.emb.weight, "head.weight": hf.head.weight}
    norms = {"ln_out": hf.ln_out, "blocks.0.ln0": hf.blocks[0].ln0}
    for l, block in enumerate(hf.blocks):
        norms |= {f"blocks.{l}.ln1": block.ln1, f"blocks.{l}.ln2": block.ln2, f"blocks.{l}.att.ln_x": block.att.ln_x}
        names = "x_r x_w x_k x_v x_a x_g w0 w1 w2 a0 a1 a2 g1 g2 k_k k_a r_k" + " v0 v1 v2" * (l > 0)
        names += " receptance.weight key.weight value.weight output.weight"
        found |= {f"blocks.{l}.att.{name}": block.att.get_parameter(name) for name in names.split()}
        found |= {f"blocks.{l}.ffn.{name}": block.ffn.get_parameter(name) for name in ("x_k", "key.weight", "value.weight")}
    for name, norm in norms.items():
        found |= {f"{name}.weight": norm.weight, f"{name}.bias": norm.bias}
    return {name: value.detach().clone() for name, value in found.items()}


RWKV: dict[str, Callable[[Any], Weights]] = {"rwkv": as_rwkv4, "rwkv7": as_rwkv7}


def written(name: str, folder: Path, suffix: str, change: Callable[[Any], Any] = lambda _: None) -> Path:
    """A native folder (mamba-ssm) or file (RWKV), as safetensors or pickle, its weights changed before."""
    weights = RWKV.get(name, as_mamba_ssm)(stock(name))
    change(weights)
    folder.mkdir(exist_ok=True)
    if name in RWKV:
        file = what = folder / f"{name}-tiny{suffix}"
    else:
        file, what = folder / {".safetensors": "model.safetensors", ".bin": "pytorch_model.bin"}[suffix], folder
        (folder / "config.json").write_text(json.dumps(CHECKPOINTS[name][2]))
    torch.save(weights, file) if suffix != ".safetensors" else save_file(weights, file)
    return what


FORMATS = [(name, suffix) for name in CHECKPOINTS for suffix in (".safetensors", ".bin")]
FORMATS += [(name, suffix) for name in RWKV for suffix in (".safetensors", ".pth")]
