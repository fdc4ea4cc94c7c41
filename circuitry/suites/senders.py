"""Heads that act through other heads: which heads they write to, and where they read. Shared by the suites on Transformers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from ..results.table import PatchingTable
from ..thresholds import KEY_EFFECT
from .heads import Head, Sender
from .keys import keys
from .possible import patch_possible, possible_set
from .study import Study


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
    """A port of several heads, the ``position`` of the port ("": all), and the position at which the heads are ``acting``."""

    heads: Sequence[Head]
    port: str
    position: str
    acting: str = "END"

    def after(self, layer: int) -> Receivers:
        """The receivers in layers after ``layer``."""
        return replace(self, heads=[head for head in self.heads if head[0] > layer])

    def onward(self, study: Study) -> str:
        """The path from the port to the logits: through the heads' output where they act, and from there through everything.

        The heads' output at other positions is not patched.

        >>> import circuitry as ct
        >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction"))
        >>> Receivers([(1, 0)], "k", "B").onward(study)
        'head[1,0].k @ B -> head[1,0] @ END directly -> logits'
        """
        return f"{self._port(study)} {self._rest(study)}"

    def through(self, study: Study) -> str:
        """The rest of a path from an earlier node to the port, with all heads frozen between, and on as in ``onward``.

        >>> import circuitry as ct
        >>> Receivers([(1, 0)], "q", "END").through(Study(ct.load("bundled:gpt_neox"), ct.task("induction")))
        '-> head[1,0].q @ END freezing head -> logits'
        """
        return f"-> {self._port(study)} freezing {study.carriers} {self._rest(study)}"

    def _port(self, study: Study) -> str:
        return site(study, self.heads, self.port, self.position)

    def _rest(self, study: Study) -> str:
        if self.port == "q" and self.position == self.acting:
            return "-> logits"  # a query changes the head's output at its own position only
        return f"-> {site(study, self.heads, position=self.acting)} directly -> logits"


def senders(study: Study, title: str, receivers: Receivers, positions: Sequence[str] = (), **task: Any) -> PatchingTable | None:
    """Patch every earlier head through a port of the receivers to the logits; None if no head can reach any receiver.

    A head sends to all receivers in later layers that it can reach. Without ``positions`` it is patched at all positions at once.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> senders(study, "To the keys", Receivers([(1, 0)], "k", "B"), ["B"]).axes
    ('layer', 'head', 'position')
    """
    head = study.name("head")
    axes = {"position": list(positions)} if positions else {}
    paths: dict[int, str] = {}
    last = max((layer for layer, _ in receivers.heads), default=0)
    for layer in sorted({layer for layer, _ in study.model.graph.indices(head) if layer < last}):
        where = " @ {position}" if positions else ""
        paths[layer] = _sent(study, f"{head}[{layer},{{head}}]{where}", receivers.after(layer), task=task, **axes)
    return patch_possible(study, title, "layer", paths, task=task, **axes) if paths else None


def _sent(study: Study, source: str, receivers: Receivers, **options: Any) -> str:
    """The path from a source through the receivers that it can reach; through all of them if it reaches none."""

    def path(heads: Sequence[Head]) -> str:
        return f"{source} {replace(receivers, heads=heads).through(study)}"

    whole = path(receivers.heads)
    return possible_set(study, path, receivers.heads, **options) or whole if study.refusal(whole, **options) else whole


def reads(
    study: Study,
    title: str,
    heads: Sequence[Head],
    port: str,
    positions: Sequence[str],
    through: Receivers | None = None,
    **task: Any,
) -> PatchingTable | None:
    """Patch a port of each head at every position. The effect is large at the positions that the head reads.

    Heads that can read at none of the positions are left out; None if that is all of them.

    By default the head's output goes to the logits with all other heads frozen; with ``through``, to the later receivers.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> reads(study, "Values", [(1, 0)], "v", ["A", "B"]).axes
    ('head', 'position')
    """
    options: dict[str, Any] = {"task": task, "position": list(positions)}
    paths = {}
    for head in heads:
        source, end = f"{site(study, [head], port)} @ {{position}}", f"-> logits freezing {study.carriers}"
        paths[f"{head[0]},{head[1]}"] = _sent(study, source, through.after(head[0]), **options) if through else f"{source} {end}"
    return patch_possible(study, title, "head", paths, **options)


def together(study: Study, title: str, receivers: Receivers, **task: Any) -> float:
    """The normalized effect of a port of all these heads at once; 0 if none of them can change.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> 0 < together(study, "Keys", Receivers([(1, 0), (1, 2)], "k", "B"), corruption="A") < 2
    True
    """
    path = jointly(study, receivers, **task)
    return study.normalized_effect(title, path, **task) if path else 0.0


def jointly(study: Study, receivers: Receivers, **task: Any) -> str:
    """The path of ``together``, with only those heads whose port can change; "" if there are none.

    >>> import circuitry as ct
    >>> jointly(Study(ct.load("bundled:gpt_neox"), ct.task("induction")), Receivers([(1, 0), (1, 2)], "q", "END"))
    '(head[1,0].q @ END, head[1,2].q @ END) -> logits'
    """
    return possible_set(study, lambda heads: replace(receivers, heads=heads).onward(study), receivers.heads, task=task)


def read_at(table: PatchingTable | None) -> list[str]:
    """The positions at which a port of several heads matters: all above the threshold, or else the strongest. None for no table.

    >>> import numpy as np
    >>> cells = [{"head": "1,0", "position": p} for p in ("A", "B")]
    >>> read_at(PatchingTable.of(cells, np.array([[0.01], [0.4]]), np.zeros(1), np.ones(1), "logit"))
    ['B']
    """
    if table is None:
        return []
    profile = table.normalized().groupby("position", sort=False).sum()
    return [str(p) for p in profile.index if profile[p] >= KEY_EFFECT] or [str(profile.idxmax())]


def read_by(table: PatchingTable | None, head: Head) -> pd.Series | None:
    """The normalized effects of one head by position, from a table of ``reads``; None where it was not measured.

    >>> import numpy as np
    >>> table = PatchingTable.of([{"head": "1,0", "position": "A"}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
    >>> read_by(table, (1, 0)).to_dict(), read_by(table, (1, 1))
    ({'A': 1.0}, None)
    """
    label = f"{head[0]},{head[1]}"
    return table.normalized()[label] if table is not None and label in set(table.frame["head"]) else None


def strong_senders(table: PatchingTable | None, at: str = "") -> list[Sender]:
    """Senders above the threshold, the strongest first; ``at`` is their position if the table has no position axis.

    >>> strong_senders(None)
    []
    """
    if table is None:
        return []
    effects = table.normalized()
    return [((int(cell[0]), int(cell[1])), str(cell[2]) if len(cell) > 2 else at, float(effects[cell])) for cell in keys(table)]
