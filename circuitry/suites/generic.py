"""The suite of a task without a custom one: what carries the answer, by layer, head and position, in any architecture."""

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
    """The requested layers that have nodes of the role; without a request, all of them."""

    def of(study: Study) -> Axes:
        requested = study.settings["layers"]
        existing = {layer for layer, *_ in study.model.graph.indices(study.name(role))}
        if unknown := [layer for layer in requested if layer not in range(study.model.graph.sizes["layer"] + 1)]:
            raise CircuitryError(
                f"layers={unknown[0]!r}: {study.model.name} has layers 0 to {study.model.graph.sizes['layer'] - 1}"
            )
        return {"layer": [layer for layer in requested if layer in existing]} if requested else {}

    return of


def _table(name: str, title: str, role: str, path: str, note: str) -> TableSpec:
    """In ``path``, NODE is replaced by the architecture's name of the role, and CARRIERS by ``Study.carriers``."""

    def written(study: Study) -> Paths:
        return path.replace("NODE", study.name(role)).replace("CARRIERS", study.carriers)

    return TableSpec(name, title, written, axes=_layers(role), needs=role, note=note)


TABLES = (
    _table(
        STREAM,
        "Residual stream before every layer",
        "resid",
        "NODE[{layer}] @ {position} -> logits",
        "All that the model knows at a position. Where the effect passes to another position, a node has moved it.",
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

    The metric is the logit difference, unless the user sets another. The option ``layers`` restricts it to some layers.

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
    """Heads, states and MLPs with their strongest cells; those that write to the last token are also patched together.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:mamba"), ct.task("ioi", examples=4), options={"metric": "logit_difference"})
    >>> suite = suite_for("ioi")
    >>> study.settings = dict(suite.settings)
    >>> [c.table for c in suite.carry_out(study).summary.components][0]
    'states'
    """
    tables = study.tables
    # The stream at END has the whole effect in the last layers of any model, which says nothing about its components.
    without_stream = replace(study, tables={name: table for name, table in tables.items() if name != STREAM})
    result = findings(without_stream)
    last = {study.last() if study.model.graph.by_role("state") else "END", "END"}
    writers = [
        component
        for component in result.summary.components
        if component.table in ("heads", "states") and (component.position or "END") in last
    ]
    summary = result.summary
    if (preferred := summary.baseline["logit difference (answer - foil)"]) <= 0:
        problem = f"on clean prompts the model does not prefer the answer to the foil (logit difference {preferred:.3g})"
        summary = replace(summary, notes=[*summary.notes, f"{problem}: there is nothing to explain here"])
    if writers:
        sites = ", ".join(component.node for component in writers)
        joint = study.normalized_effect("All of these together", f"({sites}) -> logits freezing {study.carriers}")
        summary = replace(
            summary,
            explained=joint,
            together=f"the {count(len(writers), 'node')} at {' and '.join(sorted(last))}",
        )
    return SuiteResult(tables, None, summary)
