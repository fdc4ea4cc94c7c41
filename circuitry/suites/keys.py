"""Which cells of a table are findings: large and significant."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..results.statistics import all_or_none, least_discovery
from ..results.table import PatchingTable
from ..results.writing import count
from ..thresholds import KEY_EFFECT, MOST_KEYS, SIGNIFICANT


def keys(table: PatchingTable, *, most: int = MOST_KEYS, negative: bool = False) -> list[Any]:
    """Cells with at least KEY_EFFECT of the whole effect and q below SIGNIFICANT, the strongest first.

    If the examples are too few for any cell to reach SIGNIFICANT, only the size of the effect decides. ``negative``: cells that
    work against the behaviour, by the same thresholds.

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
    """Which cells are significant: by q, or by p if the effects are too few for a q; all cells if no test is possible.

    >>> import numpy as np
    >>> cells = [{"layer": n} for n in range(4)]
    >>> [sure(PatchingTable.of(cells, np.zeros((4, n)), np.zeros(n), np.ones(n), "logit")).any().item() for n in (4, 12)]
    [True, False]
    """
    if not table.can_show(SIGNIFICANT):
        return pd.Series(True, table.mean().index)
    return table.significant(SIGNIFICANT) if table.outliers.enough else table.statistics()["p"] < SIGNIFICANT


def too_few(table: PatchingTable) -> str:
    """Why a table could not show what it may hold: it has too few examples; "" if they are enough.

    They are too few if more cells would have to be significant together than have KEY_EFFECT of the whole effect, and where such
    cells have a small p but no q.

    >>> import numpy as np
    >>> cells, effects = [{"layer": n} for n in range(48)], np.zeros((48, 6))
    >>> effects[0] = 1.0
    >>> print(too_few(PatchingTable.of(cells, effects, np.zeros(6), np.ones(6), "logit")))
    6 examples can show 31 significant cells of 48 or none; 11 examples can show one; 1 cell has at least 5% of the whole effect
    """
    described, strong = table.statistics(), table.normalized() >= KEY_EFFECT
    examples, tested = table.frame["example"].nunique(), int(described["p"].notna().sum())
    needed, large = least_discovery(examples, tested), int(strong.sum())
    if table.can_show(SIGNIFICANT) and needed > max(1, large):
        have = f"{count(large, 'cell')} {'has' if large == 1 else 'have'} at least {KEY_EFFECT:.0%} of the whole effect"
        return f"{all_or_none(examples, tested)}; {have}"
    hidden = int((strong & (described["p"] < SIGNIFICANT) & described["q"].isna()).sum()) if table.outliers.enough else 0
    return f"{examples} examples are too few for effects this skewed: {count(hidden, 'large cell')} without a q" if hidden else ""
