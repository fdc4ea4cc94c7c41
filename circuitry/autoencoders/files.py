"""Files of SAEs: written in SAELens's layout, read in those of SAELens, sparsify, OpenMOSS and Gemma Scope. Nothing is unpickled."""

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
from .layouts import gemma_scope, openmoss, saelens, sparsify
from .sae import SAE

Weights: TypeAlias = dict[str, Tensor]
SETTINGS, WEIGHTS = "cfg.json", "sae_weights.safetensors"
NAMES = (WEIGHTS, "sae.safetensors", "checkpoints/pruned.safetensors", "checkpoints/final.safetensors", "params.npz")
"""Files of weights, in the order in which they are looked for."""
PICKLE = "ae.pt"
"""The weights that dictionary_learning writes."""
LAYOUT = "6.0.0"
"""The version of SAELens whose layout this is. ``metadata`` must name it: without it SAELens takes the file for an older one and
drops the rest of the metadata."""


def save(sae: SAE, folder: str | PathLike[str]) -> Path:
    """Write an SAE as a folder that SAELens loads, ``cfg.json`` and ``sae_weights.safetensors``; returns the folder.

    ``config.provenance`` is stored in the metadata, under ``circuitry``. SAELens has no topk transcoder; circuitry alone reads one.

    >>> import tempfile
    >>> from circuitry.features.sae import SAEConfig
    >>> folder = save(SAE(SAEConfig(4, 8, provenance={"node": "resid[3]"})), tempfile.mkdtemp())
    >>> load(folder).config.provenance["node"]
    'resid[3]'
    """
    target, config = Path(folder), sae.config
    provenance = dict(config.provenance)
    settings = {
        "architecture": saelens.architecture(config),
        "d_in": config.width,
        **({"d_out": config.target_width} if config.transcodes else {}),
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
            **({"hook_name_out": config.target} if config.transcodes else {}),
            "circuitry": provenance,
        },
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in sae.state_dict().items()}
    write_whole(target / WEIGHTS, lambda file: save_file(weights, file))
    write_whole(target / SETTINGS, json.dumps(settings, indent=1))
    return target


def load(place: str | PathLike[str]) -> SAE:
    """Read an SAE from a folder of SAELens, sparsify or OpenMOSS, recognised by the names of its tensors, or a ``.npz`` of Gemma Scope.

    Normalisation of activations by one number, and ranking of features by their share in the reconstruction, are folded into
    the weights. Raises CircuitryError for another layout, for another function (gates, transcoders with a skip connection,
    normalisation of each token), and for any setting or tensor that is not known to be harmless.

    >>> load("nowhere")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: nowhere holds no SAE: the folder does not exist
    """
    path = Path(place)
    file = _weights(path)
    if file.suffix == ".npz":
        return gemma_scope.read(file)
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


def _weights(path: Path) -> Path:
    """The file of weights in a folder, or the file itself if it needs no settings."""
    if path.suffix == ".npz" and path.is_file():
        return path
    if not path.is_dir():
        raise CircuitryError(f"{path} holds no SAE: the folder does not exist")
    if file := next((path / name for name in NAMES if (path / name).is_file()), None):
        return file
    if (path / PICKLE).is_file():
        raise CircuitryError(
            f"{path / PICKLE} is a pickle and is not loaded; `circuitry convert {path} NEW` writes it as a folder that is"
        )
    raise CircuitryError(f"{path} holds no SAE: it has none of {', '.join(NAMES)}")


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
