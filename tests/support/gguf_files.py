"""GGUF files as llama.cpp's converter writes them, made tensor by tensor from tiny Hugging Face models.

The names and the transformations are those of llama.cpp's convert_hf_to_gguf.py, written out here, so that a mistake in a mapping
shows as other logits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from support import tiny

Tensors = dict[str, NDArray[np.float32]]
Metadata = dict[str, Any]
_LLAMA = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.experts.down_proj": "ffn_down_exps.weight",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
}
_GPT2 = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_MAMBA = {
    "backbone.embeddings": "token_embd",
    "backbone.norm_f": "output_norm",
    "lm_head": "output",
    "norm": "attn_norm",
    "mixer.in_proj": "ssm_in",
    "mixer.conv1d": "ssm_conv1d",
    "mixer.x_proj": "ssm_x",
    "mixer.dt_proj": "ssm_dt",
    "mixer.A_log": "ssm_a",
    "mixer.D": "ssm_d",
    "mixer.out_proj": "ssm_out",
}
_GEMMA = {
    **_LLAMA,
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
NAMES = {"gpt2": _GPT2, "mamba": _MAMBA, "gemma2": _GEMMA, "gemma3_text": _GEMMA}
ARCHITECTURES = {"qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gemma3_text": "gemma3"}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2, "rope_theta": 500.0, "head_dim": 6},
    "qwen2": {},
    "qwen3": {"head_dim": 6},
    "qwen2_moe": {"rope_theta": 500.0},
    "qwen3_moe": {"norm_topk_prob": True},
    "phi3": {"sliding_window": 5, "rms_norm_eps": 1e-3},
    "starcoder2": {"rope_theta": 999999.0, "norm_epsilon": 1e-2},
    "nemotron": {"norm_eps": 1e-2},
    "gpt2": {"n_positions": 64, "n_inner": 24, "tie_word_embeddings": True},
    "mamba": {},
    "gemma2": {"sliding_window": 5, "head_dim": 4, "query_pre_attn_scalar": 4, "rms_norm_eps": 1e-3},
    "gemma3_text": {
        "sliding_window": 5,
        "head_dim": 4,
        "query_pre_attn_scalar": 4,
        "num_hidden_layers": 7,  # the sixth sees all tokens
        "final_logit_softcapping": None,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {"rope_type": "default", "rope_theta": 500.0},
        },
    },
}
"""Types of model that transformers reads from GGUF and circuitry has a graph for, with settings unlike their defaults."""


_SCALED = ("gemma2", "gemma3_text")
"""Types whose embedding and norms are scaled."""


def stock(kind: str, **changes: Any) -> Any:
    sizes = {name: value for name, value in KINDS[kind].items() if name != "rope_theta"}
    if "rope_theta" in KINDS[kind]:
        sizes["rope_parameters"] = {"rope_type": "default", "rope_theta": KINDS[kind]["rope_theta"]}
    return tiny.stock(kind, dtype=torch.float32, **{**sizes, **changes})


def tensors(hf: Any) -> Tensors:
    """Its weights by llama.cpp's names, in llama.cpp's order and shape."""
    kind = hf.config.model_type
    made: Tensors = {}
    for name, value in hf.state_dict().items():
        if name == "lm_head.weight" and hf.config.tie_word_embeddings:
            continue
        key = _name(name, NAMES.get(kind, _LLAMA))
        array = value.detach().float().numpy().copy()
        if name.endswith("experts.gate_up_proj"):
            at = key.split(".")[1]
            made[f"blk.{at}.ffn_gate_exps.weight"], made[f"blk.{at}.ffn_up_exps.weight"] = np.split(array, 2, axis=1)
        else:
            made[key] = np.ascontiguousarray(_changed(array, key, hf.config))
    return made


def _name(name: str, names: Mapping[str, str]) -> str:
    found = re.match(r"(?:model|transformer|backbone)\.(?:layers|h)\.(\d+)\.(.*)", name)
    inside, part = (f"blk.{found[1]}.", found[2]) if found else ("", name)
    stem, dot, suffix = part.rpartition(".")
    if part in names:
        return inside + names[part]
    if part.endswith("experts.gate_up_proj"):
        return f"{inside}two of them"
    return f"{inside}{names[stem]}{dot}{suffix}"


def _changed(array: Any, key: str, config: Any) -> Any:
    kind = config.model_type
    if kind == "llama" and (".attn_q." in key or ".attn_k." in key):
        heads = config.num_attention_heads if ".attn_q." in key else config.num_key_value_heads
        return array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
    if kind in ("nemotron", *_SCALED) and "norm.weight" in key:
        return array + 1
    if kind == "gpt2" and re.search(r"(attn_qkv|attn_output|ffn_up|ffn_down)\.weight", key):
        return array.T
    if key.endswith("ssm_a"):
        return -np.exp(array)
    return array.squeeze(1) if key.endswith("ssm_conv1d.weight") else array.squeeze(0) if "inp_shexp" in key else array


def metadata(hf: Any) -> Metadata:
    """What the converter writes beside them, by key; the architecture's name in front is left out."""
    config, kind = hf.config, hf.config.model_type
    said: Metadata = {"block_count": config.num_hidden_layers, "embedding_length": config.hidden_size}
    if kind == "mamba":
        said |= {"ssm.conv_kernel": config.conv_kernel, "ssm.state_size": config.state_size, "context_length": 2**20}
        said |= {"ssm.time_step_rank": config.time_step_rank, "ssm.inner_size": config.intermediate_size, "ssm.dt_b_c_rms": False}
        return said | {"attention.layer_norm_rms_epsilon": config.layer_norm_epsilon, "feed_forward_length": 0, "vocab_size": 61}
    said |= {"context_length": config.max_position_embeddings, "attention.head_count": config.num_attention_heads}
    if kind == "gpt2":
        return said | {"feed_forward_length": config.n_inner, "attention.layer_norm_epsilon": config.layer_norm_epsilon}
    said |= {"feed_forward_length": config.intermediate_size, "attention.head_count_kv": config.num_key_value_heads}
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    said |= {"rope.freq_base": rope["rope_theta"], "vocab_size": 61}
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if kind not in _SCALED:
        said["rope.dimension_count"] = int(head * rope.get("partial_rotary_factor", 1.0))
    if kind == "gemma2":
        said |= {
            "attn_logit_softcapping": config.attn_logit_softcapping,
            "final_logit_softcapping": config.final_logit_softcapping,
        }
    if kind in ("llama", "qwen3", "qwen3_moe", *_SCALED):
        said |= {"attention.key_length": head, "attention.value_length": head}
    eps = {"nemotron": ("norm_epsilon", "norm_eps"), "starcoder2": ("norm_epsilon", "norm_epsilon")}
    key, attribute = eps.get(kind, ("norm_rms_epsilon", "rms_norm_eps"))
    said[f"attention.layer_{key}"] = getattr(config, attribute)
    if kind in ("phi3", *_SCALED):
        said["attention.sliding_window"] = config.sliding_window
    if kind.endswith("moe"):
        said |= {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": config.moe_intermediate_size}
    if kind == "qwen2_moe":
        said["expert_shared_feed_forward_length"] = config.shared_expert_intermediate_size
    return said


def write(
    path: Path,
    hf: Any,
    change: Callable[[Tensors, Metadata], Any] = lambda *_: None,
    *,
    other: Metadata | None = None,
    architecture: str = "",
    quantisation: str = "",
    tensors_a_part: int = 0,
) -> Path:
    """A file, or the parts of one, its tensors and metadata changed before; the first of the files.

    ``other``: metadata without the architecture's name in front, such as general.type.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, quantize

    held, said = tensors(hf), metadata(hf)
    change(held, said)
    kind = hf.config.model_type
    architecture = architecture or ARCHITECTURES.get(kind, kind)
    writer = GGUFWriter(path, architecture, split_max_tensors=tensors_a_part)
    besides = {"general.name": "tiny", "tokenizer.ggml.padding_token_id": 0, **(other or {})}
    for key, value in {**besides, **{f"{architecture}.{key}": value for key, value in said.items()}}.items():
        {
            bool: writer.add_bool,
            int: writer.add_uint32,
            float: writer.add_float32,
            str: writer.add_string,
            list: writer.add_array,
        }[type(value)](key, value)
    for name, array in held.items():
        if quantisation and array.ndim == 2 and array.shape[1] % 32 == 0:
            how = GGMLQuantizationType[quantisation]
            writer.add_tensor(name, quantize(array, how), raw_dtype=how)
        else:
            writer.add_tensor(name, array.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path if not tensors_a_part else min(path.parent.glob(f"{path.stem}-*-of-*.gguf"))
