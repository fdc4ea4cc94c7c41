"""The one call: matched features of two models, each patched by itself on the same prompts, and how far their effects agree."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from ...errors import CircuitryError, expected, whole
from ...executing.open import DEFAULT, ExecutorLike
from ...features.matching.matches import HIGH, Matches
from ...models.attached import Attachable
from ...models.model import Model
from ...patching.measured import MetricLike, is_several
from ...patching.provenance import versions
from ...planning.interventions import Intervention
from ...planning.interventions import intervention as intervention_of
from ...prompting.task import Task
from ...suites.folder import RunFolder, plain
from ..experiment.result import ARCHITECTURE
from .compared import Compared
from .measure import Measured, Part
from .pairs import activity, chosen, matched, random_pairs
from .result import RANDOM, Causal
from .sides import Side, Skyline, shared_prompts

TOP = 40
"""Pairs of each bin of MPPC that are compared by default."""


def causal(
    model_a: Model,
    model_b: Model,
    matches: Matches,
    task: Task,
    *,
    saes_a: Attachable | None = None,
    saes_b: Attachable | None = None,
    skylines: Mapping[str, Skyline] | None = None,
    intervention: Intervention | str = "resample",
    at: str | None = None,
    metric: MetricLike | None = None,
    top: int = TOP,
    alike: float = HIGH,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    fresh: bool = False,
    executor: ExecutorLike = DEFAULT,
    say: Callable[[str], None] = lambda _: None,
) -> Causal:
    """Whether matched features do the same: patch each feature of A, and its match in B, and compare their normalized effects.

    Args:
        model_a, model_b: models with one tokenizer.
        matches: of features of A with those of B, from ``mppc``.
        task: both models get its prompts, at least two.
        saes_a, saes_b: the autoencoders whose features were matched, in the order of the matches' layers if they do not name their
            nodes; None for those that are attached to the model.
        skylines: by name ("model seed", "SAE seed") another model, its autoencoders, and the matches of A's features in it.
        intervention: "resample" patches a feature's value on the corrupted prompt, "zero" ablates it, as for ``ct.patch``.
        at: a position, such as "B+1"; None patches a feature at every position.
        metric: as for ``ct.patch``, one of them.
        top: how many pairs of each bin of MPPC are compared: those whose feature of A can write most on these prompts.
        alike: pairs with a larger MPPC fire alike; of these, those that act differently are listed.
        seed: of the random pairs, in which a feature of A stands beside one of B that fires about as often.
        out: a folder in which the run gets its own folder, from which the same call resumes; ``fresh``: in a new folder.

    A normalized effect is the mean effect divided by that of exchanging the whole prompt in the same model, as in ``ct.patch``.

    Raises CircuitryError for models with different tokenizers, autoencoders that were not matched, no pairs, and fewer than two prompts.

    >>> import circuitry as ct
    >>> import numpy as np
    >>> from circuitry.autoencoders import SAE, SAEConfig
    >>> from circuitry.features.matching import mppc
    >>> model = ct.load("bundled:mamba")
    >>> acts = np.maximum(np.random.default_rng(0).normal(size=(200, 64)), 0)
    >>> matches, saes = mppc(acts, acts, progress=False), {"resid[2]": SAE(SAEConfig(128, 64))}
    >>> found = causal(model, model, matches, ct.task("induction", distance=8, examples=4), saes_a=saes, saes_b=saes, top=3)
    >>> found.agreement.query("comparison == 'architecture' and bin == 'all'")["value"].round(3).tolist()
    [1.0, 1.0, 1.0]
    """
    if is_several(metric):
        raise CircuitryError(expected("one metric", metric, "compare effects by one of them at a time"))
    whole("top", top, 1)
    whole("seed", seed)
    given: dict[str, Skyline | tuple[Model, Attachable | None, Matches]] = {
        ARCHITECTURE: (model_b, saes_b, matches),
        **(skylines or {}),
    }
    a = {name: Side.of(model_a, saes_a, found, "a") for name, (_, _, found) in given.items()}
    b = {name: Side.of(model, saes, found, "b") for name, (model, saes, found) in given.items()}
    asked = {"intervention": intervention, "metric": metric, "executor": executor}
    run = _Run(a, b, {name: found for name, (_, _, found) in given.items()}, task, asked, at, top, alike, seed, say)
    return run.go() if out is None else run.resumed(Path(out), fresh)


@dataclass
class _Run:
    """One call of ``causal``: sides and matches by comparison."""

    a: dict[str, Side]
    b: dict[str, Side]
    matches: dict[str, Matches]
    task: Task
    asked: dict[str, Any]
    at: str | None
    top: int
    alike: float
    seed: int
    say: Callable[[str], None]

    def resumed(self, out: Path, fresh: bool) -> Causal:
        """The result of a run in a folder of its own, which an earlier call may have begun or finished."""
        names = plain(self.a[ARCHITECTURE].model.name), plain(self.b[ARCHITECTURE].model.name)
        record = self.record()
        folder = RunFolder.open(
            out, f"causal-{names[0]}-{names[1]}", record | {"identity": record | self.identity()}, fresh=fresh
        )
        if folder.complete:
            self.say(f"{folder.path} is complete; fresh=True would run it again in a new folder")
            return Causal.load(folder.path)
        with folder.held():
            result = self.go(folder.part)
            result.record["folder"] = str(folder.path)
            result.save(folder.path)
            folder.finish()
        return result

    def record(self) -> dict[str, Any]:
        """What was asked, and of what."""
        return {
            "models": [self.a[ARCHITECTURE].model.name, *(side.model.name for side in self.b.values())],
            "task": self.task.record,
            "intervention": str(self.asked["intervention"]),
            "metric": _name(self.asked["metric"]),
            "position": self.at or "every position",
            "top": self.top,
            "alike": self.alike,
            "seed": self.seed,
            "prompts": self.task.examples,
            "versions": versions(),
        }

    def identity(self) -> dict[str, Any]:
        """All other things that the numbers depend on."""
        sides = {name: [self.a[name].identity, self.b[name].identity, _digest(self.matches[name])] for name in self.b}
        return {"sides": sides}

    def go(self, part: Part = lambda _, measure: measure()) -> Causal:
        """Choose pairs, measure, and compare."""
        pairs = self.pairs()
        a, models = self.a[ARCHITECTURE], {name: self.b[name].model.name for name in self.b}
        first = self.measured("", a, [pairs[ARCHITECTURE]], "a", part)
        others = {name: self.measured(name, side, self._of(name, pairs), "b", part) for name, side in self.b.items()}
        compared = {}
        for name, table in pairs.items():
            other = ARCHITECTURE if name == RANDOM else name
            effects = (first.of(table["node_a"], table["feature_a"]), others[other].of(table["node_b"], table["feature_b"]))
            compared[name] = Compared(a.model.name, models[other], table, *effects)
        return Causal(compared, self.record() | {"prompts": len(first.whole)})

    def pairs(self) -> dict[str, pd.DataFrame]:
        """The pairs of every comparison; all have the same features of A, apart from those without a match."""
        prompts, how = (
            shared_prompts({"": self.a[ARCHITECTURE], **self.b}, self.task),
            intervention_of(self.asked["intervention"]),
        )
        a, b = self.a[ARCHITECTURE], self.b[ARCHITECTURE]
        size = activity(a, prompts, how, self.at)
        sizes = {(str(node), k): float(value) for node, row in zip(a.nodes, size, strict=True) for k, value in enumerate(row)}
        tables = {name: matched(found.forward, (self.a[name], self.b[name])) for name, found in self.matches.items()}
        main = chosen(tables[ARCHITECTURE], sizes, self.top)
        random = random_pairs(main, self.matches[ARCHITECTURE].reverse, b, activity(b, prompts, how, self.at), self.seed)
        keys = main[["node_a", "feature_a"]]
        rest = {name: keys.merge(table, on=list(keys), how="inner") for name, table in tables.items() if name != ARCHITECTURE}
        return {name: table for name, table in {ARCHITECTURE: main, RANDOM: random, **rest}.items() if len(table)}

    def _of(self, name: str, pairs: Mapping[str, pd.DataFrame]) -> list[pd.DataFrame]:
        """The tables of pairs whose second features are those of one side."""
        return [pairs[key] for key in ((name, RANDOM) if name == ARCHITECTURE else (name,)) if key in pairs]

    def measured(self, name: str, side: Side, tables: list[pd.DataFrame], letter: str, part: Part) -> Measured:
        """The effects of all features of one side that are in these tables."""
        columns = [f"node_{letter}", f"feature_{letter}"]
        features = {(str(node), int(k)) for table in tables for node, k in table[columns].itertuples(index=False)}
        self.say(f"{name or 'features'}: {len(features)} features of {side.model.name}")
        return Measured(side, sorted(features), self.task, self.asked, self.at, part)


def _name(metric: MetricLike | None) -> str:
    """The name of a metric; that of a function does not say where in memory it is."""
    return str(getattr(metric, "name", getattr(metric, "__name__", metric)) or "logit")


def _digest(matches: Matches) -> str:
    hasher = hashlib.blake2b(digest_size=8)
    for frame in (matches.forward, matches.reverse):
        hasher.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return hasher.hexdigest()
