"""Files of Gemma Scope: the five arrays of a jumprelu in one ``params.npz``, and no settings."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import CircuitryError
from ..sae import SAE, SAEConfig
from .settings import chosen

FILE = "a Gemma Scope file"
ARRAYS = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")


def read(file: Path) -> SAE:
    """An SAE from ``params.npz``; nothing is unpickled, and b_dec is not subtracted first."""
    tensors = chosen(FILE, _arrays(file), {name: name for name in ARRAYS})
    width, features = tensors["W_enc"].shape
    return SAE.of(SAEConfig(width, features, "jumprelu", provenance={"from": "Gemma Scope"}), tensors)


def _arrays(file: Path) -> dict[str, Tensor]:
    try:
        with file.open("rb") as source:  # of a damaged file, numpy leaves its own handle open
            arrays = dict(np.load(source, allow_pickle=False))
    except (OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise CircuitryError(f"{file} cannot be read ({error})") from None
    for name, value in arrays.items():
        if value.dtype.kind != "f":
            raise CircuitryError(f"{FILE} with {name} of {value.dtype} is not read: its numbers must be floats")
    return {name: torch.from_numpy(value) for name, value in arrays.items()}
