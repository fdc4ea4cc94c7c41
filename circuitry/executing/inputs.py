"""Token ids that a model can read: within its vocabulary, and no longer than it has positions for."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ..errors import CircuitryError, TaskError
from ..models.model import Model
from ..prompting.prompts import Prompts


def check_ids(model: Model, ids: NDArray[Any]) -> None:
    """Refuse ids [row, position] that the model has no embedding for.

    Convolutions and recurrences read any length (``Model.positions``). Raises CircuitryError.

    >>> import circuitry as ct
    >>> import numpy as np
    >>> check_ids(ct.load("bundled:gpt_neox"), np.array([[3, 9999]]))
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: bundled:gpt_neox has token ids from 0 to 2047, got 9999
    """
    count = model.hf.get_input_embeddings().num_embeddings
    if ids.size and (ids.min() < 0 or ids.max() >= count):
        wrong = ids.min() if ids.min() < 0 else ids.max()
        raise CircuitryError(f"{model.name} has token ids from 0 to {count - 1}, got {int(wrong)}")
    if model.positions is not None and ids.shape[1] > model.positions:
        raise CircuitryError(
            f"{model.name} has positions for {model.positions} tokens, and these are {ids.shape[1]}; give it shorter text"
        )


def check_prompts(model: Model, prompts: Prompts) -> None:
    """The same of a task's prompts, answers and foils. Raises TaskError.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:gpt_neox")
    >>> check_prompts(model, ct.task("induction", distance=8, examples=2).prompts(model.vocabulary))
    """
    _ = model.hf  # outside of the try: a released model raises its own error
    try:
        for ids in (prompts.clean, prompts.corrupted, prompts.answer[:, None], prompts.foil[:, None]):
            check_ids(model, ids)
    except CircuitryError as error:
        raise TaskError(f"the task's prompts do not fit the model: {error}") from None
