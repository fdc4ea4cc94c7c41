"""What a suite works with: one model, one task, its settings; patching by text, kept tables, and the thresholds of a finding."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..errors import CircuitryError, PathError
from ..evidence import Offsets, off_by_one
from ..evidence.write_profile import place
from ..models import Model
from ..prompting import Task
from ..results import PatchingTable
from ..results.statistics import least_discovery
from ..running import patch
from ..running.metrics import DISTANCE
from ..running.patching import compile_path
from .folder import RunFolder
from .result import Component, Summary

KEY_SHARE = 0.05
"""A component is named if patching it alone has at least this share of the whole effect, and q below Q."""
Q = 0.05
MOST_KEYS = 8


@dataclass
class Study:
    """One model under one suite.

    ``settings`` are the suite's own, ``options`` go to every ``patch``, ``say`` is told what runs next. ``tables`` are those
    kept so far; with a ``folder`` they are written at once, and what an interrupted run has finished is not run again.
    """

    model: Model
    task: Task
    settings: dict[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = lambda _: None
    folder: RunFolder | None = None
    tables: dict[str, PatchingTable] = field(default_factory=dict)
    prefix: str = ""

    @property
    def carriers(self) -> str:
        """All that moves information along the text, as ``freezing`` names it: states, heads, or in a hybrid both."""
        return ", ".join(family.name for role in ("state", "head") for family in self.model.graph.by_role(role))

    def name(self, role: str) -> str:
        """The architecture's name for a node of this role, such as "ssm_state" for "state"."""
        families = self.model.graph.by_role(role)
        if not families:
            raise CircuitryError(f"{self.model.graph.name} has no node of role {role!r}; this part of the suite is not for it")
        return families[0].name

    def last(self) -> str:
        """The last token whose state the answer can read: END, or END-1 where a token reads only what was written before it."""
        graph = self.model.graph
        reach = graph.reach([graph.nodes(self.name("state"))[0]])
        return "END" if reach[graph.node("logits")].least == 0 else "END-1"

    def patch(
        self,
        title: str,
        path: str | Mapping[Any, str],
        *,
        task: Mapping[str, Any] | None = None,
        axis: str = "path",
        metric: Any = None,
        **axes: Any,
    ) -> PatchingTable:
        """One table. ``task``: options of the task for this table only; ``axes``: values of open axes."""
        self.say(f"{title}: {path if isinstance(path, str) else next(iter(path.values()))}")
        asked = self.task.but(**(task or {}))
        options = {"lint": False, **self.options} | ({"metric": metric} if metric is not None else {})

        def make() -> PatchingTable:
            return patch(self.model, asked, path, axes=axes, axis=axis, **options)

        numbers = {k: v for k, v in options.items() if k not in ("progress", "memory")}
        made = self.folder.part((path, asked, axis, axes, numbers), make) if self.folder else make()
        return made.titled(title)

    def possible(self, path: str) -> bool:
        """Whether a path can have an effect, by the graph and by where the prompts differ."""
        try:
            compile_path(self.model, self.task, path)
        except PathError:
            return False
        return True

    def over(self, option: str, values: Sequence[Any], title: str, path: str | Mapping[Any, str], **how: Any) -> PatchingTable:
        """The same table for several values of a task option, which becomes its first axis."""
        given = how.pop("task", None) or {}
        made = {v: self.patch(f"{title}, {option} {v}", path, task={**given, option: v}, **how) for v in values}
        return PatchingTable.stack(made, option, title)

    def keep(self, name: str, table: PatchingTable, note: str = "") -> PatchingTable:
        """Make a table part of the result; ``note`` says how to read it."""
        if note:
            table.about["note"] = note
        self.tables[name] = table
        if self.folder:
            self.folder.keep(self.prefix + name, table)
        return table

    def component(self, node: str, role: str, table: str, cell: Any, at: str = "") -> Component:
        """A node of the circuit, with its share in a cell of a kept table."""
        whole = cell if isinstance(cell, tuple) else (cell,)
        return Component(node, role, float(self.tables[table].share()[cell]), at, table, whole)

    @property
    def plain_options(self) -> dict[str, Any]:
        """The options of ``patch`` without random nodes and verification, for what draws or checks by itself."""
        return {k: v for k, v in self.options.items() if k not in ("baseline", "verify")}

    def offsets(self, token: str, reach: int = 4, **task: Any) -> Offsets | None:
        """Where the model takes up a token (``ct.off_by_one``); None where there are too few examples or tokens to say."""
        self.say(f"Where {token} is taken up")
        try:
            return off_by_one(self.model, self.task.but(**task), token, reach=reach, **self.plain_options)
        except CircuitryError as error:
            self.say(f"not measured: {error}")
            return None

    def rule(self) -> str:
        """The threshold of a finding in words, and the tables in which there were too few examples for the whole of it."""
        alone = [name for name, table in self.tables.items() if not resolves(table)]
        share = f"; by the share alone in {', '.join(alone)}, where {self.task.examples} examples cannot show anything at that q"
        most = f"(of each table the {MOST_KEYS} strongest)"
        return f"at least {KEY_SHARE:.0%} of the whole effect and q < {Q:g} {most}{share if alone else ''}"

    def caveats(self, table: PatchingTable) -> list[str]:
        """What a reader must know first: that there may be no behaviour to explain, by the prompts of the suite's main table."""
        if "KL" in table.unit or table.about.get("unit") == DISTANCE:
            return []
        sign = -1 if table.about.get("base") == "corrupted" else 1
        gap = sign * (table.values("base")[0] - table.values("other")[0])
        if gap.mean() > 2 * gap.std() / max(1, len(gap) - 1) ** 0.5:
            return []
        return ["the model does no better on clean than on corrupted prompts: there is no behaviour here to explain"]

    def summary(
        self,
        components: list[Component],
        notes: list[str],
        *,
        explained: float = math.nan,
        together: str = "these",
        taken: Offsets | None = None,
        verdict: str = "",
        baseline: dict[str, float] | None = None,
    ) -> Summary:
        """The end of a suite: what it found, with the model, where a token was ``taken`` up, and by default the baseline."""
        known = self.baseline() if baseline is None else baseline
        name, family = self.model.name, self.model.graph.name
        return Summary(name, family, components, explained, profile(taken), known, notes, verdict, together)

    @torch.no_grad()
    def baseline(self, **task: Any) -> dict[str, float]:
        """On clean prompts top-1 accuracy and logit difference, and what corruption costs the answer's logit."""
        prompts = self.task.but(**task).prompts(self.model.vocabulary)
        clean, corrupted = (self._ends(ids, prompts.where["END"]) for ids in (prompts.clean, prompts.corrupted))
        rows, answer, foil = range(len(prompts)), prompts.answer, prompts.foil
        return {
            "top-1 accuracy": float((clean.argmax(-1).numpy() == answer).mean()),
            "logit difference, answer less foil": (clean[rows, answer] - clean[rows, foil]).mean().item(),
            "answer's logit, clean less corrupted": (clean - corrupted)[rows, answer].mean().item(),
        }

    def _ends(self, ids: Any, ends: Any) -> torch.Tensor:
        """Logits at END, [example, vocab]; one prompt at a time, so that memory does not grow."""
        rows = (torch.from_numpy(row[: end + 1])[None].to(self.model.device) for row, end in zip(ids, ends, strict=True))
        return torch.cat([self.model.hf(row, use_cache=False, logits_to_keep=1).logits[:, -1].cpu() for row in rows])


