"""The call that most users need: from a model and a task to its circuit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import CircuitryError, ModelError, expected, no_effect, whole
from ..executing.answers import top_1
from ..executing.inputs import check_prompts
from ..executing.open import DEFAULT as EXECUTOR
from ..executing.open import ExecutorLike, choice
from ..models.model import Model
from ..models.spread import is_spread
from ..patching.code import call, changed
from ..patching.experiment import patch
from ..patching.measured import MetricLike, metric_of
from ..patching.options import check_given
from ..patching.provenance import autoencoders, commit, versions
from ..progress import together
from ..prompting.task import Task
from .latents import MOST, about_latents, check_attached
from .methods import default
from .methods import method as named
from .methods.method import Method
from .positions import labels
from .question import Level, Question, Scores
from .result import Discovery
from .steps import Arrays, Steps
from .verify import patched
from .wiring import Wiring

PROMPTS, CELLS = 16, 10
"""How many prompts are scored, and how many cells verified, in one step."""
EDGES = 40
"""How many edges the circuit of a run folder is made of, if nobody says."""


def asked(
    model: Model,
    task: Task,
    *,
    level: Level = "edge",
    positions: bool = True,
    metric: MetricLike = "logit_difference",
    direction: Literal["noising", "denoising"] = "noising",
    executor: ExecutorLike = EXECUTOR,
    seed: int = 0,
    progress: bool | None = None,
    lint: bool = True,
) -> Question:
    """The question that ``discover`` puts to a method, with everything checked.

    >>> import circuitry as ct
    >>> question = asked(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2))
    >>> len(question.items), question.labels.names[:3]
    (77, ('B', 'B+1', 'B+2'))
    """
    check_given(model, task)
    if is_spread(model.hf):
        raise ModelError(f"{model.name} is spread by device_map, and its gradients cannot be; load it on one device")
    if level not in ("edge", "node", "latent"):
        raise CircuitryError(expected("level 'edge' or 'node'", level, "features=True ranks latents"))
    if direction not in ("noising", "denoising"):
        raise CircuitryError(expected("direction 'noising' or 'denoising'", direction))
    prompts = task.prompts(model.vocabulary, lint=lint)
    check_prompts(model, prompts)
    used = prompts.trimmed()
    if direction == "denoising":
        used = replace(used, clean=used.corrupted, corrupted=used.clean)
    chosen = choice(executor)
    if progress is not None:
        chosen = replace(chosen, progress=progress)
    model = model.widened()  # gradients in half precision lose small edges
    wiring = Wiring(model.graph)
    if level == "latent":
        check_attached(model.saes, wiring)
    return Question(
        model, task, used, wiring, metric_of(metric, task, model), level, labels(used, apart=positions), direction,
        chosen, memory=chosen.memory, seed=seed, progress=progress,
    )  # fmt: skip


@together()
def discover(
    model: Model,
    task: Task,
    *,
    method: str | Method | None = None,
    level: Level = "edge",
    features: bool = False,
    latents: int | None = None,
    positions: bool = True,
    metric: MetricLike = "logit_difference",
    direction: Literal["noising", "denoising"] = "noising",
    verify: int = 50,
    confirm: bool = True,
    executor: ExecutorLike = EXECUTOR,
    seed: int = 0,
    progress: bool | None = None,
    out: str | PathLike[str] | None = None,
    edges: int | None = None,
    lint: bool = True,
    command: str = "",
) -> Discovery:
    """Rank every edge (or node, or latent) at every position by how much it carries of a task, and verify the best exactly.

    Args:
        model, task: as for ``circuitry.patch``.
        method: how effects are estimated: "block-ig", "ig-activations", "eap", "atp-star", "relp", "eap-ig-inputs",
            "eap-ig-activations", "exact", "random", or a value with ``name``, ``scores`` and ``passes``. By default "block-ig", for the
            nodes of a small model "ig-activations" (``methods.default``).
        level: "edge" (from each node that writes to the stream to each that reads it, and inside blocks) or "node".
        features: rank the latents and errors of all nodes that have an autoencoder (``model.attach``) instead of edges.
        latents: how many latents of each node are ranked at most, those that change most between the prompts; 1,000 by default.
        positions: keep tokens apart, by the names of the task's positions; or add them up.
        metric, direction, executor: as for ``circuitry.patch``. The executor's memory bounds the batches of gradients too.
        verify: how many of the best are patched exactly.
        confirm: rank on every second prompt and verify, score and test on the others. Otherwise all prompts are used
            for both, and no q is to be trusted, since what was chosen for a large effect is tested on the same prompts.
        seed: draws what is random: random circuits of a curve, the method "random".
        progress: show bars; by default where stderr is a terminal.
        out: a folder for tables, curve, figures, the circuit with its scores, and a page, ``report.html``. The same call resumes a
            run that was killed.
        edges: how many edges the folder's circuit is made of; 40 by default.
        lint: refuse prompts that would make the experiment meaningless, and warn if the model does not do the task.
        command: recorded in the folder.

    A model in half precision is copied to float32 first. Raises CircuitryError for options that do not fit and for a folder that
    holds another run, ModelError for a model that is spread over devices, TaskError for a task whose prompts do not fit the model.

    >>> import circuitry as ct
    >>> found = discover(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=8), verify=4)
    >>> found.ranking["edge"][0], found.ranking["position"][0]
    ('ssm_in[0].skip -> ssm_out[0]', 'B')
    """
    code = call("discover", model, task, changed(discover, locals(), ("model", "task", "command", "progress")))
    level, most = _level(level, features, latents)
    if level == "latent" and edges is not None:
        raise no_effect("edges", edges, "a discovery of latents draws no circuit of edges", "leave edges out")
    if out is None and edges is not None:
        raise no_effect("edges", edges, "without out= no circuit is drawn", "give out=, or use found.circuit(edges=...)")
    question = asked(
        model, task, level=level, positions=positions, metric=metric, direction=direction, executor=executor, seed=seed,
        progress=progress, lint=lint,
    )  # fmt: skip
    chosen, count = default(question) if method is None else named(method), whole("verify", verify)
    halves = _halves(question) if confirm else (question, question)
    options = {"verify": count, "confirm": confirm, **({"latents": most} if features else {}), **_narrow(model, question)}
    if out is None:
        return _found(question, *halves, chosen, Steps(), options, lint)
    from .folder import DiscoveryFolder

    size = whole("edges", EDGES if edges is None else edges, 1)
    folder = DiscoveryFolder.open(Path(out), question, chosen, options, {"command": command} if command else {"python": code})
    with folder.held():
        found = _found(question, *halves, chosen, folder.steps, options, lint)
        folder.finish(found, size)
    return found


def _level(level: Level, features: bool, latents: int | None) -> tuple[Level, int]:
    """The level that is meant, and how many latents of each node are ranked at most."""
    if not features:
        if latents is not None:
            raise no_effect("latents", latents, "no latents are ranked", "give features=True too")
        if level == "latent":
            raise CircuitryError(expected("level 'edge' or 'node'", level, "features=True ranks latents"))
        return level, 0
    if level == "node":
        raise no_effect("level", level, "features=True ranks latents and errors", "leave level out")
    return "latent", whole("latents", MOST if latents is None else latents, 1)


def _halves(question: Question) -> tuple[Question, Question]:
    """The prompts to rank on and those to verify on."""
    examples = np.arange(len(question.prompts))
    if len(examples) < 4:
        raise CircuitryError(f"{len(examples)} prompts cannot be halved; use at least 4 examples, or confirm=False")
    return question.part(examples[::2]), question.part(examples[1::2])


def _narrow(model: Model, question: Question) -> dict[str, str]:
    """What a reader should know if the numbers are not those of the model's own dtype."""
    if question.model is model:
        return {}
    return {"dtype": f"computed in float32; the model is in {str(model.dtype).removeprefix('torch.')}"}


