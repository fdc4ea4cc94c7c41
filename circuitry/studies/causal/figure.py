"""Figure 3 for causes: the layout of the paper's figure 3, with effects in place of activations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...colours import CATEGORIES, INK, LINE
from ...drawing.figures import Figure, look, panels
from ...features.dashboard.figure import COLOURS as FEATURES
from ...paths.parse import parse_node
from ..experiment.figures import heat
from ..experiment.result import ARCHITECTURE
from .pairs import BINS
from .result import RANDOM

if TYPE_CHECKING:
    from .result import Causal

COLOURS = {RANDOM: LINE, **FEATURES}
"""Random pairs have the colour that neurons have in figure 3."""


def draw(found: Causal) -> Figure:
    """(a) Correlation of effects by MPPC, a line for each comparison; (b) the effects of pairs; (c) how much pairs differ, by layer.

    Bars in (a) are intervals over prompts; rings in (b) mark pairs that fire alike and act differently.
    """
    with look():
        figure, (left, middle, right) = panels(3, 9.6, 2.9, width_ratios=[1.25, 1, 1])
        _by_bin(left, found.agreement)
        _scatter(middle, found)
        _map(right, found)
    return figure


def _by_bin(ax: Any, agreement: pd.DataFrame) -> None:
    rest, pearson = iter(CATEGORIES[3:7]), agreement[agreement["measure"] == "Pearson"]
    names = list(pearson["comparison"].unique())
    for number, name in enumerate(names):
        rows = pearson[pearson["comparison"] == name].set_index("bin").reindex(BINS)
        x, value = np.arange(len(BINS)) + 0.09 * (number - (len(names) - 1) / 2), rows["value"].to_numpy()
        ends = np.nan_to_num(np.abs(rows[["prompts_low", "prompts_high"]].to_numpy().T - value))
        ax.errorbar(x, value, ends, label=name, color=COLOURS.get(name) or next(rest, INK), marker="o", markersize=3, linewidth=1.1, capsize=2)  # fmt: skip
    ax.axhline(0, color=LINE, linewidth=0.6)
    ax.set(title="(a) correlation of effects", xlabel="MPPC", ylabel="Pearson", ylim=(-1.05, 1.05))
    ax.set_xticks(range(len(BINS)), BINS, fontsize=6.5, rotation=20)
    ax.legend(frameon=False, fontsize=6.5, loc="lower right")
    _open(ax)


def _scatter(ax: Any, found: Causal) -> None:
    rows = found.frame[found.frame["comparison"] == ARCHITECTURE]
    most = 1.1 * max(1e-3, float(rows[["effect_a", "effect_b"]].abs().to_numpy().max()))
    ax.axline((0, 0), slope=1, color=LINE, linewidth=0.6)
    shown = ax.scatter(rows["effect_a"], rows["effect_b"], c=rows["mppc"], s=9, cmap="viridis", vmin=0, vmax=1, linewidths=0)
    ringed = found.differing
    ax.scatter(ringed["effect_a"], ringed["effect_b"], s=34, facecolors="none", edgecolors=CATEGORIES[3], linewidths=0.9)
    ax.set(title="(b) effects of matched features", xlabel=f"in {found.main.a}", ylabel=f"in {found.main.b}")
    ax.set(xlim=(-most, most), ylim=(-most, most))
    ax.figure.colorbar(shown, ax=ax, fraction=0.046, pad=0.04, label="MPPC")
    _open(ax)


def _map(ax: Any, found: Causal) -> None:
    """The mean |difference| of the effects of pairs, by the nodes of both; empty without any."""
    rows = found.frame[found.frame["comparison"] == ARCHITECTURE]
    size = rows.assign(size=rows["difference"].abs()).pivot_table(index="node_b", columns="node_a", values="size")
    size = size.loc[_in_order(size.index), _in_order(size.columns)]
    heat(ax, size.to_numpy(float), (found.main.a, found.main.b), "(c) mean |difference| of effects")
    ax.set_xticks(range(len(size.columns)), size.columns, fontsize=6, rotation=30)
    ax.set_yticks(range(len(size.index)), size.index, fontsize=6)
    ax.set(xlabel=f"node of {found.main.a}", ylabel=f"node of {found.main.b}")


def _in_order(nodes: Iterable[str]) -> list[str]:
    """Nodes by layer; "resid[10]" comes after "resid[2]"."""
    return sorted(nodes, key=lambda text: ([int(str(k)) for k in parse_node(text).indices], text))


def _open(ax: Any) -> None:
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
