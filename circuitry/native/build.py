"""Weights from a file, and a Hugging Face model from weights."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError
from ..store.wholeness import check_loaded, check_stored
from .own import causal_class


def tensors(file: Path, *, pickled: bool = False) -> dict[str, torch.Tensor]:
    """The weights in a file, by name. A pickle is read only with ``pickled``, and none of its code is run.

    Raises ModelError for a file that cannot be read, and for a pickle that has more than weights.
    """
    from safetensors.torch import load_file

    try:
        weights = torch.load(file, map_location="cpu", weights_only=True) if pickled else load_file(file)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{file} is refused, and none of its code was run: torch.load(weights_only=True) reads only tensors, and this file has "
            f"something else or is damaged ({_reason(error)})"
        ) from error
    except Exception as error:  # a damaged file makes its reader raise almost anything
        raise ModelError(f"the weights in {file} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ModelError(f"expected a plain state dict in {file}: names and tensors, and nothing else")
    return dict(weights)


def _reason(error: Exception) -> str:
    """torch's reason, without its advice to load the file anyway."""
    reason = re.search(r"(?:Unsupported|Trying to load|WeightsUnpickler error).*", str(error))
    return reason[0].split(". ")[0] if reason else "it gives no reason"


def build(config: Any, weights: dict[str, torch.Tensor], dtype: torch.dtype, name: str) -> Any:
    """The Hugging Face model of a config and weights.

    Raises ModelError if a weight is missing, has another shape, is quantised, or is not one of the model's.
    """
    kind = causal_class(config)
    if kind is None:
        raise ModelError(f"{name} is of type {config.model_type!r}, for which transformers has no causal language model")
    check_stored(weights, name)
    try:
        hf, report = kind.from_pretrained(
            None, config=config, state_dict=weights, dtype=dtype, ignore_mismatched_sizes=True, output_loading_info=True
        )
    except (RuntimeError, ValueError, ArithmeticError) as error:  # impossible sizes, or weights that do not fit together
        raise ModelError(
            f"the config and the weights of {name} do not make a model: {str(error).strip().splitlines()[0]}"
        ) from error
    check_loaded(hf, report, weights, name)
    return hf
