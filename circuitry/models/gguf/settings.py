"""The settings of a GGUF file beside its weights, and the config that must agree with them.

transformers reads some keys of each architecture and ignores the others without a message. A setting that it does not read has
the config's default, which comes from some other checkpoint. Here every key that begins with the architecture's name is put into
the config, or is known to change nothing, or is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import ModelError

ARCHITECTURES = frozenset(
    "gemma2 gemma3 gpt2 llama mamba nemotron phi3 qwen2 qwen2moe qwen3 qwen3moe starcoder2".split()  # noqa: SIM905
)
"""The architectures whose files tests compare with the model that they were made of."""
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
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
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
"""For each key, the attributes of configs that mean the same; the first one that a config has is set."""

_DEFAULTS: dict[str, Any] = {"attention.sliding_window": 0, "rope.freq_base": 10000.0, "rope.freq_base_swa": 10000.0}
"""The values that llama.cpp uses if a file does not have the key; the defaults of a config may differ."""

_NO_CHANGE: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
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
    """Put the file's settings into the config. Raises ModelError for one that cannot be put there, and for a missing one."""
    architecture = metadata["general.architecture"]
    if (kind := metadata.get("general.type", "model")) != "model":
        raise ModelError(f"{name} is of type {kind!r} (general.type), not a model; merge an adapter into its base first")
    prefix = f"{architecture}."
    given = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    _check_required(config, given, prefix, name)
    settings = {**_defaults(config, tensors), **given}
    for key in sorted(settings, key=_CHECKED.__contains__):  # these come last: they are compared with what the others set
        if not _set(config, key, value := settings[key]):
            raise ModelError(
                f"{name} says {prefix}{key} = {value!r}, which transformers' {config.model_type} does not compute; "
                "load the same model from safetensors"
            )
    _set_biases(config, tensors)
    if config.model_type in _LARGEST:
        _set_scale(config)


def _check_required(config: Any, given: Mapping[str, Any], prefix: str, name: str) -> None:
    """Refuse a file without these keys: transformers would use a default instead, and the weights would fit anyway."""
    required = ["attention.head_count"] if hasattr(config, "num_attention_heads") else []
    if prefix == "llama.":  # transformers permutes queries and keys by their numbers of heads, and does not if one is missing
        required.append("attention.head_count_kv")
    if any(hasattr(config, attribute) for attribute in _EPS) and "attention.layer_norm_epsilon" not in given:
        required.append("attention.layer_norm_rms_epsilon")
    if missing := [key for key in required if key not in given]:
        raise ModelError(f"{name} lacks {prefix}{missing[0]}, which is needed to build its model")


def _defaults(config: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
    defaults = dict(_DEFAULTS)
    if "token_embd.weight" in tensors:
        defaults["vocab_size"] = int(tensors["token_embd.weight"].shape[-1])
    rope = getattr(config, "rope_parameters", None)
    if not rope:
        del defaults["rope.freq_base"]
    if "sliding_attention" not in (rope or {}):
        del defaults["rope.freq_base_swa"]
    return defaults


def _set(config: Any, key: str, value: Any) -> bool:
    """Put one setting into the config. False if that is not possible and the setting would change the model."""
    if key in _OF_NO_CONCERN or value in _NO_CHANGE.get(key, ()):
        return True
    if key in _BASES:
        return _set_base(config, value, _BASES[key])
    if key in _CHECKED:
        return bool(value == _CHECKED[key](config))
    if isinstance(value, list):
        return False
    attribute = next((name for name in _ATTRIBUTES.get(key, ()) if hasattr(config, name)), None)
    if attribute is None:
        implied = {
            "attention.head_count_kv": getattr(config, "num_attention_heads", None),
            "attention.key_length": _head_dim(config),
        }
        return value == implied[key] if key in implied else key in _ATTRIBUTES and not value
    if attribute != "sliding_window":
        setattr(config, attribute, (value or None) if attribute.endswith("softcapping") else value)
        return True
    if value or config.sliding_window:  # without a window, some configs have None and others 0
        config.sliding_window = value or None
    return _slides_as_said(config)


_BASES = {"rope.freq_base": "full_attention", "rope.freq_base_swa": "sliding_attention"}
"""The kind of layer whose rotary base a key gives, in a model that has two; in any other, the first is that of all layers."""


def _set_base(config: Any, value: float, kind: str) -> bool:
    rope = getattr(config, "rope_parameters", None)
    if rope and kind in rope:
        rope = rope[kind]
    elif kind == "sliding_attention":
        return False
    if not rope or rope.get("rope_type", "default") != "default" or "rope_theta" not in rope:
        return False
    rope["rope_theta"] = float(value)
    return True


def _head_dim(config: Any) -> int | None:
    heads = getattr(config, "num_attention_heads", None)
    return getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else None)


def _rotary(config: Any) -> int | None:
    """How many dimensions of a head are rotated; None without rotary embedding."""
    rope, width = getattr(config, "rope_parameters", None), _head_dim(config)
    if not rope or width is None:
        return None
    factor = rope.get("partial_rotary_factor", getattr(config, "partial_rotary_factor", None))
    return math.floor(width * (1.0 if factor is None else factor))


_CHECKED = {"rope.dimension_count": _rotary, "attention.value_length": _head_dim}


_EVERY = {"gemma2": 2, "gemma3_text": 6}
"""Every so many layers llama.cpp has one without a window in these types; a file does not say it."""
_LARGEST = {"gemma2": 46, "gemma3_text": 62}
"""How many layers the largest model of a type has, the only one whose scores are not divided by the root of the width of a head."""


def _set_scale(config: Any) -> None:
    """What scores are divided by, which a file of Gemma does not say."""
    largest = config.num_hidden_layers == _LARGEST[config.model_type]
    config.query_pre_attn_scalar = config.hidden_size // config.num_attention_heads if largest else config.head_dim


def _slides_as_said(config: Any) -> bool:
    """Whether the layers have windows as llama.cpp reads one number in the file: in all layers, but for some types in some."""
    if every := _EVERY.get(config.model_type):
        kinds = ["sliding_attention" if (layer + 1) % every else "full_attention" for layer in range(config.num_hidden_layers)]
        return bool(config.sliding_window and config.layer_types == kinds)
    found = set(getattr(config, "layer_types", None) or ())
    return not found or found == {"sliding_attention" if config.sliding_window else "full_attention"}


def _set_biases(config: Any, tensors: Iterable[str]) -> None:
    """A model of a type with optional biases has them if the file does."""
    for attribute, pattern in _BIASES.items():
        if hasattr(config, attribute):
            setattr(config, attribute, any(re.search(pattern, name) for name in tensors))
