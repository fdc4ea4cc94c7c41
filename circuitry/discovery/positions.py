"""The tokens of prompts by name, as a path would name them: A, A+1, B ... END."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..paths.positions import Position
from ..prompting.prompts import Prompts

EVERYWHERE = "all"
"""The label if positions are added up."""


@dataclass(frozen=True)
class Labels:
    """Names of tokens that are valid in every example. ``tokens`` [example, label] are their positions; -1 at ``EVERYWHERE``."""

    names: tuple[str, ...]
    tokens: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, examples: NDArray[np.int64]) -> Labels:
        """Those of some examples.

        >>> Labels(("A",), np.array([[1], [2]])).take(np.array([1])).tokens.tolist()
        [[2]]
        """
        return Labels(self.names, self.tokens[examples])

    def gathered(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values of tokens [example, pos] as values of labels [example, label]; those of all tokens are added up.

        >>> Labels(("A", "A+1"), np.array([[1, 2]])).gathered(np.array([[5, 6, 7]], np.float32)).tolist()
        [[6.0, 7.0]]
        """
        rows = np.arange(len(values))[:, None]
        return np.where(self.tokens < 0, values.sum(1, keepdims=True), values[rows, self.tokens])  # type: ignore[no-any-return]

    def mask(self, kept: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
        """Whether each token [..., example, pos] has a label that is kept [..., label]."""
        mask = np.zeros((*kept.shape[:-1], len(self.tokens), length), bool)
        for label in range(len(self)):
            chosen = kept[..., label, None, None] & (
                np.ones((len(self.tokens), length), bool)
                if (self.tokens[:, label] < 0).any()
                else np.arange(length) == self.tokens[:, label, None]
            )
            mask |= chosen
        return mask


def labels(prompts: Prompts, *, apart: bool = True) -> Labels:
    """A label for every token from the first that differs to END; one for all of them if they are not kept ``apart``.

    A token is named after the last named position before it. Tokens whose name would lie outside some example have none.

    >>> import circuitry as ct
    >>> prompts = ct.task("induction", distance=4, examples=2).prompts(ct.load("bundled:mamba").vocabulary)
    >>> labels(prompts).names
    ('B', 'B+1', 'B+2', 'END')
    """
    if not apart:
        return Labels((EVERYWHERE,), np.full((len(prompts), 1), -1))
    end = prompts.where["END"]
    found: dict[tuple[int, ...], str] = {}
    for name, offset in sorted(set(_names(prompts)), key=lambda each: (abs(each[1]), each[0] != "END")):
        at = prompts.where[name] + offset
        if (at >= 0).all() and (at <= end).all():
            found.setdefault(tuple(at.tolist()), str(Position(name, offset)))
    order = sorted(found, key=lambda at: (float(np.mean(at)), at))
    return Labels(tuple(found[at] for at in order), np.array(order, np.int64).T.reshape(len(prompts), -1))


def _names(prompts: Prompts) -> Iterator[tuple[str, int]]:
    """The name and the offset of every token that may differ, in each example."""
    for example in range(len(prompts)):
        named = sorted((int(at[example]), name) for name, at in prompts.where.items())
        first, end = int(prompts.first_changed[example]), int(prompts.where["END"][example])
        for token in range(first, end + 1):
            before = [(at, name) for at, name in named if at <= token] or [named[0]]
            yield from ((name, token - at) for at, name in before if at == before[-1][0])
