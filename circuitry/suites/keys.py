"""Which cells of a table are findings: large enough, and clear enough."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..results.table import PatchingTable
from ..thresholds import KEY_EFFECT, MOST_KEYS, SIGNIFICANT


def keys(table: PatchingTable, *, most: int = MOST_KEYS, negative: bool = False) -> list[Any]:
    """Cells with at least KEY_EFFECT of the whole effect and q below SIGNIFICANT, the strongest first.

    With too few examples for any cell to reach SIGNIFICANT, the size of the effect alone decides. ``negative``: cells that work against the behaviour,
    by the same thresholds.

    >>> import numpy as np
    >>> effects = np.array([[0.04], [0.6], [0.2], [-0.3]]) * np.linspace(0.9, 1.1, 16)
    >>> t = PatchingTable.of([{"cell": c} for c in "abcd"], effects, np.zeros(16), np.ones(16), "logit")
    >>> keys(t), keys(t, negative=True)
    (['b', 'c'], ['d'])
    """
    effects = table.normalized() * (-1 if negative else 1)
    strong = effects[effects >= KEY_EFFECT]
    return list(strong[sure(table)[strong.index]].sort_values(ascending=False, kind="stable").index[:most])


def sure(table: PatchingTable) -> pd.Series:
    """Which cells are clear enough for a finding: q below SIGNIFICANT, or p where no q can be given for want of effects, else all.

    >>> import numpy as np
    >>> cells = [{"layer": n} for n in range(4)]
    >>> [sure(PatchingTable.of(cells, np.zeros((4, n)), np.zeros(n), np.ones(n), "logit")).any().item() for n in (4, 12)]
    [True, False]
    """
    if not table.can_show(SIGNIFICANT):
        return pd.Series(True, table.mean().index)
    return table.significant(SIGNIFICANT) if table.outliers.enough else table.statistics()["p"] < SIGNIFICANT
