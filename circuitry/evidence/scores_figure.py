"""The scores of a circuit as a picture: faithfulness among random sets, completeness, and minimality by node."""

from __future__ import annotations

from itertools import chain
from typing import Any

from matplotlib.ticker import MaxNLocator

from ..colours import FOUND, LINE
from ..drawing.figures import Figure, look, panels
from .scores import Scores, all_of

_NAMED = 16
"""Nodes whose names have room beside their bars."""


def draw(scores: Scores) -> Figure:
    """Three panels: f of the circuit and of random sets; f with a subset removed from circuit and model; change by node.

    >>> import circuitry as ct
    >>> from circuitry.evidence.scores import score
    >>> scores = score(ct.load("bundled:gpt_neox"), ct.task("ioi", examples=4), {"m": ["head[3,1]", "head[3,3]"]},
    ...                random=2, subsets=1)
    >>> len(draw(scores).axes)
    3
    """
    with look():
        figure, (first, second, third) = panels(3, 7.0, 2.6)
        _faithfulness(first, scores)
        _completeness(second, scores)
        _minimality(third, scores)
        legends = [ax.get_legend_handles_labels() for ax in figure.axes]
        handles, labels = (list(chain(*entries)) for entries in zip(*legends, strict=True))
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=7)
    return figure


def _faithfulness(ax: Any, scores: Scores) -> None:
    if scores.random:
        ax.hist(scores.random, bins=12, color=LINE, label=f"{len(scores.random)} random sets")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.axvspan(*scores.interval, color=FOUND, alpha=0.2, linewidth=0)
    ax.axvline(scores.faithfulness, color=FOUND, label="the circuit, with its interval")
    ax.set(title="faithfulness", xlabel="faithfulness f of what is kept", ylabel="random sets")


def _completeness(ax: Any, scores: Scores) -> None:
    """f without each subset, model across and circuit up; on the diagonal a removal costs both the same."""
    rows = scores.completeness
    ends = [min(0.0, *rows["circuit"], *rows["model"]), max(1.0, *rows["circuit"], *rows["model"])]
    ax.plot(ends, ends, color=LINE, linewidth=0.8)
    roles = rows["without"].isin(list(map(all_of, scores.roles)))
    for chosen, marker, label in ((roles, "o", "a role removed"), (~roles, "x", "a random half removed")):
        ax.scatter(rows["model"][chosen], rows["circuit"][chosen], s=16, marker=marker, color=FOUND, label=label)
    ax.set(title="completeness", xlabel="f of the model without it", ylabel="f of the circuit without it")


def _minimality(ax: Any, scores: Scores) -> None:
    rows = scores.minimality.sort_values("change")
    ax.barh(rows["node"], rows["change"], color=FOUND)
    if len(rows) > _NAMED:  # the names of more would overlap; a table has them
        ax.set_yticks([])
        ax.set_ylabel(f"{len(rows)} nodes, by change")
    if scores.outsiders:
        ax.axvline(max(scores.outsiders), color=LINE, linestyle="--", label="the most that a node from outside changes")
    ax.set(title="minimality", xlabel="change of f")
    ax.tick_params(axis="y", labelsize=6)
