"""The effects of features of one side: every feature patched by itself, one table for each node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
ROUNDING = 1e-6
"""An effect below this fraction of the metric itself is rounding in float32, and counts as 0."""


class Measured:
    """Effects of features of one side, by node and feature."""

    def __init__(self, side: Side, features: Iterable[tuple[str, int]], task: Task, how: Mapping[str, Any], at: str | None, part: Part) -> None:  # fmt: skip
        """Measure ``features`` (node, number) on a task's prompts. ``how`` goes to ``ct.patch``; each is patched ``at`` a position, or at all.

        Raises CircuitryError where the clean and corrupted prompts do not differ in the metric, and as ``patch`` does.
        """
        by_node: dict[str, set[int]] = {}
        for node, feature in features:
            by_node.setdefault(node, set()).add(int(feature))
        self._effects: dict[tuple[str, int], Array] = {}
        with side.attached() as model:
            for node, numbers in sorted(by_node.items()):
                path, latents = path_of(node, at), sorted(numbers)

                def measure(path: str = path, latents: list[int] = latents) -> PatchingTable:
                    return patch(model, task, path, axes={"latent": latents}, baseline=0, **how)

                self._add(node, latents, part((side.identity, path, latents), measure), model.name)

    def _add(self, node: str, latents: list[int], table: PatchingTable, model: str) -> None:
        effect, base, source = (table.values(column) for column in ("effect", "base", "source"))
        kept = np.where(np.abs(effect) > ROUNDING * (np.abs(base) + np.abs(source)), effect, 0.0)
        rows = {latent: row for row, latent in enumerate(table.mean().index)}
        self._effects |= {(node, latent): kept[rows[latent]] for latent in latents}
        self.whole = (source - base)[0]
        if abs(self.whole.mean()) <= ROUNDING * (np.abs(base) + np.abs(source)).mean():
            raise CircuitryError(
                f"{model} does no better on clean than on corrupted prompts, so its effects cannot be normalized; try another task"
            )

    def of(self, nodes: pd.Series, features: pd.Series) -> Effects:
        """The effects of some features, in this order."""
        return Effects(np.array([self._effects[key] for key in zip(nodes, features, strict=True)]), self.whole)


def path_of(node: str, at: str | None) -> str:
    """The path that is patched for every latent of a node.

    >>> path_of("resid[2]", None), path_of("resid[2]", "B+1")
    ('resid[2].latent[{latent}] -> logits', 'resid[2].latent[{latent}] @ B+1 -> logits')
    """
    return f"{node}.latent[{{latent}}]{f' @ {at}' if at is not None else ''} -> logits"
