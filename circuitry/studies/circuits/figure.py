"""Several circuits in one picture: the depth and the nodes of each step, and the agreement of each pair."""

from __future__ import annotations

import itertools
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from ...colours import CATEGORIES, FAINT, INK
from ...drawing.figures import Figure, look, panels

if TYPE_CHECKING:
    from .compare import Circuits

_AREA = 260.0  # of a dot with normalized effect 1, in square points


def draw(comparison: Circuits) -> Figure:
    """Left: a column for each model, a dot for each step in each layer, its area the normalized effect. Right: agreement of pairs.

    >>> from circuitry.suites import Summary, SuiteResult
    >>> from circuitry.studies.circuits import circuits
    >>> nothing = SuiteResult({}, None, Summary("m", "mamba", [], 0.0, {}), record={"layers": 4})
    >>> [ax.get_title()[:9] for ax in draw(circuits([nothing, nothing])).axes]
    ['induction', 'in common', '']
    """
    count = len(comparison.results)
    with look():
        widths = max(3.2, 1.3 * count), max(2.4, 0.8 * count)
        figure, (left, right) = panels(2, sum(widths) + 0.8, max(3.9, 0.8 * count + 0.6), width_ratios=widths)
        _depths(left, comparison)
        _pairs(right, comparison)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", frameon=False, fontsize=7)
    return figure


def _depths(ax: Any, comparison: Circuits) -> None:
    models = list(comparison.results)
    width = 0.7 / max(1, len(comparison.steps))
    for number, step in enumerate(comparison.steps):
        effects = (
            comparison.frame[comparison.frame["step"] == step]
            .groupby(["model", "depth"], sort=False)["normalized"]
            .agg(["sum", "count"])
        )
        shift, colour = (number - (len(comparison.steps) - 1) / 2) * width, CATEGORIES[number % len(CATEGORIES)]
        across = [models.index(model) + shift for model, _ in effects.index]
        depth, area = [at for _, at in effects.index], _AREA * np.clip(effects["sum"], 0.02, 1)
        ax.scatter(across, depth, s=area, color=colour, alpha=0.8, linewidth=0, label=textwrap.fill(step, 70))
        for x, y, count in zip(across, depth, effects["count"], strict=True):
            if count > 1:
                ax.annotate(f"{count} nodes", (x, y), (0, 9), textcoords="offset points", ha="center", fontsize=6)
    ax.set_xticks(range(len(models)), [_wrapped(m) for m in models])
    ax.set(xlim=(-0.5, len(models) - 0.5), ylim=(0, 1), ylabel="depth, as a share of the layers")
    ax.set_title(f"{comparison.suite}: who does what, and where (area: normalized effect)")
    for edge in range(1, len(models)):
        ax.axvline(edge - 0.5, color=FAINT, linewidth=0.8, zorder=0)


def _pairs(ax: Any, comparison: Circuits) -> None:
    """The agreement of pairs: by step below the diagonal, by step and depth above it."""
    models = list(comparison.results)
    grid = np.full((len(models), len(models)), np.nan)
    labels: dict[tuple[int, int], str] = {}
    for (a, b), row in zip(itertools.combinations(range(len(models)), 2), comparison.agreement.to_dict("records"), strict=True):
        for (i, j), name, low, high in (
            ((b, a), "by step", "low", "high"),
            ((a, b), "by step and depth", "depth_low", "depth_high"),
        ):
            grid[i, j] = row[name]
            labels[i, j] = f"{row[name]:.2f}\n({row[low]:.2f}–\n{row[high]:.2f})"
    shown = ax.imshow(grid, vmin=0, vmax=1, cmap="Blues")
    for (i, j), text in labels.items():
        ax.text(j, i, text, ha="center", va="center", fontsize=6, color="white" if grid[i, j] > 0.6 else INK)
    names = [_wrapped(m) for m in models]
    ax.set_xticks(range(len(models)), names, rotation=90 if len(models) > 3 else 0, fontsize=6)
    ax.set_yticks(range(len(models)), names, fontsize=6)
    ax.set_title("in common: below by step,\nabove by step and depth")
    ax.figure.colorbar(shown, ax=ax, fraction=0.046, pad=0.04)


def _wrapped(model: str) -> str:
    """A model's name on several lines, broken after its source (``bundled:``, ``OWNER/``)."""
    return textwrap.fill(model.replace(":", ":\n").replace("/", "/\n"), 18, replace_whitespace=False, break_on_hyphens=False)
