"""Files of OpenMOSS (Language-Model-SAEs, Llama Scope): linear layers, or W_E, b_E, W_D, b_D in later versions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import CircuitryError
from ..sae import SAE, SAEConfig
from .settings import Settings, chosen

FILE = "an OpenMOSS file"
NORM = "dataset_average_activation_norm"
_LOG_THRESHOLDS = ("log_jumprelu_threshold", "activation_function.log_jumprelu_threshold")
_LATER = ("W_E", "b_E", "W_D", "b_D")
_LINEAR = ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")

# Device, dtype and kernels of the computation: we compute in float32.
_WRITTEN = """device dtype promote_act_fn_dtype seed tp_size ddp_size use_triton_kernel sparsity_threshold_for_triton_spmm_kernel
sparsity_threshold_for_csr sae_pretrained_name_or_path sae_from_pretrained_path from_pretrained_path strict_loading"""
# How the SAE was trained. None of it is used when a trained SAE encodes or decodes.
_TRAINING = """bias_init_method decoder_bias_init_method geometric_median_max_iter init_decoder_norm init_encoder_norm
init_encoder_with_decoder_transpose decoder_exactly_fixed_norm decoder_exactly_unit_norm lp l1_coefficient
l1_coefficient_warmup_steps initial_k k_warmup_steps use_batch_norm_mse use_ghost_grads jumprelu_threshold_window"""


def read(given: Mapping[str, Any], weights: Mapping[str, Tensor]) -> SAE:
    """An SAE from the settings of ``hyperparams.json`` or ``config.json``, and its tensors.

    The authors first fold the mean norm of activations into the weights: with s = √D / mean norm, features are
    x W_enc + b_enc / s, so that thresholds are compared with features of x, not of s·x. With
    ``sparsity_include_decoder_norm`` features are then multiplied by their directions' norms, and directions get norm 1.
    """
    settings = Settings(FILE, given)
    settings.only("sae_type", "sae", why="it is not an autoencoder of one node")
    settings.only("use_glu_encoder", False, why="it has a gated encoder")
    settings.only("force_unit_decoder_norm", False, why="its encoder was trained with other directions than it has")
    hook_in, hook_out = settings.take("hook_point_in", None), settings.take("hook_point_out", None)
    if hook_out not in (None, hook_in):
        raise settings.refuse("hook_point_out", hook_out, f"a transcoder of {hook_in} does not reconstruct its input")
    later = "W_D" in weights
    biased = settings.flag("use_decoder_bias", True)
    centred = _centred(settings, later, biased)
    kind = settings.word("act_fn", ["relu", "topk", "jumprelu"])
    k = settings.whole("top_k") if kind == "topk" else settings.take("top_k", None) and None
    norms = _norms(settings, weights, hook_in)
    tensors = _tensors(settings, weights, later, biased, kind, bool(norms))
    features, width = tensors["W_dec"].shape
    for name, size in (("d_model", width), ("d_sae", features)):
        settings.size(name, size)
    ranked = settings.flag("sparsity_include_decoder_norm", True)
    for names in (_WRITTEN, _TRAINING, "expansion_factor"):
        settings.harmless(names)
    settings.done()
    into, out = (math.sqrt(width) / norm for norm in norms or (math.sqrt(width), math.sqrt(width)))
    tensors["b_enc"], tensors["b_dec"] = tensors["b_enc"].float() / into, tensors["b_dec"].float() / out
    tensors["W_dec"] = tensors["W_dec"].float() * (into / out)
    sae = SAE.of(SAEConfig(width, features, kind, k, centred, {"from": "OpenMOSS", **given}), tensors)
    return sae.unit() if ranked else sae


def _centred(settings: Settings, later: bool, biased: bool) -> bool:
    """Whether b_dec is subtracted first. Every version that can subtract it records whether it does."""
    if later:
        settings.only("apply_decoder_bias_to_pre_encoder", False, why="versions that name their weights W_E do not do that")
        return False
    return settings.flag("apply_decoder_bias_to_pre_encoder", False) and biased


def _norms(settings: Settings, weights: Mapping[str, Tensor], hook: object) -> tuple[float, float] | None:
    """The mean norms of input and output activations, if the SAE normalises by them; else None."""
    scheme, listed = settings.take("norm_activation"), settings.take(NORM, None) or {}
    if not isinstance(listed, Mapping):
        raise settings.refuse(NORM, listed, "it must be norms by name")
    if scheme in ("none", "inference"):
        return None
    if scheme != "dataset-wise":
        raise settings.refuse("norm_activation", scheme, "that is not by one number")
    stored = {name.removeprefix(f"{NORM}."): value.tolist() for name, value in weights.items() if name.startswith(f"{NORM}.")}
    values = stored or listed
    norms = Settings(f"{FILE}, in {NORM},", values)
    name_in, name_out = ("in", "out") if "in" in values else (str(hook), str(hook))
    if name_in not in values:
        raise settings.refuse(
            "norm_activation", scheme, f"it needs the mean norm of {name_in} ({NORM}), and the file does not have it"
        )
    into = norms.number(name_in)
    out = norms.number(name_out, into)
    norms.done()
    if not min(into, out):
        raise settings.refuse(NORM, values, "it must be more than 0")
    return into, out


def _tensors(
    settings: Settings, weights: Mapping[str, Tensor], later: bool, biased: bool, kind: str, normed: bool
) -> dict[str, Tensor]:
    """W_enc, b_enc, W_dec, b_dec and threshold, with no tensor left over."""
    names = _LATER if later else _LINEAR
    if not biased and names[3] in weights:
        raise settings.refuse("use_decoder_bias", False, f"it has a {names[3]}")
    wanted = dict(zip(names if biased else names[:3], ("W_enc", "b_enc", "W_dec", "b_dec"), strict=False))
    thresholds = [name for name in _LOG_THRESHOLDS if name in weights] if kind == "jumprelu" else []
    wanted |= dict.fromkeys(thresholds, "threshold")
    rest = {name: value for name, value in weights.items() if not name.startswith(f"{NORM}.")}
    tensors = chosen(FILE, rest, wanted)
    if not later:
        tensors |= {name: tensors[name].T for name in ("W_enc", "W_dec")}
    features, width = tensors["W_dec"].shape
    tensors.setdefault("b_dec", torch.zeros(width))
    if kind == "jumprelu":
        tensors["threshold"] = _threshold(settings, tensors.pop("threshold", None), features, normed)
    else:  # with another threshold, the authors' code loads the SAE as a jumprelu
        settings.only("jump_relu_threshold", 0, 0.0, None, why=f"act_fn is {kind}, which has no threshold")
    return tensors


def _threshold(settings: Settings, logs: Tensor | None, features: int, normed: bool) -> Tensor:
    """The features' thresholds: one for each, or one for all repeated."""
    if logs is None:
        return torch.full((features,), settings.number("jump_relu_threshold"))
    settings.harmless("jump_relu_threshold")  # the default of features without a threshold, and every feature has one
    if normed:
        raise CircuitryError(
            "an OpenMOSS file with a threshold for every feature and norm_activation 'dataset-wise' is not read: the authors' code "
            "compares thresholds with features of scaled activations while training, and of activations as they are once the "
            "scale is in the weights; save it with fold_activation_scale=True, which says which"
        )
    return logs.float().exp()
