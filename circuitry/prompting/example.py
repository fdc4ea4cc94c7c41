"""Prompts from examples of any length, one by one: the tokens before the text, padding after END, and positions counted from the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .front import front
from .prompts import Prompts


@dataclass(frozen=True)
class Example:
    """One pair of prompts as token ids without the tokens before the text, with its answer, foil and positions. END is the last token."""

    clean: Sequence[int]
    corrupted: Sequence[int]
    answer: int
    foil: int
    where: Mapping[str, int]


def stack(examples: Sequence[Example], changed: tuple[str, ...] | None, vocabulary: Any, begin: str = "auto") -> Prompts:
    """The examples as Prompts, in their order; ``begin`` as ``front`` reads it. Shorter ones are padded after END.

    >>> import circuitry as ct
    >>> one, other = Example([7, 8], [9, 8], 1, 2, {"A": 0}), Example([7, 8, 8], [9, 8, 8], 1, 2, {"A": 0})
    >>> prompts = stack([one, other], ("A",), ct.load("bundled:mamba").vocabulary)
    >>> prompts.clean.tolist(), prompts.where["END"].tolist()
    ([[0, 7, 8, 0], [0, 7, 8, 8]], [2, 3])
    """
    ahead = front(vocabulary, begin)
    filler = [*ahead, int(vocabulary.ordinary[0])][0]
    longest = max(len(one.clean) for one in examples)
    clean, corrupted = (
        np.array([[*ahead, *ids, *[filler] * (longest - len(ids))] for ids in side], np.int64)
        for side in ([one.clean for one in examples], [one.corrupted for one in examples])
    )
    places = [{**one.where, "END": len(one.clean) - 1} for one in examples]
    where = {name: np.array([len(ahead) + at[name] for at in places]) for name in places[0]}
    answer, foil = np.array([one.answer for one in examples]), np.array([one.foil for one in examples])
    return Prompts(clean, corrupted, answer, foil, where, changed)
