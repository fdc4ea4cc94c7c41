"""Heads that act through other heads: whom they write to, and where they read. Shared by the suites on Transformers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..paths import labelled
from ..results import PatchingTable
from .study import KEY_SHARE, Study, keys

Head = tuple[int, int]
"""(layer, number)."""
Sender = tuple[Head, str, float]
"""(head, position at which it acts, share of the whole effect)."""


def site(study: Study, heads: Iterable[Head], port: str = "", position: str = "") -> str:
    """Heads as a path writes them, several as a set: ``(head[1,0].k @ B, head[2,3].k @ B)``.

    >>> import circuitry as ct
    >>> site(Study(ct.load("bundled:gpt_neox"), ct.task("induction")), [(1, 0), (2, 3)], "q", "END")
    '(head[1,0].q @ END, head[2,3].q @ END)'
    """
    end = f"{port and '.' + port}{position and ' @ ' + position}"
    members = [f"{study.name('head')}[{layer},{number}]{end}" for layer, number in sorted(heads)]
    return members[0] if len(members) == 1 else f"({', '.join(members)})"


def senders(
    study: Study, title: str, receivers: Sequence[Head], port: str, at: str, positions: Sequence[str] = (), **task: Any
) -> PatchingTable | None:
    """Every earlier head, through a port of the receivers ``at`` a position, on to the logits; None where no head is earlier.

    A sender's receivers are all those in layers after it. All heads are frozen on the way to the receivers, nothing after.
    Without ``positions`` a sender is patched at every position at once.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> senders(study, "To the keys", [(1, 0)], "k", "B", ["B"]).axes
    ('layer', 'head', 'position')
    """
    head = study.name("head")
    paths: dict[int, str] = {}
    last = max(layer for layer, _ in receivers)
    for layer in sorted({layer for layer, _ in study.model.graph.indices(head) if layer < last}):
        later = site(study, [one for one in receivers if one[0] > layer], port, at)
        where = " @ {position}" if positions else ""
        paths[layer] = f"{head}[{layer},{{head}}]{where} -> {later} freezing {study.carriers} -> logits"
    axes = {"position": list(positions)} if positions else {}
    return study.patch(title, labelled("layer", paths), task=task, **axes) if paths else None


def reads(
    study: Study,
    title: str,
    heads: Sequence[Head],
    port: str,
    positions: Sequence[str],
    through: tuple[Sequence[Head], str, str] | None = None,
    **task: Any,
) -> PatchingTable:
    """A port of each head patched at every position: where the head reads is where it matters.

    By default its output goes to the logits with all other heads frozen; ``through`` (heads, port, position) sends it through
    that port of those of the heads that come later.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> reads(study, "Values", [(1, 0)], "v", ["A", "B"]).axes
    ('head', 'position')
    """
    paths = {}
    for one in heads:
        way = f"-> logits freezing {study.carriers}"
        if through is not None:
            later = site(study, [other for other in through[0] if other[0] > one[0]], *through[1:])
            way = f"-> {later} freezing {study.carriers} -> logits"
        paths[f"{one[0]},{one[1]}"] = f"{site(study, [one], port)} @ {{position}} {way}"
    return study.patch(title, labelled("head", paths), task=task, position=list(positions))


def together(study: Study, title: str, heads: Sequence[Head], port: str, position: str, **task: Any) -> float:
    """What a port of all these heads carries at once, as a share of the whole effect; the rest of the model stays live.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> 0 < together(study, "Keys", [(1, 0), (1, 2)], "k", "B", corruption="A") < 2
    True
    """
    return float(study.patch(title, f"{site(study, heads, port, position)} -> logits", task=task).share().iloc[0])


def read_at(table: PatchingTable) -> list[str]:
    """The positions at which a port of several heads matters: those over the threshold, at least the strongest.

    >>> import numpy as np
    >>> cells = [{"head": "1,0", "position": p} for p in ("A", "B")]
    >>> read_at(PatchingTable.of(cells, np.array([[0.01], [0.4]]), np.zeros(1), np.ones(1), "logit"))
    ['B']
    """
    profile = table.share().groupby("position", sort=False).sum()
    return [str(p) for p in profile.index if profile[p] >= KEY_SHARE] or [str(profile.idxmax())]


def strong_senders(table: PatchingTable | None, at: str = "") -> list[Sender]:
    """Senders over the threshold, the strongest first; ``at`` stands for the position where the table has none.

    >>> strong_senders(None)
    []
    """
    if table is None:
        return []
    shares = table.share()
    return [((int(cell[0]), int(cell[1])), str(cell[2]) if len(cell) > 2 else at, float(shares[cell])) for cell in keys(table)]
