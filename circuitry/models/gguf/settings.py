"""What a GGUF file says about its model beside the weights, and whether the config says the same.

transformers reads some keys of each architecture and passes over the others in silence, and where it reads none its config has
the values of some other checkpoint. Here every key that begins with the architecture's name is put into the config, or is known
to change nothing, or is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import ModelError

_EPS = ("rms_norm_eps", "norm_eps", "norm_epsilon", "layer_norm_epsilon", "layer_norm_eps")
_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "block_count": ("num_hidden_layers",),
    "context_length": ("max_position_embeddings",),
    "embedding_length": ("hidden_size",),
    "feed_forward_length": ("n_inner", "intermediate_size"),
    "vocab_size": ("vocab_size",),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim",),
    "attention.layer_norm_rms_epsilon": _EPS,
    "attention.layer_norm_epsilon": _EPS,
    "attention.sliding_window": ("sliding_window",),
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "expert_weights_norm": ("norm_topk_prob",),
    "ssm.conv_kernel": ("conv_kernel",),
    "ssm.state_size": ("state_size",),
    "ssm.time_step_rank": ("time_step_rank",),
    "ssm.inner_size": ("intermediate_size",),
}
"""Keys, and the attributes of configs that mean the same: the first that a config has."""

_UNSAID: dict[str, Any] = {"attention.sliding_window": 0, "rope.freq_base": 10000.0}
"""What llama.cpp takes where a file does not say it; the config may have something else by default."""

_NO_CHANGE: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "attn_logit_softcapping": (0.0,),
    "final_logit_softcapping": (0.0,),
    "expert_shared_count": (0,),
    "feed_forward_length": (0,),  # where blocks have no MLP
    "logit_scale": (0.0, 1.0),
    "pooling_type": (0,),
    "rope.scaling.type": ("none",),
    "rope.scaling.factor": (0.0, 1.0),
    "rope.scale_linear": (1.0,),
    "ssm.dt_b_c_rms": (False,),
}
"""Keys that transformers does not read, with the values that leave the model as it is."""

_BIASES = {"attention_bias": r"\.attn_(q|k|v|qkv|output)\.bias$", "mlp_bias": r"\.ffn_(gate|up|down)\.bias$"}
_OF_NO_CONCERN = {"tensor_data_layout", "rope.scaling.original_context_length", "rope.scaling.finetuned"}


def settle(config: Any, metadata: Mapping[str, Any], tensors: Mapping[str, Any], name: str) -> None:
    """Put into the config what the file says. Raises ModelError for what cannot be put there, and for what the file must say."""
    architecture = metadata["general.architecture"]
    if (kind := metadata.get("general.type", "model")) != "model":
        raise ModelError(f"{name} is of type {kind!r} (general.type), not a model; merge an adapter into its base first")
    prefix = f"{architecture}."
    said = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    _check_said(config, said, prefix, name)
    settings = {**_unsaid(config, tensors), **said}
    for key in sorted(settings, key=_CHECKED.__contains__):  # when the others are set
        if not _set(config, key, value := settings[key]):
            raise ModelError(
                f"{name} says {prefix}{key} = {value!r}, which transformers' {config.model_type} does not compute; "
                "load the same model from safetensors"
            )
    _set_biases(config, tensors)


def _check_said(config: Any, said: Mapping[str, Any], prefix: str, name: str) -> None:
    """Without these a default of transformers would stand in, and the weights would fit all the same."""
    wanted = ["attention.head_count"] if hasattr(config, "num_attention_heads") else []
    if prefix == "llama.":  # whose queries and keys transformers puts in its own order only if it knows the heads of both
        wanted.append("attention.head_count_kv")
    if any(hasattr(config, attribute) for attribute in _EPS) and "attention.layer_norm_epsilon" not in said:
        wanted.append("attention.layer_norm_rms_epsilon")
    if missing := [key for key in wanted if key not in said]:
        raise ModelError(f"{name} lacks {prefix}{missing[0]}, without which its model cannot be built")


def _unsaid(config: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
    known = dict(_UNSAID)
    if "token_embd.weight" in tensors:
        known["vocab_size"] = int(tensors["token_embd.weight"].shape[-1])
    if not getattr(config, "rope_parameters", None):
        del known["rope.freq_base"]
    return known


def _set(config: Any, key: str, value: Any) -> bool:
    """Whether the config says this now, or it changes nothing."""
    if key in _OF_NO_CONCERN or value in _NO_CHANGE.get(key, ()):
        return True
    if key == "rope.freq_base":
        return _set_base(config, value)
    if key in _CHECKED:
        return bool(value == _CHECKED[key](config))
    if isinstance(value, list):
        return False
    attribute = next((found for found in _ATTRIBUTES.get(key, ()) if hasattr(config, found)), None)
    if attribute is None:
        same = {
            "attention.head_count_kv": getattr(config, "num_attention_heads", None),
            "attention.key_length": _head_dim(config),
        }
        return value == same[key] if key in same else key in _ATTRIBUTES and not value
    if attribute != "sliding_window":
        setattr(config, attribute, value)
        return True
    if value or config.sliding_window:  # None in some configs and 0 in others where there is none
        config.sliding_window = value or None
    return _slides_everywhere(config)


def _set_base(config: Any, value: float) -> bool:
    rope = getattr(config, "rope_parameters", None)
    if not rope or rope.get("rope_type", "default") != "default" or "rope_theta" not in rope:
        return False
    rope["rope_theta"] = float(value)
    return True


def _head_dim(config: Any) -> int | None:
    heads = getattr(config, "num_attention_heads", None)
    return getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else None)


def _rotary(config: Any) -> int | None:
    """How many dimensions of a head are turned."""
    rope, width = getattr(config, "rope_parameters", None), _head_dim(config)
    if not rope or width is None:
        return None
    share = rope.get("partial_rotary_factor", getattr(config, "partial_rotary_factor", None))
    return math.floor(width * (1.0 if share is None else share))


_CHECKED = {"rope.dimension_count": _rotary, "attention.value_length": _head_dim}


def _slides_everywhere(config: Any) -> bool:
    """Whether the window that the config has is that of every layer, as it is where the file says one number."""
    kinds = set(getattr(config, "layer_types", None) or ())
    return not kinds or kinds == {"sliding_attention" if config.sliding_window else "full_attention"}


def _set_biases(config: Any, tensors: Iterable[str]) -> None:
    """Biases that a type of model may have are there if the file has them."""
    for attribute, pattern in _BIASES.items():
        if hasattr(config, attribute):
            setattr(config, attribute, any(re.search(pattern, name) for name in tensors))
