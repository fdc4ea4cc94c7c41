"""The folder of a discovery: its finished steps, from which a killed one goes on, and in the end tables, figures and a page."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CircuitryError
from ..executing.open import choice
from ..explorer.file import write as write_seen
from ..explorer.page import write_explorer
from ..patching.provenance import inputs, model_record, versions
from ..store.files import write_csv, write_whole
from ..store.resumable import Resumable
from .circuit import EdgeCircuit
from .curve import Curve
from .explored import explored
from .firing import firing
from .hypothesis_tests import hypotheses_of
from .methods.method import Method
from .page import DIAGRAM, RESULTS, write_report
from .question import Question
from .scores import EdgeScores, score_edges
from .steps import Steps

if TYPE_CHECKING:
    from .result import Discovery

RECORD = "run.json"


@dataclass
class DiscoveryFolder:
    """``record`` is run.json; ``record["identity"]`` is all that the numbers depend on. ``parts/`` holds the finished steps."""

    path: Path
    record: dict[str, Any]

    @classmethod
    def open(
        cls, path: Path, question: Question, method: Method, options: Mapping[str, Any], call: Mapping[str, str]
    ) -> DiscoveryFolder:
        """The folder of this discovery, begun or found as it was left. Raises CircuitryError if it holds anything else.

        ``call`` is the ``command`` or the ``python`` code that makes it, for the record.
        """
        identity = _identity(question, method, options)
        record = _record(question, method, options, call)
        return cls(path, _work(path).begin(identity, **record))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder while writing into it. Raises FileError, which names the process that has the lock."""
        with _work(self.path).held():
            yield

    @property
    def steps(self) -> Steps:
        """The finished steps."""
        return Steps(self.path / "parts")

    def finish(self, found: Discovery, edges: int) -> None:
        """Measure what is missing, and write every file of the folder, the page last."""
        results = _results(found, edges, self.steps)
        self._write_tables(found)
        figures = self._write_figures(found, results)
        if (circuit := results["circuit"]) is not None:
            results["circuit"] = len(circuit.cells)
            for suffix in (".json", ".png", ".svg", ".dot", ".mmd"):
                circuit.save(self.path / f"circuit{suffix}")
        if found.level != "edge":
            for suffix in (".json", ".png", ".svg", ".dot", ".mmd"):
                found.diagram().save(self.path / f"{DIAGRAM}{suffix}")
        found.save(self.path / "edges.json", edges if circuit is not None else None)
        write_whole(self.path / RESULTS, json.dumps(results, indent=1))
        write_seen(self.path, explored(found, edges))
        ended = {"state": "complete", "finished": self.record["finished"] or _now(), "tables": ["discovery"], "figures": figures}
        self.record = {**self.record, **ended}
        _work(self.path).write(self.record)
        write_report(self.path)
        write_explorer(self.path)

    def _write_tables(self, found: Discovery) -> None:
        table, place = found.table, self.path / "tables" / "discovery"
        # No picture: the names of edges leave no room for one, and the figure of agreement shows the same effects.
        table.to_csv(place.with_suffix(".csv"))
        table.to_parquet(place.with_suffix(".parquet"))
        table.to_json(place.with_suffix(".json"))
        table.to_markdown(place.with_suffix(".md"))
        table.to_latex(place.with_suffix(".tex"))
        write_csv(table.statistics(), place.with_name("discovery-statistics.csv"))
        if found.level == "latent":
            write_csv(found.shares, self.path / "tables" / "shares.csv", index=False)
        write_csv(found.ranking, self.path / "tables" / "ranking.csv", index=False)
        write_whole(self.path / "tables" / "ranking.md", markdown(found.ranking))

    def _write_figures(self, found: Discovery, results: Mapping[str, Any]) -> list[dict[str, str]]:
        from ..drawing.figures import save
        from . import figures

        drawn = []
        if results["curve"]:
            write_csv(found.curve.frame, self.path / "curve.csv", index=False)
            drawn.append(("curve", "Faithfulness by circuit size", figures.draw_curve(found.curve)))
        if found.exact:
            drawn.append(("agreement", "Attribution and exact effect", figures.draw_agreement(found)))
        for name, _, figure in drawn:
            for suffix in (".svg", ".png"):
                save(figure, self.path / "figures" / f"{name}{suffix}")
        return [{"name": name, "title": title, "caption": figures.CAPTIONS[name]} for name, title, _ in drawn]


