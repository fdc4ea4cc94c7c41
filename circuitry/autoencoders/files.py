"""Files of SAEs: written in SAELens's layout, read in those of SAELens, sparsify and OpenMOSS, with safetensors alone."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import CircuitryError
from ..store.files import write_whole
from .layouts import openmoss, saelens, sparsify
from .sae import SAE

Weights: TypeAlias = dict[str, Tensor]
SETTINGS, WEIGHTS = "cfg.json", "sae_weights.safetensors"
LAYOUT = "6.0.0"
"""The version of SAELens whose layout this is. ``metadata`` must name it: without it SAELens takes the file for an older one and
drops the rest of the metadata."""


def save(sae: SAE, folder: str | PathLike[str]) -> Path:
    """Write an SAE as a folder that SAELens loads, ``cfg.json`` and ``sae_weights.safetensors``; returns the folder.

    ``config.provenance`` is stored in the metadata, under ``circuitry``.

    >>> import tempfile
    >>> from circuitry.features.sae import SAEConfig
    >>> folder = save(SAE(SAEConfig(4, 8, provenance={"node": "resid[3]"})), tempfile.mkdtemp())
    >>> load(folder).config.provenance["node"]
    'resid[3]'
    """
    target, config = Path(folder), sae.config
    provenance = dict(config.provenance)
    settings = {
        "architecture": next(name for name, kind in saelens.KINDS.items() if kind == config.kind),
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
            "model_name": provenance.get("model"),
            "hook_name": provenance.get("node"),
            "circuitry": provenance,
        },
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in sae.state_dict().items()}
    write_whole(target / WEIGHTS, lambda file: save_file(weights, file))
    write_whole(target / SETTINGS, json.dumps(settings, indent=1))
    return target


def load(folder: str | PathLike[str]) -> SAE:
    """Read an SAE from a folder of SAELens, sparsify or OpenMOSS, recognised by the names of its tensors.

    Normalisation of activations by one number, and ranking of features by their share in the reconstruction, are folded into
    the weights. Raises CircuitryError for another layout, for another function (gates, transcoders, normalisation of each
    token), and for any setting or tensor that is not known to be harmless.

    >>> load("nowhere")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: nowhere holds no SAE: the folder does not exist
    """
    path = Path(folder)
    names = (WEIGHTS, "sae.safetensors", "checkpoints/pruned.safetensors", "checkpoints/final.safetensors")
    file = next((path / name for name in names if (path / name).is_file()), None)
    if not path.is_dir():
        raise CircuitryError(f"{path} holds no SAE: the folder does not exist")
    if file is None:
        raise CircuitryError(f"{path} holds no SAE: it has none of {', '.join(names)}")
    settings = _settings(path)
    try:
        weights: Weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CircuitryError(f"{file} cannot be read ({error})") from None
    if "W_enc" in weights:
        return saelens.read(settings, weights)
    if "encoder.weight" in weights and "W_dec" in weights:
        return sparsify.read(settings, weights)
    if "decoder.weight" in weights or "W_D" in weights:
        return openmoss.read(settings, weights)
    raise CircuitryError(f"{file} has an unknown layout; its tensors are {', '.join(sorted(weights))}")


def _settings(path: Path) -> dict[str, Any]:
    for name in (SETTINGS, "hyperparams.json", "config.json"):
        if (path / name).is_file():
            try:
                settings = json.loads((path / name).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise CircuitryError(f"{path / name} cannot be read ({error})") from None
            if not isinstance(settings, dict):
                raise CircuitryError(f"{path / name}: expected settings by name, got {type(settings).__name__}")
            return settings
    raise CircuitryError(f"{path} has weights but no settings: none of {SETTINGS}, hyperparams.json, config.json")
