"""Files of SAEs: written in SAELens's layout, read in those of SAELens, sparsify and OpenMOSS, with safetensors alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...errors import CircuitryError
from ...files import write_whole
from .sae import SAE, SAEConfig

Weights: TypeAlias = dict[str, Tensor]
SETTINGS, WEIGHTS = "cfg.json", "sae_weights.safetensors"
LAYOUT = "6.0.0"
"""The version of SAELens whose layout this is. It must stand in ``metadata``: without it SAELens takes the file for an older one
and drops the rest of the metadata."""
_ARCHITECTURES = {"standard": "relu", "topk": "topk", "jumprelu": "jumprelu"}


def save(sae: SAE, folder: str | PathLike[str]) -> Path:
    """Write an SAE as a folder that SAELens loads: ``cfg.json`` and ``sae_weights.safetensors``; the folder.

    ``config.about`` is kept in the metadata, under ``circuitry``.

    >>> import tempfile
    >>> made = save(SAE(SAEConfig(4, 8, about={"node": "resid[3]"})), tempfile.mkdtemp())
    >>> load(made).config.about["node"]
    'resid[3]'
    """
    target, config = Path(folder), sae.config
    target.mkdir(parents=True, exist_ok=True)
    about = dict(config.about)
    settings = {
        "architecture": next(name for name, kind in _ARCHITECTURES.items() if kind == config.kind),
        "d_in": config.width,
        "d_sae": config.features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": config.centred,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **({"k": config.k, "rescale_acts_by_decoder_norm": False} if config.kind == "topk" else {}),
        "metadata": {
            "sae_lens_version": LAYOUT,
            "sae_lens_training_version": None,
            "model_name": about.get("model"),
            "hook_name": about.get("node"),
            "circuitry": about,
        },
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in sae.state_dict().items()}
    write_whole(target / WEIGHTS, lambda file: save_file(weights, file))
    write_whole(target / SETTINGS, json.dumps(settings, indent=1))
    return target


def load(folder: str | PathLike[str]) -> SAE:
    """Read an SAE from a folder of SAELens, sparsify or OpenMOSS; which of them, its tensors' names tell.

    What normalises activations by one number, or ranks features by their share in the reconstruction, is folded into the
    weights. Raises CircuitryError for what is none of these layouts or none of these functions: gates, transcoders,
    normalisation token by token.

    >>> load("nowhere")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: nowhere holds no SAE: there is no such folder
    """
    place = Path(folder)
    names = (WEIGHTS, "sae.safetensors", "checkpoints/pruned.safetensors", "checkpoints/final.safetensors")
    file = next((place / name for name in names if (place / name).is_file()), None)
    if not place.is_dir():
        raise CircuitryError(f"{place} holds no SAE: there is no such folder")
    if file is None:
        raise CircuitryError(f"{place} holds no SAE: there is none of {', '.join(names)}")
    settings = _settings(place)
    weights = load_file(file)
    if "W_enc" in weights:
        return _saelens(settings, weights)
    if "encoder.weight" in weights and "W_dec" in weights:
        return _sparsify(settings, weights)
    if "decoder.weight" in weights or "W_D" in weights:
        return _openmoss(settings, weights)
    raise CircuitryError(f"{file} is in no layout that is known here; its tensors are {', '.join(sorted(weights))}")


def _settings(place: Path) -> dict[str, Any]:
    for name in (SETTINGS, "hyperparams.json", "config.json"):
        if (place / name).is_file():
            found: dict[str, Any] = json.loads((place / name).read_text(encoding="utf-8"))
            return found
    raise CircuitryError(f"{place} has weights but no settings: none of {SETTINGS}, hyperparams.json, config.json")


def _saelens(settings: Mapping[str, Any], weights: Weights) -> SAE:
    """SAELens 6, and what older versions wrote: settings under other names, and b_dec subtracted unless they say no."""
    metadata = settings.get("metadata") or {}
    old = not metadata.get("sae_lens_version")
    architecture = settings.get("architecture", "standard")
    k = settings.get("k")
    if settings.get("activation_fn_str", settings.get("activation_fn")) == "topk":
        architecture, k = "topk", (settings.get("activation_fn_kwargs") or {}).get("k", k)
    if architecture not in _ARCHITECTURES:
        raise CircuitryError(f"a SAELens file of architecture {architecture!r} is not read; {', '.join(_ARCHITECTURES)} are")
    if (scheme := settings.get("normalize_activations") or "none") not in ("none", "expected_average_only_in", False, True):
        raise CircuitryError(f"activations normalised by {scheme!r}, token by token, are not read")
    if settings.get("finetuning_scaling_factor") or (settings.get("reshape_activations") or "none") != "none":
        raise CircuitryError("a SAELens file with a scaling factor of features, or for heads side by side, is not read")
    about = metadata.get("circuitry") or {"from": "SAELens", **(settings if old else metadata)}
    centred = bool(settings.get("apply_b_dec_to_input", old))
    config = SAEConfig(settings["d_in"], settings["d_sae"], _ARCHITECTURES[architecture], k, centred, about)
    wanted = ("W_enc", "b_enc", "W_dec", "b_dec", *(["threshold"] if config.kind == "jumprelu" else []))
    made = SAE.of(config, {name: value for name, value in weights.items() if name in wanted})
    return made.unit() if settings.get("rescale_acts_by_decoder_norm") else made


def _sparsify(settings: Mapping[str, Any], weights: Weights) -> SAE:
    """sparsify: topk, b_dec subtracted first."""
    if settings.get("transcode") or settings.get("skip_connection") or "W_skip" in weights:
        raise CircuitryError("a sparsify file of a transcoder is not read: it does not reconstruct what goes in")
    if (activation := settings.get("activation", "topk")) != "topk":
        raise CircuitryError(f"a sparsify file of activation {activation!r} is not read; topk is")
    features, width = weights["W_dec"].shape
    config = SAEConfig(width, features, "topk", settings["k"], True, {"from": "sparsify", **settings})
    return SAE.of(config, {"W_enc": weights["encoder.weight"].T, "b_enc": weights["encoder.bias"], **_decoder(weights)})


def _decoder(weights: Weights) -> Weights:
    return {name: weights[name] for name in ("W_dec", "b_dec")}


def _openmoss(settings: Mapping[str, Any], weights: Weights) -> SAE:
    """OpenMOSS (Language-Model-SAEs, Llama Scope): linear layers, or W_E, b_E, W_D, b_D in later versions."""
    if "W_D" in weights:
        encoder, bias, decoder, out = (weights.get(name) for name in ("W_E", "b_E", "W_D", "b_D"))
    else:
        encoder, decoder = weights["encoder.weight"].T, weights["decoder.weight"].T
        bias, out = weights.get("encoder.bias"), weights.get("decoder.bias")
    if encoder is None or decoder is None or encoder.ndim != 2 or settings.get("use_glu_encoder"):
        raise CircuitryError("an OpenMOSS file of a gated encoder or a crosscoder is not read")
    if (scheme := settings.get("hook_point_in")) != settings.get("hook_point_out", scheme):
        raise CircuitryError("an OpenMOSS file of a transcoder is not read: it does not reconstruct what goes in")
    features, width = decoder.shape
    kind = str(settings.get("act_fn", "relu")).lower()
    named = {"W_enc": encoder, "W_dec": decoder, "b_enc": bias if bias is not None else torch.zeros(features)}
    named["b_dec"] = out if out is not None else torch.zeros(width)
    if kind == "jumprelu":
        named["threshold"] = _threshold(settings, weights, features)
    centred, k = bool(settings.get("apply_decoder_bias_to_pre_encoder")), settings.get("top_k") if kind == "topk" else None
    made = SAE.of(SAEConfig(width, features, kind, k, centred, {"from": "OpenMOSS", **settings}), named)
    ranked = settings.get("sparsity_include_decoder_norm", True) and kind != "relu"
    return (made.unit() if ranked else made).scaled(_scale(settings, weights, width))


def _threshold(settings: Mapping[str, Any], weights: Weights, features: int) -> Tensor:
    for name in ("log_jumprelu_threshold", "activation_function.log_jumprelu_threshold"):
        if name in weights:
            return weights[name].float().exp()
    return torch.full((features,), float(settings["jump_relu_threshold"]))


def _scale(settings: Mapping[str, Any], weights: Weights, width: int) -> float:
    """By what activations are multiplied before the encoder."""
    scheme = settings.get("norm_activation", "inference")
    if scheme == "inference":
        return 1.0
    if scheme != "dataset-wise":
        raise CircuitryError(f"activations normalised {scheme}, that is not by one number, are not read")
    prefix = "dataset_average_activation_norm."
    norms = {name.removeprefix(prefix): float(value) for name, value in weights.items() if name.startswith(prefix)}
    norms = norms or dict(settings.get("dataset_average_activation_norm") or {})
    norm = norms.get("in", norms.get(str(settings.get("hook_point_in"))))
    if norm is None:
        raise CircuitryError("activations are normalised by their mean norm, and the file does not have it")
    return float(width**0.5 / norm)