def _results(found: Discovery, edges: int, steps: Steps) -> dict[str, Any]:
    """Everything that the page shows, as plain data, but for ``circuit``, which is a value or None."""
    results: dict[str, Any] = {
        "text": found.text(),
        "level": found.level,
        "unit": found.question.metric.unit,
        "whole": found.whole,
        "cells": found.size,
        "ranking": _rows(found.ranking),
        "agreement": _rows(found.agreement) if found.exact else [],
        "curve": None,
        "circuit": None,
    }
    inclusion, jaccard = found.inclusion(edges)
    results |= {"inclusion": _rows(inclusion), "jaccard": jaccard, "edges": edges}
    if found.level == "latent":
        results["shares"] = _rows(found.shares)
        results["firing"] = firing(found)
    if found.level == "node":
        return results
    curve = steps.data("curve", lambda: found.curve.data)
    found.curve = Curve.of(curve)
    results["curve"] = {**curve, "text": found.curve.text()}
    if found.level != "edge":
        return results
    try:
        circuit = found.circuit(edges)
    except CircuitryError as error:
        return {**results, "no_circuit": str(error)}
    scores = steps.data(f"circuit-{edges}", lambda: _scored(found, circuit))
    return {**results, "circuit": circuit, **scores}


def _scored(found: Discovery, circuit: EdgeCircuit) -> dict[str, Any]:
    fewer = {"random": 5, "subsets": 2} if found.question.is_large else {}
    scores = score_edges(found.confirming, circuit, seed=found.question.seed, **fewer)
    tests = hypotheses_of(scores, seed=found.question.seed)
    return {"scores": _plain(scores), "hypotheses": _rows(tests.frame)}


def _plain(scores: EdgeScores) -> dict[str, Any]:
    names = ("edges", "faithfulness", "interval", "complement", "complement_interval", "outsiders")
    frames = ("random", "completeness", "minimality")
    return {
        **{name: getattr(scores, name) for name in names},
        **{name: _rows(getattr(scores, name)) for name in frames},
        "text": scores.text(),
    }


def _rows(frame: Any) -> list[dict[str, Any]]:
    """The rows of a frame; what is missing or no number is left out."""
    rows = json.loads(frame.to_json(orient="records", double_precision=15))
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def _work(path: Path) -> Resumable:
    return Resumable(path, RECORD, "discovery")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _identity(question: Question, method: Method, options: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = (
        dataclasses.asdict(method) if dataclasses.is_dataclass(method) and not isinstance(method, type) else {}
    )
    return {
        "model": question.model.name,
        "weights": question.model.fingerprint,
        "inputs": inputs(question.model, question.prompts),
        "task": question.task.record,
        "method": {"name": method.name, **fields, "code": _digest(type(method))},
        "metric": {"name": question.metric.name, "unit": question.metric.unit, "code": _digest(question.metric.function)},
        "level": question.level,
        "positions": list(question.labels.names),
        "direction": question.direction,
        "executor": str(choice(question.executor)),
        "seed": question.seed,
        **options,
        "versions": versions(),
    }


def _digest(what: Any) -> str:
    """A digest of the text of a function or class; the empty text if there is none."""
    try:
        return hashlib.sha256(inspect.getsource(what).encode()).hexdigest()[:16]
    except (OSError, TypeError):
        return ""


def _record(question: Question, method: Method, options: Mapping[str, Any], call: Mapping[str, str]) -> dict[str, Any]:
    model = question.model
    settings = {
        "method": method.name, "level": question.level, "positions": "apart" if question.labels.names != ("all",) else "added up",
        "metric": question.metric.name, "direction": question.direction, "seed": question.seed, **options,
    }  # fmt: skip
    return {
        "kind": "discovery",
        **model_record(model),
        "task": question.task.record,
        "settings": settings,
        **call,
        "versions": versions(),
        "started": _now(),
        "finished": None,
        "state": "running",
        "planned": ["discovery"],
        "tables": [],
    }


def markdown(frame: Any) -> str:
    """A table in Markdown, with three digits.

    >>> import pandas as pd
    >>> print(markdown(pd.DataFrame({"edge": ["a -> b"], "exact": [0.12345]})))
    | edge | exact |
    |---|---|
    | a -> b | 0.123 |
    <BLANKLINE>
    """
    shown = [
        [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row] for row in frame.itertuples(index=False)
    ]
    head, *body = (f"| {' | '.join(map(str, line))} |" for line in [list(frame.columns), *shown])
    return "\n".join([head, "|" + "---|" * len(frame.columns), *body]) + "\n"
