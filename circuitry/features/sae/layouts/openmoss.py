"""Files of OpenMOSS (Language-Model-SAEs, Llama Scope): linear layers, or W_E, b_E, W_D, b_D in later versions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ....errors import CircuitryError
from ..sae import SAE, SAEConfig
from .settings import Settings, chosen

FILE = "an OpenMOSS file"
NORM = "dataset_average_activation_norm"
_LOG_THRESHOLDS = ("log_jumprelu_threshold", "activation_function.log_jumprelu_threshold")
_LATER = ("W_E", "b_E", "W_D", "b_D")
_LINEAR = ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")

# Where and in which type it was computed, and with which kernels: we compute in float32.
_WRITTEN = """device dtype promote_act_fn_dtype seed tp_size ddp_size use_triton_kernel sparsity_threshold_for_triton_spmm_kernel
sparsity_threshold_for_csr sae_pretrained_name_or_path sae_from_pretrained_path from_pretrained_path strict_loading"""
# How it was trained. None of it is used when a trained SAE encodes or decodes.
_TRAINING = """bias_init_method decoder_bias_init_method geometric_median_max_iter init_decoder_norm init_encoder_norm
init_encoder_with_decoder_transpose decoder_exactly_fixed_norm decoder_exactly_unit_norm lp l1_coefficient
l1_coefficient_warmup_steps initial_k k_warmup_steps use_batch_norm_mse use_ghost_grads jumprelu_threshold_window"""


def read(given: Mapping[str, Any], weights: Mapping[str, Tensor]) -> SAE:
    """An SAE from the settings of ``hyperparams.json`` or ``config.json``, and its tensors.

    The authors put the mean norm of activations into the weights before anything else: with s = √D / mean norm, features are
    x W_enc + b_enc / s, so that thresholds are compared with features of x as it is, and not of s·x. With
    ``sparsity_include_decoder_norm`` features are multiplied by their directions' norms first, and directions have norm 1.
    """
    settings = Settings(FILE, given)
    settings.only("sae_type", "sae", why="it is not an autoencoder of one node")
    settings.only("use_glu_encoder", False, why="it has a gated encoder")
    settings.only("force_unit_decoder_norm", False, why="its encoder was trained with other directions than it has")
    came, went = settings.take("hook_point_in", None), settings.take("hook_point_out", None)
    if went not in (None, came):
        raise settings.refuse("hook_point_out", went, f"a transcoder of {came} does not reconstruct what goes in")
    later = "W_D" in weights
    biased = settings.flag("use_decoder_bias", True)
    centred = _centred(settings, later, biased)
    kind = settings.word("act_fn", ["relu", "topk", "jumprelu"])
    k = settings.whole("top_k") if kind == "topk" else settings.take("top_k", None) and None
    norms = _norms(settings, weights, came)
    found = _tensors(settings, weights, later, biased, kind, bool(norms))
    features, width = found["W_dec"].shape
    for name, size in (("d_model", width), ("d_sae", features)):
        settings.size(name, size)
    ranked = settings.flag("sparsity_include_decoder_norm", True)
    for names in (_WRITTEN, _TRAINING, "expansion_factor"):
        settings.harmless(names)
    settings.done()
    into, out = (math.sqrt(width) / norm for norm in norms or (math.sqrt(width), math.sqrt(width)))
    found["b_enc"], found["b_dec"] = found["b_enc"].float() / into, found["b_dec"].float() / out
    found["W_dec"] = found["W_dec"].float() * (into / out)
    made = SAE.of(SAEConfig(width, features, kind, k, centred, {"from": "OpenMOSS", **given}), found)
    return made.unit() if ranked else made


def _centred(settings: Settings, later: bool, biased: bool) -> bool:
    """Whether b_dec is subtracted first. Every version that can do that writes whether it does."""
    if later:
        settings.only("apply_decoder_bias_to_pre_encoder", False, why="versions that name their weights W_E do not do that")
        return False
    return settings.flag("apply_decoder_bias_to_pre_encoder", False) and biased


def _norms(settings: Settings, weights: Mapping[str, Tensor], hook: object) -> tuple[float, float] | None:
    """The mean norms of activations, before and after, that they are divided by (times √D); None where they are not."""
    scheme, told = settings.take("norm_activation"), settings.take(NORM, None) or {}
    if not isinstance(told, Mapping):
        raise settings.refuse(NORM, told, "it must be norms by name")
    if scheme in ("none", "inference"):
        return None
    if scheme != "dataset-wise":
        raise settings.refuse("norm_activation", scheme, "that is not by one number")
    inside = {name.removeprefix(f"{NORM}."): value.tolist() for name, value in weights.items() if name.startswith(f"{NORM}.")}
    known = Settings(f"{FILE}, in {NORM},", inside or told)
    came, went = ("in", "out") if "in" in (inside or told) else (str(hook), str(hook))
    if came not in (inside or told):
        raise settings.refuse(
            "norm_activation", scheme, f"it takes the mean norm of {came} ({NORM}), and the file does not have it"
        )
    into = known.number(came)
    out = known.number(went, into)
    known.done()
    if not min(into, out):
        raise settings.refuse(NORM, inside or told, "it must be more than 0")
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
    found = chosen(FILE, rest, wanted)
    if not later:
        found |= {name: found[name].T for name in ("W_enc", "W_dec")}
    features, width = found["W_dec"].shape
    found.setdefault("b_dec", torch.zeros(width))
    if kind == "jumprelu":
        found["threshold"] = _threshold(settings, found.pop("threshold", None), features, normed)
    else:  # loading such a file, the authors make a jumprelu of it
        settings.only("jump_relu_threshold", 0, 0.0, None, why=f"act_fn is {kind}, which has no threshold")
    return found


def _threshold(settings: Settings, logs: Tensor | None, features: int, normed: bool) -> Tensor:
    """One for every feature, or the one of all."""
    if logs is None:
        return torch.full((features,), settings.number("jump_relu_threshold"))
    settings.harmless("jump_relu_threshold")  # of features without one of their own
    if normed:
        raise CircuitryError(
            "an OpenMOSS file with a threshold for every feature and norm_activation 'dataset-wise' is not read: the authors' code "
            "compares thresholds with features of scaled activations while training, and of activations as they are once the "
            "scale is in the weights; save it with fold_activation_scale=True, which says which"
        )
    return logs.float().exp()
