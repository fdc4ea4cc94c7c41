"""Checkpoints of the mamba-ssm package (Gu and Dao 2023, Dao and Gu 2024; https://github.com/state-spaces/mamba).

Names and defaults are those of mamba_ssm 2.3.2: models/config_mamba.py, modules/mamba_simple.py and modules/mamba2.py.
"""

from __future__ import annotations

from typing import Any

import torch

from ..errors import ModelError, expected, suggest

_DEFAULTS = {"vocab_size": 50277, "residual_in_fp32": True, "pad_vocab_size_multiple": 8, "tie_embeddings": True}
# The only values that transformers' models support; None, an empty list and an empty dict mean the same.
_ONLY: dict[str, Any] = {"rms_norm": True, "d_intermediate": 0, "attn_layer_idx": [], "attn_cfg": {}}
_IGNORED = {"fused_add_norm"}  # a kernel for the same sum
_BOTH = {"d_state": "state_size", "d_conv": "conv_kernel", "expand": "expand", "bias": "use_bias", "conv_bias": "use_conv_bias"}
_MAMBA1 = {**_BOTH, "dt_rank": "time_step_rank"}
_MAMBA2 = {**_BOTH, "headdim": "head_dim", "ngroups": "n_groups", "chunk_size": "chunk_size", "dt_limit": "time_step_limit"}
_MAMBA2_DEFAULTS = {"d_state": 128, "expand": 2, "headdim": 64, "ngroups": 1}
_MAMBA2_ONLY: dict[str, Any] = {"d_ssm": None, "D_has_hdim": False, "rmsnorm": True, "norm_before_gate": False}
# How weights are initialised, and the choice among kernels for the same function.
_NOT_THE_MODEL = {"dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "use_fast_path"}
_NOT_THE_MODEL |= {"conv_init", "A_init_range", "use_mem_eff_path", "sequence_parallel"}


def config(settings: dict[str, Any], name: str) -> Any:
    """The MambaConfig or Mamba2Config of a config.json. Raises ModelError for a setting that transformers' models do not have."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import Mamba2Config, MambaConfig

    _check(settings, {"d_model", "n_layer", "ssm_cfg", *_DEFAULTS}, _ONLY, _IGNORED, f"config.json of {name}")
    mixer = dict(settings.get("ssm_cfg") or {})
    layer = mixer.pop("layer", "Mamba1")
    if layer not in ("Mamba1", "Mamba2"):
        raise ModelError(f"config.json of {name}: {expected('Mamba1 or Mamba2 as ssm_cfg.layer', layer)}")
    names = _MAMBA2 if layer == "Mamba2" else _MAMBA1
    _check(mixer, set(names), _MAMBA2_ONLY if layer == "Mamba2" else {}, _NOT_THE_MODEL, f"ssm_cfg in config.json of {name}")
    if layer == "Mamba2":
        mixer = {**_MAMBA2_DEFAULTS, **mixer}
    try:
        sizes = _sizes(settings) | {theirs: mixer[original] for original, theirs in names.items() if original in mixer}
        if layer == "Mamba1":
            return MambaConfig(**sizes)
        return Mamba2Config(**sizes, num_heads=mixer["expand"] * settings["d_model"] // mixer["headdim"])
    except (StrictDataclassError, TypeError, ValueError, ArithmeticError) as error:
        raise ModelError(f"config.json of {name} does not make a model: {' '.join(str(error).split())}") from error


def _check(settings: dict[str, Any], names: set[str], only: dict[str, Any], ignored: set[str], where: str) -> None:
    """Refuse a setting with which transformers would compute something else than the authors' package."""
    for key, value in settings.items():
        if key in only and (value or None) != (only[key] or None):
            raise ModelError(f"{where} has {key} {value!r}; transformers supports only {only[key]!r}")
        if key not in {*names, *only, *ignored}:
            raise ModelError(f"{where} has {key!r}, which mamba-ssm does not know; {suggest(key, {*names, *only})}")


def _sizes(settings: dict[str, Any]) -> dict[str, Any]:
    all_settings = {**_DEFAULTS, **settings}
    multiple = all_settings["pad_vocab_size_multiple"]
    return {
        "hidden_size": settings["d_model"],
        "num_hidden_layers": settings["n_layer"],
        "vocab_size": -(-all_settings["vocab_size"] // multiple) * multiple,
        "tie_word_embeddings": all_settings["tie_embeddings"],
        "residual_in_fp32": all_settings["residual_in_fp32"],
        "layer_norm_epsilon": 1e-5,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0),  # of GPT-NeoX's tokenizer, which all use
    }


def renamed(weights: dict[str, torch.Tensor], settings: dict[str, Any], name: str) -> dict[str, torch.Tensor]:
    """The weights by transformers' names, without the tied copy of the embedding. Raises ModelError if the two copies differ."""
    old, new, head = "backbone.embedding.weight", "backbone.embeddings.weight", "lm_head.weight"
    result = {new if key == old else key: value for key, value in weights.items()}
    if settings.get("tie_embeddings", True) and head in result and new in result:
        if not torch.equal(result[head], result[new]):
            raise ModelError(f"{name} has tie_embeddings, but its {head} differs from its {old}")
        del result[head]
    return result
