"""Token ids that a model can read: within its vocabulary, and no longer than its table of positions."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from ..errors import CircuitryError, TaskError
from ..models import Model
from ..prompting import Prompts


def check_ids(model: Model, ids: NDArray[Any]) -> None:
    """Refuse ids [row, position] that the model has no embedding for.

    Only a learned table of positions has an end; rotary positions, convolutions and recurrences have none. Raises CircuitryError.

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
    if (most := positions(model)) is not None and ids.shape[1] > most:
        raise CircuitryError(f"{model.name} has positions for {most} tokens, and these are {ids.shape[1]}; give it shorter text")


def positions(model: Model) -> int | None:
    """How many tokens a learned table of positions has room for; None where positions are no table.

    >>> import circuitry as ct
    >>> print(positions(ct.load("bundled:gpt_neox")))
    None
    """
    tokens = model.hf.get_input_embeddings()
    tables = (m for m in model.hf.modules() if isinstance(m, torch.nn.Embedding) and m is not tokens)
    return min((table.num_embeddings for table in tables), default=None)


def check_prompts(model: Model, prompts: Prompts) -> None:
    """The same of a task's prompts, answers and foils. Raises TaskError.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:gpt_neox")
    >>> check_prompts(model, ct.task("induction", distance=8, examples=2).prompts(model.vocabulary))
    """
    try:
        for ids in (prompts.clean, prompts.corrupted, prompts.answer[:, None], prompts.foil[:, None]):
            check_ids(model, ids)
    except CircuitryError as error:
        raise TaskError(f"the task's prompts do not fit the model: {error}") from None
