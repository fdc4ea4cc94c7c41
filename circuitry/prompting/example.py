"""Prompts from single examples of any length: adds the tokens before the text and the padding after END, and shifts positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .front import front
from .prompts import Prompts


@dataclass(frozen=True)
class Example:
    """A pair of prompts as token ids without those before the text; answer, foil and positions. END is the last token."""

    clean: Sequence[int]
    corrupted: Sequence[int]
    answer: int
    foil: int
    where: Mapping[str, int]


def stack(examples: Sequence[Example], changed: tuple[str, ...] | None, vocabulary: Any, begin: str = "auto") -> Prompts:
    """The examples as Prompts, in their order; ``begin`` is that of ``front``. Shorter ones are padded after END.

    >>> import circuitry as ct
    >>> short, long = Example([7, 8], [9, 8], 1, 2, {"A": 0}), Example([7, 8, 8], [9, 8, 8], 1, 2, {"A": 0})
    >>> prompts = stack([short, long], ("A",), ct.load("bundled:mamba").vocabulary)
    >>> prompts.clean.tolist(), prompts.where["END"].tolist()
    ([[0, 7, 8, 0], [0, 7, 8, 8]], [2, 3])
    """
    ahead = front(vocabulary, begin)
    filler = [*ahead, int(vocabulary.ordinary[0])][0]
    longest = max(len(example.clean) for example in examples)
    clean, corrupted = (
        np.array([[*ahead, *ids, *[filler] * (longest - len(ids))] for ids in side], np.int64)
        for side in ([example.clean for example in examples], [example.corrupted for example in examples])
    )
    positions = [{**example.where, "END": len(example.clean) - 1} for example in examples]
    where = {name: np.array([len(ahead) + at[name] for at in positions]) for name in positions[0]}
    answer, foil = np.array([example.answer for example in examples]), np.array([example.foil for example in examples])
    return Prompts(clean, corrupted, answer, foil, where, changed)