def _found(
    question: Question, ranked: Question, confirming: Question, chosen: Method, steps: Steps, options: dict[str, Any], lint: bool
) -> Discovery:
    if question.level == "latent":
        ranked, confirming = about_latents(ranked, confirming, options["latents"], steps)
    scores = _scored(ranked, chosen, steps)
    ends = steps.arrays("ends", lambda: _ends(question, lint))
    found = Discovery(ranked, confirming, chosen.name, scores, {}, (ends["base"], ends["source"]))
    exact = _verified(confirming, found.cells(options["verify"]), steps)
    return replace(found, exact=exact, provenance=_provenance(found, **options))


def _scored(question: Question, chosen: Method, steps: Steps) -> Scores:
    """The attributions, some prompts at a time."""
    scores = question.empty()
    with question.bar(total=len(scores), desc=chosen.name, unit="prompt") as bar:
        for start in range(0, len(scores), PROMPTS):
            examples = np.arange(start, min(start + PROMPTS, len(scores)))
            part = question.quiet().part(examples)
            scores[examples] = steps.arrays(f"scores-{start}", lambda: {"scores": chosen.scores(part)})["scores"]  # noqa: B023
            bar.update(len(examples))
    return scores


def _ends(question: Question, lint: bool) -> Arrays:
    """The metric of the base and the source prompts [example]."""
    table = patch(
        question.model, question.task, "embed -> logits", metric=question.metric, direction=question.direction, baseline=0,
        executor=question.quiet().executor, lint=lint,
    )  # fmt: skip
    return {end: table.values(end)[0] for end in ("base", "source")}


