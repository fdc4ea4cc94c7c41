"""The one call: matched features of two models, each patched by itself on the same prompts, and how far their effects agree."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from ...errors import CircuitryError, expected, no_effect, whole
from ...executing.open import DEFAULT, ExecutorLike
from ...features.activations.corpus import Corpus
from ...features.matching.matches import HIGH, Matches
from ...models.attached import Attachable
from ...models.model import Model
from ...patching.measured import MetricLike, is_several
from ...patching.provenance import versions
from ...planning.interventions import Intervention
from ...planning.interventions import intervention as intervention_of
from ...progress import together
from ...prompting.task import Task
from ...suites.folder import RunFolder, plain
from ..experiment.result import ARCHITECTURE
from .compared import Compared
from .inputs import OnTask, OnText
from .measure import Measured, Part
from .pairs import chosen, matched, random_pairs
from .result import RANDOM, Causal
from .sides import Side, Skyline, check_tokenizers

TOP, PROMPTS = 40, 64
"""By default, pairs of each bin of MPPC that are compared, and prompts of each feature on text."""


@together()
def causal(
    model_a: Model,
    model_b: Model,
    matches: Matches,
    task: Task | Corpus,
    *,
    saes_a: Attachable | None = None,
    saes_b: Attachable | None = None,
    skylines: Mapping[str, Skyline] | None = None,
    intervention: Intervention | str | None = None,
    at: str | None = None,
    metric: MetricLike | None = None,
    prompts: int | None = None,
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
        task: both models get its prompts, at least two. Or text, as a ``Corpus``: each pair is ablated on ``prompts`` that end at
            tokens where its first feature fires, and an effect is the increase of the loss at the next token, in nats.
        saes_a, saes_b: the autoencoders whose features were matched, in the order of the matches' layers if they do not name their
            nodes; None for those that are attached to the model.
        skylines: by name ("model seed", "SAE seed") another model, its autoencoders, and the matches of A's features in it.
        intervention: "resample" (the default) patches a feature's value on the corrupted prompt, "zero" (the default on text) ablates it.
        at: a position, such as "B+1"; None patches a feature at every position.
        metric: as for ``ct.patch``, one of them.
        prompts: of each feature on text, 64 by default; pairs whose first feature fires on fewer tokens are left out.
        top: how many pairs of each bin of MPPC are compared: those whose feature of A can write most on these prompts; on text, random
            ones.
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
    whole("top", top, 1)
    whole("seed", seed)
    inputs = _inputs(task, intervention, metric, at, prompts, seed, executor)
    given: dict[str, Skyline | tuple[Model, Attachable | None, Matches]] = {
        ARCHITECTURE: (model_b, saes_b, matches),
        **(skylines or {}),
    }
    a = {name: Side.of(model_a, saes_a, found, "a") for name, (_, _, found) in given.items()}
    b = {name: Side.of(model, saes, found, "b") for name, (model, saes, found) in given.items()}
    run = _Run(a, b, {name: found for name, (_, _, found) in given.items()}, inputs, top, alike, seed, say)
    return run.go() if out is None else run.resumed(Path(out), fresh)


def _inputs(
    task: Task | Corpus,
    intervention: Intervention | str | None,
    metric: MetricLike | None,
    at: str | None,
    prompts: int | None,
    seed: int,
    executor: ExecutorLike,
) -> OnTask | OnText:
    """A task or text with what is asked of it. Raises CircuitryError for what has no effect or makes no sense there."""
    if isinstance(task, Task):
        if is_several(metric):
            raise CircuitryError(expected("one metric", metric, "compare effects by one of them at a time"))
        if prompts is not None:
            raise no_effect("prompts", prompts, "a task has its own number of examples", "use task.but(examples=...)")
        return OnTask(task, intervention_of(intervention or "resample"), metric, at, executor)
    for name, value in (("metric", metric), ("at", at)):
        if value is not None:
            why = "on text, features are ablated where they fire, and the effect is that on the next token's log probability"
            raise no_effect(name, ..., why, f"give a task, or leave {name} out")
    how = intervention_of(intervention or "zero")
    if how.from_source:
        raise CircuitryError(f"{how} needs a corrupted prompt, which text does not have; use 'zero', or give a task")
    return OnText(task, how, whole("prompts", PROMPTS if prompts is None else prompts, 2), seed, executor)


@dataclass
class _Run:
    """One call of ``causal``: sides and matches by comparison."""

    a: dict[str, Side]
    b: dict[str, Side]
    matches: dict[str, Matches]
    inputs: OnTask | OnText
    top: int
    alike: float
    seed: int
    say: Callable[[str], None]

    def resumed(self, out: Path, fresh: bool) -> Causal:
        """The result of a run in a folder of its own, which an earlier call may have begun or finished."""
        names = plain(self.a[ARCHITECTURE].model.name), plain(self.b[ARCHITECTURE].model.name)
        record = self.record()
        identity = record | self.identity()
        folder = RunFolder.open(out, f"causal-{names[0]}-{names[1]}", record | {"identity": identity}, fresh=fresh)
        if folder.complete:
            self.say(f"{folder.path} is complete; fresh=True would run it again in a new folder")
            return Causal.load(folder.path)
        with folder.held():
            result = self.go(folder.part)
            result.record["folder"] = str(folder.path)
            if folder.writes:
                result.save(folder.path)
            folder.finish()
        return result

    def record(self) -> dict[str, Any]:
        """What was asked, and of what."""
        models = [self.a[ARCHITECTURE].model.name, *(side.model.name for side in self.b.values())]
        asked = {"top": self.top, "alike": self.alike, "seed": self.seed, "versions": versions()}
        return {"models": models, **self.inputs.record, **asked}

    def identity(self) -> dict[str, Any]:
        """All other things that the numbers depend on."""
        sides = {name: [self.a[name].identity, self.b[name].identity, _digest(self.matches[name])] for name in self.b}
        return {"sides": sides}

    def go(self, part: Part = lambda _, measure: measure()) -> Causal:
        """Choose pairs, measure, and compare."""
        check_tokenizers([self.a[ARCHITECTURE], *self.b.values()])
        pairs, a = self.pairs(), self.a[ARCHITECTURE]
        first = self.measured("features", a, "a", list(pairs.values()), part)
        others = {name: self.measured(name, side, "b", self._of(name, pairs), part) for name, side in self.b.items()}
        others[RANDOM] = others[ARCHITECTURE]
        models = {name: self.b[name if name != RANDOM else ARCHITECTURE].model.name for name in pairs}
        compared = {
            name: Compared(a.model.name, models[name], table, first.of(table), others[name].of(table))
            for name, table in pairs.items()
        }
        return Causal(compared, self.record() | {"prompts": len(first.whole)})

    def pairs(self) -> dict[str, pd.DataFrame]:
        """The pairs of every comparison; all have the same features of A, apart from those without a match."""
        a, b, reverse = self.a[ARCHITECTURE], self.b[ARCHITECTURE], self.matches[ARCHITECTURE].reverse
        tables = {name: matched(found.forward, (self.a[name], self.b[name])) for name, found in self.matches.items()}
        main = chosen(tables[ARCHITECTURE], self.inputs.sizes([a, *self.b.values()]), self.top)
        random = random_pairs(main, reverse, b, self.inputs.able(b, reverse), self.seed)
        keys = main[["node_a", "feature_a"]]
        rest = {name: keys.merge(table, on=list(keys), how="inner") for name, table in tables.items() if name != ARCHITECTURE}
        return {name: table for name, table in {ARCHITECTURE: main, RANDOM: random, **rest}.items() if len(table)}

    def _of(self, name: str, pairs: Mapping[str, pd.DataFrame]) -> list[pd.DataFrame]:
        """The tables of pairs whose second features are those of one side; a side may have none."""
        return [pairs[key] for key in ((name, RANDOM) if name == ARCHITECTURE else (name,)) if key in pairs]

    def measured(self, name: str, side: Side, letter: str, tables: list[pd.DataFrame], part: Part) -> Measured:
        """The effects of one side of these tables."""
        self.say(f"{name} of {side.model.name}, {sum(map(len, tables))} pairs")
        return self.inputs.measured(side, letter, tables, part) if tables else Measured(())


def _digest(matches: Matches) -> str:
    hasher = hashlib.blake2b(digest_size=8)
    for frame in (matches.forward, matches.reverse):
        hasher.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return hasher.hexdigest()
