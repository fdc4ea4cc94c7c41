"""What a claim may be about. A new kind of quantity is one entry of ``KINDS``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..discovery.circuit import EdgeCircuit
from ..errors import CircuitryError
from ..paths.parse import parse
from ..results.table import PatchingTable
from . import intervals
from .intervals import Estimate
from .values import Quantity
from .yaml_reader import Entry

if TYPE_CHECKING:
    from ..models.model import Model
    from ..prompting.task import Task

ON_TOP, ABOVE = "top-1", "above foil"
"""Two accuracies: how often the answer has the largest logit of all tokens, and how often it has a larger one than the foil."""


@dataclass(frozen=True)
class Kind:
    """A kind of quantity: how its value is read, how it is measured, and what interval it has.

    ``words`` says what the number is, ``table`` which measurement it needs. ``measure`` gives a table whose normalized effect (or mean) is the number; ``sweeps`` if it may
    have several cells. ``by``: what ``compare`` subtracts, or None if the numbers are subtracted with their own intervals.
    """

    words: str
    table: str
    read: Callable[[Entry], str | tuple[str, ...]]
    measure: Callable[[Model, Task, Quantity, Any], PatchingTable]
    estimates: Callable[[PatchingTable, float], list[Estimate]]
    by: str | None = "normalized"
    sweeps: bool = False


def _path(entry: Entry) -> str:
    text = entry.text()
    try:
        return str(parse(text))
    except CircuitryError as error:
        entry.refuse(str(error))


def _accuracy(entry: Entry) -> str:
    return entry.among(ON_TOP, ABOVE)


def _nodes(entry: Entry) -> str | tuple[str, ...]:
    """Nodes of one family as a list, or the file of a circuit of edges."""
    items = entry.items()
    if items is None:
        text = entry.text()
        return text if text.endswith(".json") else (text,)
    return tuple(item.text() for item in items)


def _patched(model: Model, task: Task, quantity: Quantity, executor: Any) -> PatchingTable:
    from ..patching.experiment import patch

    return patch(model, task, str(quantity.what), baseline=0, lint="prompts", executor=executor, **quantity.options)


def _answered(model: Model, task: Task, quantity: Quantity, executor: Any) -> PatchingTable:
    from ..executing.answers import answers

    found = answers(model, task.prompts(model.vocabulary))
    right = (found.top if quantity.what == ON_TOP else found.answer > found.foil).astype(float)
    record = {"path": f"accuracy ({quantity.what})", "task": task.record, "model": model.name}
    return PatchingTable.of([{}], right[None], np.zeros(len(right)), np.ones(len(right)), "accuracy", record)


def _kept(model: Model, task: Task, quantity: Quantity, executor: Any) -> PatchingTable:
    """What is left if everything outside the circuit is replaced, as the effect, beside the whole, as ``source``."""
    from ..evidence.scores import score

    if not isinstance(quantity.what, str):
        scored = score(model, task, list(quantity.what), random=0, subsets=0, executor=executor, **quantity.options).table
        lost = {str(name): rows["effect"].to_numpy() for name, rows in scored.frame.groupby("set", sort=False)}
        base = scored.frame[scored.frame["set"] == "nothing kept"]["base"].to_numpy()
        whole = lost["nothing kept"]
        left = whole - lost.get("circuit", np.zeros(len(whole)))
    else:
        measured = score(
            model, task, _circuit(quantity.what), random=0, subsets=0, executor=executor, **quantity.options
        ).measured
        base, whole = measured.corrupted, measured.clean - measured.corrupted
        left = measured.values[0] - measured.corrupted
    record = {"path": "faithfulness", "task": task.record, "model": model.name}
    return PatchingTable.of([{}], left[None], base, base + whole, "logit difference that is left", record)


def _circuit(file: str) -> EdgeCircuit:
    try:
        return EdgeCircuit.from_json(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise CircuitryError(f"{file} cannot be read ({error.strerror}); a discovery with out= writes circuit.json") from error


KINDS: dict[str, Kind] = {
    "effect": Kind("normalized effect", "patched", _path, _patched, intervals.ratios, sweeps=True),
    "change": Kind("mean change", "patched", _path, _patched, intervals.means, by="effect", sweeps=True),
    "accuracy": Kind("accuracy", "answered", _accuracy, _answered, intervals.proportions, by=None),
    "faithfulness": Kind("faithfulness", "kept", _nodes, _kept, intervals.ratios),
}
"""By the key in a claims file."""