def keys(table: PatchingTable, *, most: int = MOST_KEYS, negative: bool = False) -> list[Any]:
    """Cells with at least KEY_SHARE of the whole effect and q below Q, the strongest first.

    With too few examples for any cell to reach Q, the share alone decides. ``negative``: cells that work against the behaviour,
    by the same thresholds.

    >>> import numpy as np
    >>> effects = np.array([[0.04], [0.6], [0.2], [-0.3]]) * np.linspace(0.9, 1.1, 16)
    >>> t = PatchingTable.of([{"cell": c} for c in "abcd"], effects, np.zeros(16), np.ones(16), "logit")
    >>> keys(t), keys(t, negative=True)
    (['b', 'c'], ['d'])
    """
    shares = table.share() * (-1 if negative else 1)
    strong = shares[shares >= KEY_SHARE]
    if resolves(table):
        strong = strong[table.significant(Q)[strong.index]]
    return list(strong.sort_values(ascending=False, kind="stable").index[:most])


def resolves(table: PatchingTable) -> bool:
    """Whether the table has examples enough for its cells, or some of them together, to reach Q.

    >>> import numpy as np
    >>> cells = [{"layer": n} for n in range(4)]
    >>> [resolves(PatchingTable.of(cells, np.ones((4, n)), np.zeros(n), np.ones(n), "logit")) for n in (4, 12)]
    [False, True]
    """
    cells = len(table.mean())
    return least_discovery(table.frame["example"].nunique(), cells, Q) <= cells


def profile(offsets: Offsets | None) -> dict[str, float] | None:
    """The model's profile of where a token is taken up, by position: empty where nothing was found, None where it was not measured.

    >>> print(profile(None))
    None
    """
    if offsets is None:
        return None
    if offsets.models[0].kind == "none":
        return {}
    whole = offsets.frame[offsets.frame["layer"] == "all"]
    return {place(offsets.token, int(n)): round(float(s), 6) for n, s in zip(whole["offset"], whole["share"], strict=True)}
