"""The effects of features of one side, each patched by itself: of all on the prompts of a task, or of each on text where it fires."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from ...errors import CircuitryError
from ...patching.experiment import patch
from ...prompting.task import Task
from ...results.statistics import Array
from ...results.table import PatchingTable
from .agreement import Effects
from .sides import Side

Part: TypeAlias = Callable[[object, Callable[[], PatchingTable]], PatchingTable]
"""From a key and a function that measures to its table; a folder keeps tables of an interrupted run."""
Key: TypeAlias = tuple[Any, ...]
ROUNDING = 1e-6
"""An effect below this fraction of the metric itself is rounding in float32, and counts as 0."""


@dataclass
class Measured:
    """Effects [prompt] of features, by the values of ``columns`` in a table of pairs, and the whole effect [prompt]."""

    columns: tuple[str, ...]
    whole: Array = field(default_factory=lambda: np.zeros(0))
    effects: dict[Key, Array] = field(default_factory=dict)

    def of(self, pairs: pd.DataFrame) -> Effects:
        """The effects of one side of some pairs."""
        keys = pairs[list(self.columns)].itertuples(index=False, name=None)
        return Effects(np.array([self.effects[key] for key in keys]), self.whole)


@dataclass(frozen=True)
class How:
    """What is patched: options of ``ct.patch``, a position or None for all, and where finished tables are kept."""

    options: dict[str, Any]
    at: str | None
    part: Part

    def table(self, side: Side, node: str, latents: list[int], task: Task, key: object = ()) -> PatchingTable:
        """The effects of some latents of a node; the side's autoencoders must be attached."""
        path = path_of(node, self.at)

        def measure() -> PatchingTable:
            return patch(side.model, task, path, axes={"latent": latents}, baseline=0, **self.options)

        return self.part((side.identity, path, latents, key), measure)


def on_task(side: Side, letter: str, tables: Sequence[pd.DataFrame], task: Task, how: How) -> Measured:
    """Effects of the features of one side ("a" or "b") of some tables of pairs, on a task's prompts.

    Raises CircuitryError where the clean and corrupted prompts do not differ in the metric, and as ``patch`` does.
    """
    measured = Measured((f"node_{letter}", f"feature_{letter}"))
    by_node: dict[str, set[int]] = {}
    for node, feature in pd.concat(tables)[list(measured.columns)].itertuples(index=False):
        by_node.setdefault(node, set()).add(int(feature))
    with side.attached() as model:
        for node, features in sorted(by_node.items()):
            table = how.table(side, node, sorted(features), task)
            measured.effects |= {(node, latent): effect for latent, effect in zip(sorted(features), kept(table), strict=True)}
            measured.whole = _whole(table, model.name)
    return measured


def kept(table: PatchingTable) -> Array:
    """Effects [latent, prompt], 0 where they are rounding."""
    effect, base, source = (table.values(column) for column in ("effect", "base", "source"))
    return np.where(np.abs(effect) > ROUNDING * (np.abs(base) + np.abs(source)), effect, 0.0)


def _whole(table: PatchingTable, model: str) -> Array:
    base, source = (table.values(column)[0] for column in ("base", "source"))
    if abs((source - base).mean()) <= ROUNDING * (np.abs(base) + np.abs(source)).mean():
        raise CircuitryError(
            f"{model} does no better on clean than on corrupted prompts, so its effects cannot be normalized; try another task"
        )
    return np.asarray(source - base)


def path_of(node: str, at: str | None) -> str:
    """The path that is patched for every latent of a node.

    >>> path_of("resid[2]", None), path_of("resid[2]", "B+1")
    ('resid[2].latent[{latent}] -> logits', 'resid[2].latent[{latent}] @ B+1 -> logits')
    """
    return f"{node}.latent[{{latent}}]{f' @ {at}' if at is not None else ''} -> logits"
