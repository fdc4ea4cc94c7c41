"""A claim as a value: what is measured, in which model, on which task, and the bound that it must meet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..thresholds import LEVEL


class Verdict(StrEnum):
    """What the numbers say of a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    OPEN = "cannot be decided"


def every(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on a claim all of whose parts must hold.

    >>> str(every([Verdict.HOLDS, Verdict.OPEN])), str(every([Verdict.FAILS, Verdict.OPEN])), str(every([Verdict.HOLDS]))
    ('cannot be decided', 'does not hold', 'holds')
    """
    seen = set(verdicts)
    return next((verdict for verdict in (Verdict.FAILS, Verdict.OPEN) if verdict in seen), Verdict.HOLDS)


@dataclass(frozen=True)
class Bound:
    """``at_least`` and ``at_most``, of which one may be missing. A number that equals its bound meets it."""

    at_least: float | None = None
    at_most: float | None = None

    def decide(self, low: float, high: float, rounding: float = 0.0) -> Verdict:
        """The verdict from the interval of a number: where it lies, up to ``rounding``. NaN decides nothing.

        >>> bound = Bound(at_least=0.6)
        >>> [str(bound.decide(*interval)) for interval in ((0.7, 0.8), (0.1, 0.2), (0.5, 0.7))]
        ['holds', 'does not hold', 'cannot be decided']
        """
        parts = []
        if self.at_least is not None:
            parts.append(_beyond(low, high, self.at_least - rounding))
        if self.at_most is not None:
            parts.append(_beyond(-high, -low, -self.at_most - rounding))
        return every(parts)

    def __str__(self) -> str:
        given = (("at least", self.at_least), ("at most", self.at_most))
        return " and ".join(f"{words} {number:g}" for words, number in given if number is not None)


def _beyond(low: float, high: float, bound: float) -> Verdict:
    return Verdict.HOLDS if low >= bound else Verdict.FAILS if high < bound else Verdict.OPEN


@dataclass(frozen=True)
class ModelName:
    """A model as ``circuitry.load`` takes it; ``weights`` is the digest that its weights must have (``Model.fingerprint``)."""

    name: str
    revision: str | None = None
    weights: str | None = None
    dtype: str = "float32"


@dataclass(frozen=True)
class TaskName:
    """A task as ``circuitry.task`` takes it; without ``examples`` it has as many as it defines."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    examples: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Quantity:
    """A number, or one for each cell of a sweep, that is measured in one model on one task.

    ``kind`` names an entry of ``KINDS`` ("effect" ...) and ``what`` is its value in the file: a path, "top-1", nodes. ``cell``
    has the values of the axes that the claim is about; empty: every cell. ``options`` go to ``circuitry.patch``.
    """

    kind: str
    what: str | tuple[str, ...]
    model: ModelName
    task: TaskName
    cell: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def with_seed(self, seed: int) -> Quantity:
        """The same on the prompts of another seed.

        >>> Quantity("accuracy", "top-1", ModelName("bundled:mamba"), TaskName("induction")).with_seed(3).task.seed
        3
        """
        return replace(self, task=replace(self.task, seed=seed))

    @property
    def measured(self) -> Quantity:
        """What has to be measured for it: claims about different cells of one sweep share it.

        >>> one = Quantity("effect", "h[{layer}] @ B -> logits", ModelName("m"), TaskName("t"), {"layer": (3,)})
        >>> one.measured == Quantity("effect", "h[{layer}] @ B -> logits", ModelName("m"), TaskName("t"))
        True
        """
        return replace(self, cell={})


@dataclass(frozen=True)
class Seeds:
    """A claim is checked on the prompts of ``count`` seeds, and must hold in at least ``holding`` of them."""

    count: int
    holding: int

    def decide(self, verdicts: Iterable[Verdict]) -> Verdict:
        """The verdict from those on single seeds.

        >>> H, F, O = Verdict.HOLDS, Verdict.FAILS, Verdict.OPEN
        >>> [str(Seeds(3, 2).decide(verdicts)) for verdicts in ([H, H, F], [H, O, O], [F, F, H])]
        ['holds', 'cannot be decided', 'does not hold']
        """
        each = list(verdicts)
        if each.count(Verdict.HOLDS) >= self.holding:
            return Verdict.HOLDS
        return Verdict.FAILS if each.count(Verdict.FAILS) > self.count - self.holding else Verdict.OPEN


@dataclass(frozen=True)
class Source:
    """Where a claim is made: a page, and its sentence."""

    page: str
    quote: str


@dataclass(frozen=True)
class Claim:
    """A sentence that can be checked: a quantity (less another, with ``minus``) meets a bound, and all other cells meet ``others``.

    ``line`` is its place in the file.
    """

    text: str
    quantity: Quantity
    bound: Bound
    minus: Quantity | None = None
    others: Bound | None = None
    confidence: float = LEVEL
    seeds: Seeds | None = None
    source: Source | None = None
    line: int = 0


@dataclass(frozen=True)
class Claims:
    """The claims of a file, in its order, and the folder that paths in it start from."""

    claims: tuple[Claim, ...]
    file: Path | None = None
