"""What a suite works with: one model, one task, its settings; patching by text, kept tables, and the thresholds of a finding."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..errors import CircuitryError, PathError
from ..evidence.offsets import off_by_one
from ..evidence.offsets_result import Offsets
from ..evidence.write_profile import position_name
from ..executing.distributed import current
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
from ..thresholds import KEY_EFFECT, MOST_KEYS, SIGNIFICANT
from .folder import RunFolder
from .result import Component, Summary


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
        path: Paths,
        *,
        task: Mapping[str, Any] | None = None,
        metric: Any = None,
        **axes: Any,
    ) -> PatchingTable:
        """One table. ``task``: options of the task for this table only; ``axes``: values of open axes.

        Of positions that turn out to be one token in every prompt, all but one are left out (``table.provenance["skipped"]``).
        """
        self.say(f"{title}: {_first(path)}")
        asked = self.task.but(**(task or {}))
        options = {"lint": "prompts", **self.options} | ({"metric": metric} if metric is not None else {})
        if metric is None and not self._has_metric(path):
            options.pop("metric", None)  # the suite's metric is of its tables that end at the logits

        swept: dict[str, Any] = {
            name: values if isinstance(values, str | int) else Sweep(values) for name, values in axes.items()
        }

        def make() -> PatchingTable:
            return patch(self.model, asked, path, axes=swept, **options)

        numbers = {**options, "executor": str(choice(options.get("executor", DEFAULT)))}
        made = self.folder.part((path, asked, axes, numbers), make) if self.folder else make()
        return made.titled(title)

    def normalized_effect(self, title: str, path: str, **task: Any) -> float:
        """The normalized effect that one path has; ``task`` as for ``patch``.

        A number that no table is kept of is not compared with random nodes, which would cost more than itself.
        """
        return self.normalized_effects({title: path}, **task)[title]

    def normalized_effects(self, paths: Mapping[str, str], **task: Any) -> dict[str, float]:
        """The same of several paths, by what they are called: their runs on the unpatched prompts are made once.

        >>> import circuitry as ct
        >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
        >>> list(study.normalized_effects({"head 0": "head[1,0] @ END -> logits", "head 1": "head[1,1] @ END -> logits"}))
        ['head 0', 'head 1']
        """
        alone = replace(self, options={**self.options, "baseline": 0})
        found = alone.patch(", ".join(paths), labelled("which", paths), task=task).normalized()
        return {title: float(found[title]) for title in paths}

    def _has_metric(self, path: Paths) -> bool:
        first = _first(path)
        return reads_logits(parse(first) if isinstance(first, str) else first, self.model.graph)

    def possible(self, path: str, **task: Any) -> bool:
        """Whether a path can have an effect, by the graph and by where the prompts differ; ``task`` as for ``patch``."""
        try:
            compile_path(self.model, self.task.but(**task), path)
        except PathError:
            return False
        return True

    def over(self, option: str, values: Sequence[Any], title: str, path: Paths, **how: Any) -> PatchingTable:
        """The same table for several values of a task option, which becomes its first axis."""
        if twice := [value for value in values if list(values).count(value) > 1]:
            raise CircuitryError(
                f"{option} has {twice[0]!r} twice; name each value once, since a cell that comes twice counts its examples twice"
            )
        given = how.pop("task", None) or {}
        made = {v: self.patch(f"{title}, {option} {v}", path, task={**given, option: v}, **how) for v in values}
        return PatchingTable.stack(made, option, title)

    def keep(self, name: str, table: PatchingTable, note: str = "") -> PatchingTable:
        """Make a table part of the result; ``note`` says how to read it."""
        if note:
            table.provenance["note"] = note
        self.tables[name] = table
        if self.folder:
            self.folder.keep(self.prefix + name, table)
        return table

    def component(self, node: str, role: str, table: str, cell: Any, at: str = "") -> Component:
        """A node of the circuit, with its normalized effect in a cell of a kept table."""
        whole = cell if isinstance(cell, tuple) else (cell,)
        return Component(node, role, float(self.tables[table].normalized()[cell]), at, table, whole)

    @property
    def plain_options(self) -> dict[str, Any]:
        """The options of ``patch`` without random nodes and verification, for what draws or checks by itself."""
        options = {k: v for k, v in self.options.items() if k != "baseline"}
        return options | ({"executor": choice(options["executor"]).unverified()} if "executor" in options else {})

    def offsets(self, token: str, reach: int = 4, **task: Any) -> Offsets | None:
        """Where the model writes a token (``ct.off_by_one``); None where there are too few examples or tokens to say."""
        self.say(f"Where {token} is written")
        try:
            return off_by_one(self.model, self.task.but(**task), token, reach=reach, **self.plain_options)
        except CircuitryError as error:
            self.say(f"not measured: {error}")
            return None

    def rule(self) -> str:
        """The threshold of a finding in words, and the tables in which there were too few examples for the whole of it."""
        mute = {name: bool(table.signed().any()) for name, table in self.tables.items() if not table.can_show(SIGNIFICANT)}
        few, untested = ([name for name, signed in mute.items() if signed == kind] for kind in (True, False))
        small = [name for name, table in self.tables.items() if name not in mute and not table.outliers.enough]
        said = f"at least {KEY_EFFECT:.0%} of the whole effect and q < {SIGNIFICANT:g} (of each table the {MOST_KEYS} strongest)"
        if few:
            said += f"; by effect size only in {', '.join(few)}: {self.task.examples} examples are too few for significance"
        if untested:
            said += f"; by effect size only in {', '.join(untested)}: effects that are never negative are not tested"
        if small:
            said += f"; by p < {SIGNIFICANT:g} in {', '.join(small)}, whose effects are too few to tell how skewed they are"
        return said

    def caveats(self, table: PatchingTable) -> list[str]:
        """What a reader must know first: that there may be nothing to explain, by the prompts of the suite's main table."""
        if not table.signed().all():
            return []
        sign = -1 if table.provenance.get("base") == "corrupted" else 1
        gap = sign * (table.values("base")[0] - table.values("source")[0])
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
    ) -> Summary:
        """The end of a suite: what it found, with the model, where a token is written (``taken``), and by default the baseline."""
        known = self.baseline() if baseline is None else baseline
        name, family = self.model.name, self.model.graph.name
        return Summary(name, family, components, explained, profile(taken), known, notes, verdict, together)

    @torch.no_grad()
    def baseline(self, gap: float | None = None, **task: Any) -> dict[str, float]:
        """On clean prompts accuracy and logit difference, and what corruption costs the answer's logit: the ``gap``, where it is known.

        Accuracy is how often the answer is on top, or above the foil where the answer is one of several right ones and not copied.
        """
        prompts = self.task.but(**task).prompts(self.model.vocabulary)
        clean = self._ends(prompts.clean, prompts.where["END"])
        rows, answer, foil = range(len(prompts)), prompts.answer, prompts.foil
        difference = clean[rows, answer] - clean[rows, foil]
        if gap is None:
            gap = (clean - self._ends(prompts.corrupted, prompts.where["END"]))[rows, answer].mean().item()
        on_top, above = float((clean.argmax(-1).numpy() == answer).mean()), (difference > 0).double().mean().item()
        return {
            **({"top-1 accuracy": on_top} if self.task.definition.copied else {"answer above foil": above}),
            "logit difference (answer - foil)": difference.mean().item(),
            "answer's logit (clean - corrupted)": gap,
        }

    def _ends(self, ids: Any, ends: Any) -> torch.Tensor:
        """Logits at END, [example, vocab]; one prompt at a time, so that memory does not grow. Several processes take turns."""
        every = current()
        mine = [self._end(ids[number, : end + 1]) for number, end in enumerate(ends) if every.mine(number)]
        found = every.gathered(mine)
        return torch.stack([found[number % every.world_size][number // every.world_size] for number in range(len(ends))])

    def _end(self, ids: Any) -> torch.Tensor:
        given = torch.from_numpy(ids)[None].to(self.model.device)
        logits: torch.Tensor = self.model.hf(given, use_cache=False, logits_to_keep=1).logits
        return logits[0, -1].cpu()


def _first(path: Paths) -> Path | str:
    """The path, or the first of several; with none at all ``patch`` says what is missing."""
    several = path.paths if isinstance(path, Labelled) else path
    return next(iter(several.values()), "embed -> logits") if isinstance(several, Mapping) else several


def profile(offsets: Offsets | None) -> dict[str, float] | None:
    """The model's profile of where a token is written, by position: empty where nothing was found, None where it was not measured.

    >>> print(profile(None))
    None
    """
    if offsets is None:
        return None
    if offsets.models[0].kind == "none":
        return {}
    whole = offsets.frame[offsets.frame["layer"] == "all"]
    return {
        position_name(offsets.token, int(n)): round(float(s), 6) for n, s in zip(whole["offset"], whole["share"], strict=True)
    }
