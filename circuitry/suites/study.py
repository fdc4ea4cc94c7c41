"""The tools of a suite: a model, a task and settings; patching, kept tables, and the thresholds of a finding."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import CircuitryError, PathError
from ..evidence.offsets import off_by_one
from ..evidence.offsets_result import Offsets
from ..evidence.write_profile import position_name
from ..executing.answers import answers
from ..executing.open import DEFAULT, choice
from ..models.model import Model
from ..patching.experiment import Paths, compile_path, patch
from ..paths.labelled import Labelled, labelled
from ..paths.parse import parse
from ..paths.values import Path
from ..planning.readings import reads_logits
from ..planning.values import Sweep
from ..prompting.task import Task
from ..results.table import PatchingTable
from ..results.top_1 import below_threshold
from ..thresholds import KEY_EFFECT, MOST_KEYS, SIGNIFICANT
from .folder import RunFolder
from .keys import too_few
from .result import Component, Summary


@dataclass
class Study:
    """One model under one suite.

    ``settings`` are the options of the suite, ``options`` go to every ``patch``, ``say`` is called with what runs next.
    ``tables`` are those kept so far. With a ``folder`` they are written at once, and patches that an interrupted run has
    finished are read from it. ``prefix`` goes before the names of the written tables. ``left_out`` has a line for each table
    that was not made because no effect is possible there; the summary repeats them.
    """

    model: Model
    task: Task
    settings: dict[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = lambda _: None
    folder: RunFolder | None = None
    tables: dict[str, PatchingTable] = field(default_factory=dict)
    prefix: str = ""
    left_out: list[str] = field(default_factory=list)

    @property
    def carriers(self) -> str:
        """The families that move information between tokens, as ``freezing`` names them: states, heads, or both in a hybrid."""
        return ", ".join(family.name for role in ("state", "head") for family in self.model.graph.by_role(role))

    def name(self, role: str) -> str:
        """The architecture's name for a role, such as "ssm_state" for "state". Raises CircuitryError if it has none."""
        families = self.model.graph.by_role(role)
        if not families:
            raise CircuitryError(f"{self.model.graph.name} has no node of role {role!r}, which this part of the suite needs")
        return families[0].name

    def last(self) -> str:
        """The last token whose state the answer can read: END, or END-1 if a token reads only earlier writes (RWKV)."""
        graph = self.model.graph
        reach = graph.reach([graph.nodes(self.name("state"))[0]])
        return "END" if reach[graph.node("logits")].least == 0 else "END-1"

    def patch(
        self,
        title: str,
        path: Paths,
        *,
        task: Mapping[str, Any] | None = None,
        metric: Any = None,
        **axes: Any,
    ) -> PatchingTable:
        """Measure one table. ``task``: options of the task for this table only; ``axes``: values of open axes.

        If two positions are the same token in every prompt, only one is measured (``table.provenance["skipped"]`` has the other).
        """
        self.say(f"{title}: {_first(path)}")
        posed = self.task.but(**(task or {}))
        options = {"lint": "prompts", **self.options} | ({"metric": metric} if metric is not None else {})
        if metric is None and not self._has_metric(path):
            options.pop("metric", None)  # the suite's metric needs logits, and this path ends elsewhere

        def make() -> PatchingTable:
            return patch(self.model, posed, path, axes=_swept(axes), **options)

        # The text of an executor has only what can change a number, so a run resumes with more memory or without a progress bar.
        numbers = {**options, "executor": str(choice(options.get("executor", DEFAULT)))}
        table = self.folder.part((path, posed, axes, numbers), make) if self.folder else make()
        return table.titled(title)

    def normalized_effect(self, title: str, path: str, **task: Any) -> float:
        """The normalized effect of one path; ``task`` as for ``patch``.

        It is not compared with random nodes, which would cost more than the number itself.
        """
        return self.normalized_effects({title: path}, **task)[title]

    def normalized_effects(self, paths: Mapping[str, str], **task: Any) -> dict[str, float]:
        """The normalized effects of several paths by title. They share their unpatched runs.

        >>> import circuitry as ct
        >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
        >>> list(study.normalized_effects({"head 0": "head[1,0] @ END -> logits", "head 1": "head[1,1] @ END -> logits"}))
        ['head 0', 'head 1']
        """
        alone = replace(self, options={**self.options, "baseline": 0})
        effects = alone.patch(", ".join(paths), labelled("which", paths), task=task).normalized()
        return {title: float(effects[title]) for title in paths}

    def _has_metric(self, path: Paths) -> bool:
        first = _first(path)
        return reads_logits(parse(first) if isinstance(first, str) else first, self.model.graph)

    def possible(self, path: str, **task: Any) -> bool:
        """Whether a path can have an effect, given the graph and the tokens that differ; ``task`` as for ``patch``."""
        return not self.refusal(path, task=task)

    def refusal(self, path: Paths, *, task: Mapping[str, Any] | None = None, **axes: Any) -> str:
        """Why ``patch`` would refuse a path, with the same arguments: no effect is possible in any cell. "" if one is.

        >>> import circuitry as ct
        >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
        >>> study.refusal("head[1,0].q @ B -> logits freezing head")[:46], study.refusal("head[1,0] @ END -> logits")
        ('no unfrozen node between head[1,0].q and logit', '')
        """
        made = {name: self.options[name] for name in ("intervention", "direction") if name in self.options}
        try:
            compile_path(self.model, self.task.but(**(task or {})), path, axes=_swept(axes), **made)
        except PathError as error:
            return error.problem
        return ""

    def over(self, option: str, values: Sequence[Any], title: str, path: Paths, **options: Any) -> PatchingTable:
        """One table for several values of a task option, its first axis. Raises CircuitryError for a repeated value.

        Values for which no effect is possible are left out, such as a distance that no window spans. The task's own value stays.
        """
        if twice := [value for value in values if list(values).count(value) > 1]:
            raise CircuitryError(
                f"{option} has {twice[0]!r} twice; name each value once, since a cell that comes twice counts its examples twice"
            )
        task_options, tables = options.pop("task", None) or {}, {}
        for value in values:
            try:
                tables[value] = self.patch(f"{title}, {option} {value}", path, task={**task_options, option: value}, **options)
            except PathError as error:
                if value == self.task.options[option]:
                    raise
                self.left_out.append(f"{title}, {option} {value} ({error.problem})")
        return PatchingTable.stack(tables, option, title)

    def keep(self, name: str, table: PatchingTable, note: str = "") -> PatchingTable:
        """Add a table to the result; ``note`` says how to read it."""
        if note:
            table.provenance["note"] = note
        self.tables[name] = table
        if self.folder:
            self.folder.keep(self.prefix + name, table)
        return table

    def component(self, node: str, role: str, table: str, cell: Any, at: str = "", measured: str = "") -> Component:
        """A node of the circuit, with its normalized effect in a cell of a kept table; ``measured``: the position patched there."""
        axis_values = cell if isinstance(cell, tuple) else (cell,)
        return Component(node, role, float(self.tables[table].normalized()[cell]), at, table, axis_values, measured)

    @property
    def plain_options(self) -> dict[str, Any]:
        """The options of ``patch`` without random nodes and verification, for measurements with random baselines of their own."""
        options = {k: v for k, v in self.options.items() if k != "baseline"}
        return options | ({"executor": choice(options["executor"]).unverified()} if "executor" in options else {})

    def offsets(self, token: str, reach: int = 4, **task: Any) -> Offsets | None:
        """The write position of a token (``ct.off_by_one``); None if it cannot be measured, such as with too few examples."""
        self.say(f"Where {token} is written")
        try:
            return off_by_one(self.model, self.task.but(**task), token, reach=reach, **self.plain_options)
        except CircuitryError as error:
            self.say(f"not measured: {error}")
            return None

    def rule(self) -> str:
        """The thresholds of a finding in words, with the tables for which only a part of them could be applied."""
        mute = {name: bool(table.signed().any()) for name, table in self.tables.items() if not table.can_show(SIGNIFICANT)}
        few, untested = ([name for name, signed in mute.items() if signed == kind] for kind in (True, False))
        small = [name for name, table in self.tables.items() if name not in mute and not table.outliers.enough]
        text = f"at least {KEY_EFFECT:.0%} of the whole effect and q < {SIGNIFICANT:g} (of each table the {MOST_KEYS} strongest)"
        if few:
            text += f"; by effect size only in {', '.join(few)}: {self.task.examples} examples are too few for significance"
        if untested:
            text += f"; by effect size only in {', '.join(untested)}: effects that are never negative are not tested"
        if small:
            text += f"; by p < {SIGNIFICANT:g} in {', '.join(small)}, whose effects are too few to tell how skewed they are"
        return text

    def nothing(self, what: str, circuit: str, table: PatchingTable, baseline: dict[str, float] | None = None) -> Summary:
        """The summary if no cell of the suite's main table passes the thresholds; says so if the examples are too few to tell."""
        few, most = too_few(table), table.normalized().max()
        conclusion = f"too few examples to say whether an {circuit} circuit exists" if few else f"no {circuit} circuit was found"
        notes = [f"no {what} has {self.rule()} (the most is {most:.1%}): {conclusion}", *self.caveats(table)]
        return self.summary([], notes, explained=0.0, baseline=baseline, undecided=few)

    def caveats(self, table: PatchingTable) -> list[str]:
        """A warning if the model does not do the task, or if clean and corrupted runs of the suite's main table do not differ."""
        below = below_threshold(table.provenance.get("top_1"))
        return [*([below] if below else []), *self._nothing_to_explain(table)]

    def _nothing_to_explain(self, table: PatchingTable) -> list[str]:
        if not table.signed().all():
            return []
        sign = -1 if table.provenance.get("base") == "corrupted" else 1
        gap = sign * (table.values("base")[0] - table.values("source")[0])
        # Two standard errors, the same bound as in patching/cautions.py.
        if gap.mean() > 2 * gap.std() / max(1, len(gap) - 1) ** 0.5:
            return []
        return ["the model does no better on clean than on corrupted prompts: there is nothing to explain here"]

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
        undecided: str = "",
    ) -> Summary:
        """The summary of a suite; ``taken`` has the write position of a token, ``baseline`` is measured by default."""
        measured = self.baseline() if baseline is None else baseline
        name, family = self.model.name, self.model.graph.name
        every = [*notes, *(f"not measured: {line}" for line in self.left_out)]
        return Summary(name, family, components, explained, profile(taken), measured, every, verdict, together, undecided)

    def baseline(self, gap: float | None = None, **task: Any) -> dict[str, float]:
        """Accuracy and logit difference on clean prompts, and the answer's logit, clean minus corrupted (or ``gap``).

        Accuracy is how often the answer has the largest logit. If the answer is not copied from the prompt, other answers may be
        right too; then it is how often the answer is above the foil.
        """
        prompts = self.task.but(**task).prompts(self.model.vocabulary)
        clean = answers(self.model, prompts)
        difference = clean.answer - clean.foil
        if gap is None:
            gap = float((clean.answer - answers(self.model, prompts, corrupted=True).answer).mean())
        on_top, above = float(clean.top.mean()), float((difference > 0).mean())
        return {
            **({"top-1 accuracy": on_top} if self.task.definition.copied else {"answer above foil": above}),
            "logit difference (answer - foil)": float(difference.mean()),
            "answer's logit (clean - corrupted)": gap,
        }


def _swept(axes: Mapping[str, Any]) -> dict[str, Any]:
    """Values that the suite chose, not the user: two that are the same token are merged instead of refused."""
    return {name: values if isinstance(values, str | int) else Sweep(values) for name, values in axes.items()}


def _first(path: Paths) -> Path | str:
    """The path, or the first of several; for an empty dict any path will do, because ``patch`` then refuses it."""
    paths = path.paths if isinstance(path, Labelled) else path
    return next(iter(paths.values()), "embed -> logits") if isinstance(paths, Mapping) else paths


def profile(offsets: Offsets | None) -> dict[str, float] | None:
    """The share of a token that the model writes at each position: empty if no write position was found, None if not measured.

    >>> print(profile(None))
    None
    """
    if offsets is None:
        return None
    if offsets.models[0].kind == "none":
        return {}
    model_rows = offsets.frame[offsets.frame["layer"] == "all"]
    return {
        position_name(offsets.token, int(n)): round(float(s), 6)
        for n, s in zip(model_rows["offset"], model_rows["share"], strict=True)
    }
