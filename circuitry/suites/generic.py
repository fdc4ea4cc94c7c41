"""The suite of a task that has none of its own: what carries the answer, by layer, head and position, in any architecture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..errors import CircuitryError
from ..patching.experiment import Paths
from ..prompting.task import task
from ..results.writing import count
from .declare import Axes, Suite, TableSpec, findings
from .result import SuiteResult
from .study import Study

STREAM = "stream"


def _layers(role: str) -> Callable[[Study], Axes]:
    """The layers that the user asks for, as far as they have nodes of the role; all of them by default."""

    def of(study: Study) -> Axes:
        asked = study.settings["layers"]
        known = {layer for layer, *_ in study.model.graph.indices(study.name(role))}
        if unknown := [layer for layer in asked if layer not in range(study.model.graph.sizes["layer"] + 1)]:
            raise CircuitryError(
                f"layers={unknown[0]!r}: {study.model.name} has layers 0 to {study.model.graph.sizes['layer'] - 1}"
            )
        return {"layer": [layer for layer in asked if layer in known]} if asked else {}

    return of


def _table(name: str, title: str, role: str, path: str, note: str) -> TableSpec:
    """``path`` with NODE for the architecture's name of the role, and CARRIERS for all that moves information along the text."""

    def written(study: Study) -> Paths:
        return path.replace("NODE", study.name(role)).replace("CARRIERS", study.carriers)

    return TableSpec(name, title, written, axes=_layers(role), needs=role, note=note)


TABLES = (
    _table(
        STREAM,
        "Residual stream before every layer",
        "resid",
        "NODE[{layer}] @ {position} -> logits",
        "All that is known at a position. Where the effect passes from one position to another, something has moved it.",
    ),
    _table("heads", "Heads at END", "head", "NODE[{layer},{head}] @ END -> logits freezing CARRIERS", "Other heads are frozen."),
    _table(
        "states",
        "State of every layer",
        "state",
        "NODE[{layer}] @ {position} -> logits freezing CARRIERS",
        "Other states are frozen.",
    ),
    _table("mlps", "MLPs", "mlp", "NODE[{layer}] @ {position} -> logits", "Nothing is frozen."),
)


def suite_for(name: str) -> Suite:
    """The generic suite on a task: a shipped one, a file that defines ``TASK``, or a table of prompts.

    The metric is the logit difference, unless another is asked for. Its own option is ``layers``: some of them only.

    >>> suite_for("capital").task
    'capital'
    """
    definition = task(name).definition
    return Suite(
        name=definition.name.removesuffix(".csv").removesuffix(".jsonl"),
        description=f"what carries the answer of: {definition.description}",
        task=name,
        tables=TABLES,
        settings={"layers": ()},
        conclude=conclude,
        metric="logit_difference",
    )


def conclude(study: Study) -> SuiteResult:
    """Heads, states and MLPs by their strongest cell; those that write to the last token are patched together.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:mamba"), ct.task("ioi", examples=4), options={"metric": "logit_difference"})
    >>> suite = suite_for("ioi")
    >>> study.settings = dict(suite.settings)
    >>> [c.table for c in suite.carry_out(study).summary.components][0]
    'states'
    """
    every = study.tables
    inside = replace(study, tables={name: table for name, table in every.items() if name != STREAM})
    found = findings(inside)
    last = {study.last() if study.model.graph.by_role("state") else "END", "END"}
    writers = [one for one in found.summary.components if one.table in ("heads", "states") and (one.position or "END") in last]
    summary = found.summary
    if (preferred := summary.baseline["logit difference (answer - foil)"]) <= 0:
        what = f"on clean prompts the model does not prefer the answer to the foil (logit difference {preferred:.3g})"
        summary = replace(summary, notes=[*summary.notes, f"{what}: there is nothing to explain here"])
    if writers:
        sites = ", ".join(one.node for one in writers)
        joint = study.normalized_effect("All of these together", f"({sites}) -> logits freezing {study.carriers}")
        summary = replace(
            summary,
            explained=joint,
            together=f"the {count(len(writers), 'node')} at {' and '.join(sorted(last))}",
        )
    return SuiteResult(every, None, summary)
