"""What suites and their results show in a notebook: the findings, the circuit, and a list of the tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ..drawing.notebook import drawn
from ..html.formats import percent
from ..html.output import caption, details, facts, heading, part, table
from ..prompting.record import words as task_in_words
from ..reports.words import findings

if TYPE_CHECKING:
    from .declare import Suite, TableSpec
    from .result import SuiteResult, Summary


def of_result(result: SuiteResult) -> Iterator[Markup]:
    """The findings, the circuit, and a row for each table; the tables themselves are ``result.tables``.

    >>> from circuitry.suites.result import Summary, SuiteResult
    >>> "No component" in "".join(of_result(SuiteResult({}, None, Summary("m", "mamba", [], 0.0, {}))))
    True
    """
    suite = result.record.get("suite", "")
    yield heading(f"{suite or 'a suite'} on {result.summary.model}", result.summary.architecture)
    yield from _findings(result.summary)
    if result.circuit is not None:
        yield drawn(result.circuit)
    rows = [
        [f'tables["{name}"]', one.provenance.get("title", ""), ", ".join(one.axes), one.frame.groupby(list(one.axes)).ngroups if one.axes else 1,
         one.frame["example"].nunique()]
        for name, one in result.tables.items()
    ]  # fmt: skip
    if rows:
        yield table(["table", "title", "axes", "cells", "examples"], rows)
    record = result.record
    yield facts([("task", task_in_words(record.get("task"))), ("folder", record.get("folder", ""))])
    if result.summary.notes:
        yield details("notes", *map(caption, result.summary.notes))


def of_summary(summary: Summary) -> Iterator[Markup]:
    """The findings of a summary.

    >>> from circuitry.suites.result import Summary
    >>> "No write position" in "".join(of_summary(Summary("m", "mamba", [], 0.0, {})))
    True
    """
    yield heading(summary.model, summary.architecture)
    yield from _findings(summary)
    yield from map(caption, summary.notes)


def _findings(summary: Summary) -> Iterator[Markup]:
    data: Mapping[str, Any] = json.loads(summary.to_json())
    yield part("said", findings(data))
    if summary.components:
        rows = [[one.node, one.role, one.normalized, one.position] for one in summary.components]
        yield table(["component", "role", "normalized effect", "at"], rows, {"normalized effect": percent})
    if summary.baseline:
        yield details("what there is to explain", facts((name, f"{value:.3g}") for name, value in summary.baseline.items()))


def of_suite(suite: Suite) -> Iterator[Markup]:
    """What a suite asks, its settings, and its tables.

    >>> import circuitry as ct
    >>> "induction" in "".join(of_suite(ct.suite("induction")))
    True
    """
    yield heading(f"suite {suite.name}", f"task {suite.task}")
    yield caption(suite.description)
    settings = [(name, repr(value)) for name, value in {**suite.settings, **suite.options}.items()]
    yield facts([*settings, ("metric", suite.metric or "")])
    if suite.tables:
        yield table(["table", "title", "path"], [[one.name, one.title, _path(one)] for one in suite.tables])


def of_spec(spec: TableSpec) -> Iterator[Markup]:
    """What one table of a suite measures.

    >>> from circuitry.suites.declare import TableSpec
    >>> "States" in "".join(of_spec(TableSpec("states", "States", "h[{layer}] -> logits")))
    True
    """
    yield heading(spec.title, spec.name)
    yield facts([
        ("path", _path(spec)),
        ("axes", "" if callable(spec.axes) else ", ".join(f"{k}: {', '.join(map(str, v))}" for k, v in spec.axes.items())),
        ("over", ", ".join(f"{k}: {', '.join(map(str, v))}" for k, v in spec.over.items())),
        ("needs a", spec.needs or ""),
        ("note", spec.note),
    ])  # fmt: skip


def _path(spec: TableSpec) -> str:
    return "computed from earlier tables" if callable(spec.path) else str(spec.path)
