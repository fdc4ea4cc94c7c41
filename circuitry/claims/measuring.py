"""What claims need is measured: once for all that share a model, a task and a sweep, and not again if the cache has it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from .. import content
from ..errors import CircuitryError
from ..executing.open import executor
from ..models.loading import load
from ..patching.experiment import patch
from ..patching.provenance import inputs, versions
from ..paths.labelled import labelled
from ..paths.parse import parse
from ..prompting.task import Task
from ..prompting.task import task as make_task
from ..results.table import PatchingTable
from .cache import Cache, digest, engine
from .kinds import KINDS
from .values import ModelName, Quantity, TaskName

if TYPE_CHECKING:
    from ..models.model import Model

Outcome: TypeAlias = PatchingTable | str
"""A measurement, or why there is none."""
_TOGETHER = 64
"""The most paths that are patched in one run, so that the bar moves and an interrupted check has kept something."""


@dataclass
class Measured:
    """Outcomes by quantity, and the digest of the weights of every model that was loaded, by name."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)

    def of(self, quantity: Quantity) -> Outcome:
        """The outcome for a quantity.

        >>> one = Quantity("accuracy", "top-1", ModelName("m"), TaskName("t"))
        >>> Measured({key(one): "no model m"}).of(one)
        'no model m'
        """
        return self.outcomes[key(quantity)]


def key(quantity: Quantity) -> str:
    """A text that is the same for quantities that one measurement gives: cells of one sweep, its means and normalized effects.

    >>> one = Quantity("effect", "h[{layer}] @ B -> logits", ModelName("m"), TaskName("t"), {"layer": (3,)})
    >>> key(one) == key(replace(one, cell={})), key(one) == key(one.with_seed(1))
    (True, False)
    """
    return json.dumps({**asdict(quantity), "kind": KINDS[quantity.kind].table, "cell": {}}, sort_keys=True, default=str)


def measure(
    quantities: Iterable[Quantity],
    cache: Cache | None = None,
    *,
    models: Mapping[str, Model] | None = None,
    device: str | None = None,
    done: Callable[[int, str], None] = lambda count, what: None,
) -> Measured:
    """Measure quantities, each once. Each model is loaded once, and let go before the next one.

    ``models`` are loaded models by the name that claims give them; ``done`` is called with how many are measured, and which. What
    cannot be measured has the reason as its outcome.

    >>> one = Quantity("accuracy", "top-1", ModelName("bundled:mamba"), TaskName("induction", {"distance": 8}, 4))
    >>> measure([one]).of(one).mean().tolist()
    [1.0]
    """
    cache, needed, measured = cache or Cache(), {key(quantity): quantity for quantity in quantities}, Measured()
    for name in dict.fromkeys(_as_loaded(quantity) for quantity in needed.values()):
        wanted = {text: quantity for text, quantity in needed.items() if _as_loaded(quantity) == name}
        try:
            model = (models or {}).get(name.name) or load(name.name, revision=name.revision, dtype=name.dtype, device=device)
        except CircuitryError as error:
            measured.outcomes |= dict.fromkeys(wanted, str(error))
            done(len(wanted), name.name)
            continue
        measured.weights[name.name] = model.fingerprint
        for text, outcome in _in_model(model, wanted, cache, done):
            measured.outcomes[text] = outcome
    return measured


def _as_loaded(quantity: Quantity) -> ModelName:
    return replace(quantity.model, weights=None)


def _in_model(
    model: Model, wanted: Mapping[str, Quantity], cache: Cache, done: Callable[[int, str], None]
) -> Iterator[tuple[str, Outcome]]:
    """The outcomes in one model: kept ones first, then the others, paths of one task together."""
    groups: dict[str, dict[str, tuple[Quantity, Task, dict[str, Any]]]] = {}
    for text, quantity in wanted.items():
        if reason := _other_weights(model, quantity):
            done(1, "")
            yield text, reason
            continue
        try:
            task = _task(quantity.task)
            identity = _identity(model, task, quantity)
        except CircuitryError as error:
            done(1, "")
            yield text, str(error)
            continue
        if (known := cache.get(identity)) is not None:
            done(1, "")
            yield text, known
        else:
            groups.setdefault(_together(text, quantity), {})[text] = (quantity, task, identity)
    for group in groups.values():
        entries = list(group.items())
        for start in range(0, len(entries), _TOGETHER):
            part = dict(entries[start : start + _TOGETHER])
            for text, outcome in _run(model, {text: (quantity, task) for text, (quantity, task, _) in part.items()}).items():
                if isinstance(outcome, PatchingTable):
                    cache.put(part[text][2], outcome)
                yield text, outcome
            done(len(part), str(next(iter(part.values()))[0].what))


def _together(text: str, quantity: Quantity) -> str:
    """Paths without open axes share their unpatched runs if all else is the same."""
    if not KINDS[quantity.kind].sweeps or parse(str(quantity.what)).axes:
        return text
    return key(replace(quantity, what=""))


def _run(model: Model, part: Mapping[str, tuple[Quantity, Task]]) -> dict[str, Outcome]:
    """Several paths at once; one by one if that is refused, so that one wrong path does not stop the others."""
    if len(part) > 1:
        (first, task), *_ = part.values()
        paths = {str(number): str(quantity.what) for number, (quantity, _) in enumerate(part.values())}
        try:
            table = patch(
                model, task, labelled("claim", paths), baseline=0, lint="prompts", executor=executor(progress=False), **first.options
            )  # fmt: skip
        except CircuitryError:
            return {text: _one(model, *entry) for text, entry in part.items()}
        return {text: table.select("claim", label) for text, label in zip(part, paths, strict=True)}
    return {text: _one(model, *entry) for text, entry in part.items()}


def _one(model: Model, quantity: Quantity, task: Task) -> Outcome:
    try:
        return KINDS[quantity.kind].measure(model, task, quantity, executor(progress=False))
    except CircuitryError as error:
        return str(error)


def _task(name: TaskName) -> Task:
    return make_task(name.name, examples=name.examples, seed=name.seed, **name.options)


def _other_weights(model: Model, quantity: Quantity) -> str:
    """Why a claim is not about this model, or nothing if it is."""
    wanted = quantity.model.weights
    if wanted is None or wanted == model.fingerprint:
        return ""
    return f"{quantity.model.name} has other weights than the claim says: their digest is {model.fingerprint}, expected {wanted}"


def _identity(model: Model, task: Task, quantity: Quantity) -> dict[str, Any]:
    """Everything that the numbers depend on."""
    return {
        "weights": model.fingerprint,
        "device": model.device.type,
        "inputs": inputs(model, task.prompts(model.vocabulary)),
        "task": [task.record, _source(quantity.task.name)],
        "table": KINDS[quantity.kind].table,
        "what": [
            quantity.what,
            digest(quantity.what) if isinstance(quantity.what, str) and quantity.what.endswith(".json") else "",
        ],
        "options": dict(quantity.options),
        "engine": engine(),
        "versions": versions(),
    }


def _source(name: str) -> str:
    """A digest of a task's file if it is a custom one, which may define metrics."""
    return digest(content.find("tasks", name)) if name.endswith(content.OWN) else ""
