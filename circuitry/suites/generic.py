"""The suite of a task that has none of its own: what carries the answer, by layer, head and position, in any architecture."""

from __future__ import annotations

from dataclasses import replace

from ..prompting import task
from ..results.writing import count
from .declare import Path, Suite, Table, findings
from .result import SuiteResult
from .study import Study

STREAM = "stream"


def _states(study: Study) -> Path:
    return f"{study.name('state')}[{{layer}}] @ {{position}} -> logits freezing {study.carriers}"


def _heads(study: Study) -> Path:
    return f"{study.name('head')}[{{layer}},{{head}}] @ END -> logits freezing {study.carriers}"


def _mlps(study: Study) -> Path:
    return f"{study.name('mlp')}[{{layer}}] @ {{position}} -> logits"


TABLES = (
    Table(
        STREAM,
        "Residual stream before every layer",
        lambda study: f"{study.name('resid')}[{{layer}}] @ {{position}} -> logits",
        note="All that is known at a position. Where the effect passes from one position to another, something has moved it.",
    ),
    Table("heads", "Heads at END", _heads, needs="head", note="All other heads are frozen, MLPs are not."),
    Table("states", "State of every layer", _states, needs="state", note="All other states are frozen."),
    Table("mlps", "MLPs", _mlps, needs="mlp", note="Nothing is frozen."),
)


def suite_for(name: str) -> Suite:
    """The generic suite on a task: a shipped one, a file that defines ``TASK``, or a table of prompts.

    The metric is the logit difference, unless another is asked for.

    >>> suite_for("capital").task
    'capital'
    """
    definition = task(name).definition
    return Suite(
        name=definition.name.removesuffix(".csv").removesuffix(".jsonl"),
        about=f"what carries the answer of: {definition.about}",
        task=name,
        tables=TABLES,
        conclude=conclude,
        metric="logit_difference",
    )


def conclude(study: Study) -> SuiteResult:
    """Heads, states and MLPs by their strongest cell; those that write to the last token are patched together.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:mamba"), ct.task("ioi", examples=4), options={"progress": False, "metric": "logit_difference"})
    >>> suite = suite_for("ioi")
    >>> [c.table for c in suite.carry_out(study).summary.components][0]
    'states'
    """
    every = study.tables
    inside = replace(study, tables={name: table for name, table in every.items() if name != STREAM})
    found = findings(inside)
    last = {study.last() if study.model.graph.by_role("state") else "END", "END"}
    writers = [one for one in found.summary.components if one.table in ("heads", "states") and (one.position or "END") in last]
    summary = found.summary
    if (preferred := summary.baseline["logit difference, answer less foil"]) <= 0:
        what = f"on clean prompts the model does not prefer the answer to the foil (logit difference {preferred:.3g})"
        summary = replace(summary, notes=[*summary.notes, f"{what}: there is no behaviour here to explain"])
    if writers:
        sites = ", ".join(one.node for one in writers)
        joint = study.patch("All of these together", f"({sites}) -> logits freezing {study.carriers}")
        summary = replace(
            summary, explained=float(joint.share().iloc[0]), together=f"the {count(len(writers), 'node')} at {' and '.join(sorted(last))}"
        )
    return SuiteResult(every, None, summary)
