"""Whether a path is an original mamba-ssm folder, an RWKV checkpoint, or neither."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError
from . import mamba_ssm, rwkv4, rwkv7

PICKLED = (".pth", ".pt", ".bin")


@dataclass(frozen=True)
class Native:
    """An original checkpoint.

    ``weights`` is its only file of weights. ``settings`` is the config.json of a mamba-ssm folder, and None for RWKV, whose
    version and sizes follow from its weights.
    """

    weights: Path
    settings: dict[str, Any] | None = None

    @property
    def kind(self) -> str:
        """The name of its format, for messages."""
        return "RWKV" if self.settings is None else "mamba-ssm"

    @property
    def pickled(self) -> bool:
        """Whether the weights must be converted before ``load`` reads them."""
        return self.weights.suffix in PICKLED

    def translated(self, weights: dict[str, torch.Tensor], name: str) -> tuple[Any, dict[str, torch.Tensor]]:
        """The config, and weights by the model's names. Raises ModelError for anything that neither transformers nor circuitry has."""
        if self.settings is None and rwkv7.is_rwkv7(weights):
            return rwkv7.config(weights, name), rwkv7.kept(weights)
        if self.settings is None:
            return rwkv4.config(weights, name), rwkv4.renamed(weights)
        return mamba_ssm.config(self.settings, name), mamba_ssm.renamed(weights, self.settings, name)


def find(path: Path) -> Native | None:
    """The original checkpoint at a path: a folder, or an RWKV file. None for anything else, such as a Hugging Face folder.

    Raises ModelError for a folder without weights or with several files of weights, and for a missing file.
    """
    if path.is_dir():
        return _mamba_ssm(path) if (path / "config.json").is_file() else _rwkv(path)
    if path.suffix not in (".safetensors", *PICKLED):
        return None
    if not path.is_file():
        raise ModelError(f"no file {path}")
    return Native(path)


def _mamba_ssm(folder: Path) -> Native | None:
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError:
        return None  # a broken config.json: transformers reports it
    if not isinstance(settings, dict) or "model_type" in settings or not {"d_model", "n_layer"} <= set(settings):
        return None
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return Native(folder / name, settings)
    raise ModelError(f"{folder} has the config.json of a mamba-ssm model, but no model.safetensors and no pytorch_model.bin")


def _rwkv(folder: Path) -> Native | None:
    for pattern in ("*.safetensors", "*.pth"):
        if files := sorted(folder.glob(pattern)):
            if len(files) > 1:
                raise ModelError(f"expected one checkpoint in {folder}, got {len(files)}; give one file, such as {files[0]}")
            return Native(files[0])
    return None


def how_to_convert(name: str) -> str:
    """The advice for pickled weights."""
    return f"convert them once: circuitry convert {shlex.quote(name)} NEW_FOLDER"
