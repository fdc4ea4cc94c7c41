"""Heads that act through other heads: whom they write to, and where they read. Shared by the suites on Transformers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..paths.labelled import labelled
from ..results.table import PatchingTable
from ..thresholds import KEY_EFFECT
from .keys import keys
from .study import Study

Head = tuple[int, int]
"""(layer, number)."""
Sender = tuple[Head, str, float]
"""(head, position at which it acts, normalized effect)."""


def site(study: Study, heads: Iterable[Head], port: str = "", position: str = "") -> str:
    """Heads as a path writes them, several as a set: ``(head[1,0].k @ B, head[2,3].k @ B)``.

    >>> import circuitry as ct
    >>> site(Study(ct.load("bundled:gpt_neox"), ct.task("induction")), [(1, 0), (2, 3)], "q", "END")
    '(head[1,0].q @ END, head[2,3].q @ END)'
    """
    end = f"{port and '.' + port}{position and ' @ ' + position}"
    members = [f"{study.name('head')}[{layer},{number}]{end}" for layer, number in sorted(heads)]
    return members[0] if len(members) == 1 else f"({', '.join(members)})"


@dataclass(frozen=True)
class Receivers:
    """A port of several heads: the position at which it takes something in ("": every one), and that at which the heads act."""

    heads: Sequence[Head]
    port: str
    position: str
    acting: str = "END"

    def after(self, layer: int) -> Receivers:
        """Those of the heads in later layers."""
        return replace(self, heads=[one for one in self.heads if one[0] > layer])

    def onward(self, study: Study) -> str:
        """The path from the port to the logits: through what the heads then put out where they act, and from there freely.

        What the heads do elsewhere is not followed.

        >>> import circuitry as ct
        >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction"))
        >>> Receivers([(1, 0)], "k", "B").onward(study)
        'head[1,0].k @ B -> head[1,0] @ END directly -> logits'
        """
        return f"{self._port(study)} {self._rest(study)}"

    def through(self, study: Study) -> str:
        """The same from an earlier node, with all heads frozen on the way to the port.

        >>> import circuitry as ct
        >>> Receivers([(1, 0)], "q", "END").through(Study(ct.load("bundled:gpt_neox"), ct.task("induction")))
        '-> head[1,0].q @ END freezing head -> logits'
        """
        return f"-> {self._port(study)} freezing {study.carriers} {self._rest(study)}"

    def _port(self, study: Study) -> str:
        return site(study, self.heads, self.port, self.position)

    def _rest(self, study: Study) -> str:
        if self.port == "q" and self.position == self.acting:
            return "-> logits"  # a query changes its head nowhere else
        return f"-> {site(study, self.heads, position=self.acting)} directly -> logits"


def senders(study: Study, title: str, receivers: Receivers, positions: Sequence[str] = (), **task: Any) -> PatchingTable | None:
    """Every earlier head, through a port of the receivers, on to the logits; None where no head is earlier, or none receives.

    A sender's receivers are all those in layers after it. Without ``positions`` a sender is patched at every position at once.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> senders(study, "To the keys", Receivers([(1, 0)], "k", "B"), ["B"]).axes
    ('layer', 'head', 'position')
    """
    head = study.name("head")
    paths: dict[int, str] = {}
    last = max((layer for layer, _ in receivers.heads), default=0)
    for layer in sorted({layer for layer, _ in study.model.graph.indices(head) if layer < last}):
        where = " @ {position}" if positions else ""
        paths[layer] = f"{head}[{layer},{{head}}]{where} {receivers.after(layer).through(study)}"
    axes = {"position": list(positions)} if positions else {}
    return study.patch(title, labelled("layer", paths), task=task, **axes) if paths else None


def reads(
    study: Study,
    title: str,
    heads: Sequence[Head],
    port: str,
    positions: Sequence[str],
    through: Receivers | None = None,
    **task: Any,
) -> PatchingTable:
    """A port of each head patched at every position: where the head reads is where it matters.

    By default its output goes to the logits with all other heads frozen; with ``through`` by those of the receivers that come later.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> reads(study, "Values", [(1, 0)], "v", ["A", "B"]).axes
    ('head', 'position')
    """
    paths = {}
    for one in heads:
        way = through.after(one[0]).through(study) if through else f"-> logits freezing {study.carriers}"
        paths[f"{one[0]},{one[1]}"] = f"{site(study, [one], port)} @ {{position}} {way}"
    return study.patch(title, labelled("head", paths), task=task, position=list(positions))


def together(study: Study, title: str, receivers: Receivers, **task: Any) -> float:
    """What a port of all these heads carries at once, as a normalized effect.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> 0 < together(study, "Keys", Receivers([(1, 0), (1, 2)], "k", "B"), corruption="A") < 2
    True
    """
    path = jointly(study, receivers, **task)
    return study.normalized_effect(title, path, **task) if path else 0.0


def jointly(study: Study, receivers: Receivers, **task: Any) -> str:
    """The path of ``together``: of the heads whose port can change at all; "" where that is none of them.

    >>> import circuitry as ct
    >>> jointly(Study(ct.load("bundled:gpt_neox"), ct.task("induction")), Receivers([(1, 0), (1, 2)], "q", "END"))
    '(head[1,0].q @ END, head[1,2].q @ END) -> logits'
    """
    changed = [one for one in receivers.heads if study.possible(replace(receivers, heads=[one]).onward(study), **task)]
    return replace(receivers, heads=changed).onward(study) if changed else ""


def read_at(table: PatchingTable) -> list[str]:
    """The positions at which a port of several heads matters: those over the threshold, at least the strongest.

    >>> import numpy as np
    >>> cells = [{"head": "1,0", "position": p} for p in ("A", "B")]
    >>> read_at(PatchingTable.of(cells, np.array([[0.01], [0.4]]), np.zeros(1), np.ones(1), "logit"))
    ['B']
    """
    profile = table.normalized().groupby("position", sort=False).sum()
    return [str(p) for p in profile.index if profile[p] >= KEY_EFFECT] or [str(profile.idxmax())]


def strong_senders(table: PatchingTable | None, at: str = "") -> list[Sender]:
    """Senders over the threshold, the strongest first; ``at`` stands for the position where the table has none.

    >>> strong_senders(None)
    []
    """
    if table is None:
        return []
    effects = table.normalized()
    return [((int(cell[0]), int(cell[1])), str(cell[2]) if len(cell) > 2 else at, float(effects[cell])) for cell in keys(table)]