def _verified(question: Question, cells: Sequence[tuple[int, int]], steps: Steps) -> dict[tuple[int, int], Any]:
    """The exact effects [example] of cells, some at a time."""
    exact: dict[tuple[int, int], Any] = {}
    with question.bar(total=len(cells), desc="verifying", unit="path") as bar:
        for start in range(0, len(cells), CELLS):
            some = cells[start : start + CELLS]
            effects = steps.arrays(f"exact-{start}", lambda: _named(patched(question.quiet(), some)))  # noqa: B023
            exact |= {
                (int(item), int(label)): values for (item, label), values in ((k.split(","), v) for k, v in effects.items())
            }
            bar.update(len(some))
    return exact


def _named(effects: Any) -> Arrays:
    return {f"{item},{label}": values for (item, label), values in effects.items()}


def _provenance(found: Discovery, **options: Any) -> dict[str, Any]:
    question = found.question
    return {
        "path": f"{question.level}s by {found.method}",
        "title": f"Discovered {question.level}s, {question.task.name} in {question.model.name}",
        "model": question.model.name,
        **commit(question.model),
        "task": question.task.record,
        "method": found.method,
        "metric": question.metric.name,
        "direction": question.direction,
        "unit": question.metric.unit,
        "never_negative": [] if question.metric.signed else [question.metric.unit],
        "ranked_on": len(question.prompts),
        "confirmed_on": len(found.confirming.prompts),
        **_accuracy(question),
        "versions": versions(),
        **_labels(question),
        **autoencoders(question.model),
        **options,
    }


def _accuracy(question: Question) -> dict[str, float]:
    """How often the answer is on top, which says whether the model does the task."""
    if not question.task.definition.copied:
        return {}
    return {"top_1": round(top_1(question.model, question.task.prompts(question.model.vocabulary, lint=False)), 6)}


def _labels(question: Question) -> dict[str, dict[str, str]]:
    """The labels of latents, if any has one."""
    hosts = question.model.saes.items() if question.level == "latent" else ()
    labels = {str(host.latent[number]): text for host, sae in hosts for number, text in sae.labels.items()}
    return {"labels": labels} if labels else {}
