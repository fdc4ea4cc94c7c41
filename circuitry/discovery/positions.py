"""The tokens of prompts by name, as a path would name them: A, A+1, B ... END."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..paths.positions import Position
from ..prompting.prompts import Prompts

ALL = "all"
"""The label of all tokens, if positions are added up."""
REST = "rest"
"""The label of tokens that have no name that is valid in every example."""


@dataclass(frozen=True)
class Labels:
    """Names of tokens, and which tokens each names: ``mask`` [example, label, pos]. Each token has at most one.

    A name stands for one token in every example; ``ALL`` and ``REST`` stand for several.
    """

    names: tuple[str, ...]
    mask: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, examples: NDArray[np.int64]) -> Labels:
        """Those of some examples.

        >>> Labels(("A",), np.eye(2, dtype=bool)[:, None]).take(np.array([1])).mask.tolist()
        [[[False, True]]]
        """
        return replace(self, mask=self.mask[examples])

    def gathered(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values of tokens [..., example, pos] added up by label [..., example, label].

        >>> Labels(("A",), np.array([[[True, True, False]]])).gathered(np.array([[5, 6, 7]], np.float32)).tolist()
        [[11.0]]
        """
        return np.asarray(np.einsum("elp,...ep->...el", self.mask.astype(np.float32), values))

    def strongest(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The value of each label's tokens that is largest in magnitude [example, label]; zero without tokens.

        For edges from a state to the next one: they lie one behind the other, so the same change passes through several.

        >>> Labels(("A",), np.array([[[True, True, False]]])).strongest(np.array([[5, -6, 7]], np.float32)).tolist()
        [[-6.0]]
        """
        each = self.mask * values[:, None]
        return np.take_along_axis(each, np.abs(each).argmax(-1)[..., None], -1)[..., 0]

    def tokens(self, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether each token [..., example, pos] has a label that is kept [..., label].

        >>> Labels(("A", "B"), np.eye(2, dtype=bool)[None]).tokens(np.array([False, True])).tolist()
        [[False, True]]
        """
        return np.asarray(np.einsum("...l,elp->...ep", kept, self.mask) > 0)

    def apart(self, first: str, second: str) -> NDArray[np.int64]:
        """By how many tokens any token of the second label can be after one of the first, in any example.

        >>> Labels(("A", "B"), np.eye(2, dtype=bool)[None]).apart("A", "B").tolist()
        [1]
        """
        ones, others = (self.mask[:, self.names.index(name)] for name in (first, second))
        pairs = (
            others_at - ones_at[:, None]
            for ones_at, others_at in zip(map(np.flatnonzero, ones), map(np.flatnonzero, others), strict=True)
        )
        return np.unique(np.concatenate([pair.ravel() for pair in pairs]))


def labels(prompts: Prompts, *, apart: bool = True) -> Labels:
    """A label for every token from the first that differs to END; one for all of them if they are not kept ``apart``.

    A name is a named position plus or minus a few tokens, which must lie in every example's prompt and be no other name's token in any.

    >>> import circuitry as ct
    >>> prompts = ct.task("induction", distance=4, examples=2).prompts(ct.load("bundled:mamba").vocabulary)
    >>> labels(prompts).names
    ('B', 'B+1', 'END-1', 'END')
    """
    at = np.arange(prompts.length)
    needed = (prompts.first_changed[:, None] <= at) & (at <= prompts.where["END"][:, None])
    if not apart:
        return Labels((ALL,), needed[:, None])
    found, free = dict[str, NDArray[np.int64]](), needed.copy()
    rows = np.arange(len(prompts))
    for name, offset in _candidates(prompts):
        token = prompts.where[name] + offset
        inside = (token >= 0) & (token <= prompts.where["END"])
        if inside.all() and needed[rows, token].any() and (free[rows, token] | ~needed[rows, token]).all():
            found[str(Position(name, offset))] = token
            free[rows, token] = False
    names = sorted(found, key=lambda name: (float(found[name].mean()), name))
    masks = [needed & (at == found[name][:, None]) for name in names]
    if free.any():
        names, masks = [*names, REST], [*masks, free]
    return Labels(tuple(names), np.stack(masks, 1))


def _candidates(prompts: Prompts) -> Iterator[tuple[str, int]]:
    """Names with offsets, the nearest first, as far as any prompt goes."""
    order = sorted(prompts.where, key=lambda name: (name == "END", float(prompts.where[name].mean())))
    yield from ((name, 0) for name in order)
    for distance in range(1, prompts.length):
        yield from ((name, sign * distance) for sign in (1, -1) for name in order)
