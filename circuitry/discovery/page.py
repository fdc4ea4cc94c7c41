"""The page of a discovery: what was asked, the ranking and its verification, the curve, and the circuit with its scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..drawing.circuit import Circuit
from ..drawing.embedded import embedded
from ..errors import CircuitryError
from ..html.page import render
from ..prompting.record import words as task_in_words
from ..reports.nodes import panels
from ..reports.page import EXAMPLES, figures_of, with_examples
from ..reports.run import Run, read_run
from ..results.cells import CellView
from ..results.statistics import all_or_none
from ..results.top_1 import below_threshold
from ..results.view import TableView
from ..store.files import write_whole
from ..thresholds import SIGNIFICANT
from .positions import ALL
from .question import PLURAL

RESULTS, DIAGRAM = "results.json", "diagram"
_SHOWN = 30
_DIRECTIONS = {
    "noising": "the clean prompt's value is replaced by the corrupted one's",
    "denoising": "the corrupted prompt's value is replaced by the clean one's",
}
_HYPOTHESES = {
    "equivalence": ("the circuit's metric exceeds the model's as often as not", "not rejected"),
    "independence": ("what the model puts out without the circuit says nothing about what it puts out with it", "not rejected"),
    "minimality": ("some edge of the circuit does no more than a random edge that was added", "rejected"),
    "sufficiency": ("random circuits of this size are as faithful", "rejected"),
    "partial necessity": ("the model loses as much without a random circuit of this size", "rejected"),
}


def is_discovery(folder: str | Path) -> bool:
    """Whether a run folder is that of a discovery.

    >>> is_discovery("nowhere")
    False
    """
    try:
        record = json.loads((Path(folder) / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("kind") == "discovery"


def write_report(folder: str | Path) -> Path:
    """Write report.html from the files of a discovery's folder, and return its path.

    Raises CircuitryError for a folder that is not one, and for one that is not finished.

    >>> write_report("nowhere")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: folder nowhere does not exist; 'circuitry run SUITE --model MODEL' makes one
    """
    run = read_run(folder)
    try:
        results = json.loads((run.folder / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CircuitryError(
            f"{run.folder} is not finished; the same call of discover, or the same command, resumes it"
        ) from error
    target, contents = run.folder / "report.html", _contents(run, results)
    page = render("discovery.html", package=__package__, **EXAMPLES, **contents)
    write_whole(target, with_examples(page, [contents["table"]]))
    return target


def _contents(run: Run, results: Mapping[str, Any]) -> dict[str, Any]:
    ranking, table = results["ranking"], TableView.of(1, "discovery", run.tables["discovery"], [])
    return {
        "table": table,
        "cells": _cells(table, ranking, results["level"]),
        "run": run,
        "results": results,
        "findings": _findings(run, results),
        "ranking": ranking[:_SHOWN],
        "more": max(0, len(ranking) - _SHOWN),
        "fires": {row["latent"]: f"fires-{number}" for number, row in enumerate(results.get("firing", []))},
        "figures": {figure["name"]: figure for figure in figures_of(run)},
        "circuit": Markup(embedded(_coloured(run.circuit, results), "node")) if run.circuit else None,
        "diagram": _diagram(run, results),
        "panels": panels(run.circuit, []) if run.circuit else [],
        "hypotheses": _hypotheses(results),
        "methods": _methods(run, results),
        "task": task_in_words(run.provenance["task"]),
    }  # fmt: skip


def _cells(table: TableView, ranking: Sequence[Mapping[str, Any]], level: str) -> list[CellView]:
    """For each row of the ranking the cell of its exact effect, or else of its attribution."""
    by_place = {tuple(map(str, cell.values.values())): cell for cell in table.cells}
    places = ((str(row[level]), str(row["position"])) for row in ranking)
    return [by_place.get((*place, "exact")) or by_place[*place, "attribution"] for place in places]


def _hypotheses(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tests, each with its null hypothesis, when it passes, and the ``least`` p that so many draws can give."""
    scores = results.get("scores", {"outsiders": [], "random": []})
    draws = {
        "minimality": len(scores["outsiders"]),
        "sufficiency": len(scores["random"]),
        "partial necessity": len(scores["random"]),
    }
    tests = []
    for row in results.get("hypotheses", []):
        null, wanted = _HYPOTHESES[row["hypothesis"]]
        tests.append({**row, "null": null, "wanted": wanted, "least": 1 / (1 + draws.get(row["hypothesis"], 0))})
    return tests


def _coloured(circuit: Circuit, results: Mapping[str, Any]) -> Circuit:
    """A circuit with the whole effect, which those of earlier versions lack."""
    return replace(circuit, whole=results["whole"]) if circuit.whole is None else circuit


def _diagram(run: Run, results: Mapping[str, Any]) -> Markup | None:
    """The picture of the best nodes or latents; None for edges, and in the folders of earlier versions, which have none."""
    file = run.folder / f"{DIAGRAM}.json"
    if not file.is_file():
        return None
    drawn = _coloured(Circuit.from_json(file.read_text(encoding="utf-8")), results)
    return Markup(embedded(drawn, "best", linked=False))


def _findings(run: Run, results: Mapping[str, Any]) -> list[str]:
    """What was found, in sentences."""
    what, tested = PLURAL[results["level"]], [row for row in results["ranking"] if "q" in row]
    below = below_threshold(run.tables["discovery"].provenance.get("top_1"))
    sentences = [f"{results['cells']:,} {what} at positions were ranked.", *([f"{below.capitalize()}."] if below else [])]
    if tested:
        found = sum(row["q"] < SIGNIFICANT for row in tested)
        sentences.append(
            f"{len(tested)} of the best were patched exactly{_where(run)}; {found} have an effect that is significant (q < {SIGNIFICANT:g})."
        )
        few = all_or_none(run.tables["discovery"].select("measure", "exact").frame["example"].nunique(), len(tested))
        sentences += [f"Too few examples to tell: {few}."] if few and not found else []
    if scores := results.get("scores"):
        sentences.append(
            f"A circuit of {results['circuit']} edges alone keeps {scores['faithfulness']:z.0%} of the behaviour "
            f"({scores['interval'][0]:z.0%} to {scores['interval'][1]:z.0%}); the model without it keeps {scores['complement']:z.0%}."
        )
    for row in results.get("shares", []):
        if row["position"] == ALL and "error_share" in row:
            sentences.append(f"Of the attribution of {row['node']}, {row['error_share']:z.0%} is in its autoencoder's error.")
    if results.get("no_circuit"):
        sentences.append(f"No circuit: {results['no_circuit']}.")
    return sentences


def _where(run: Run) -> str:
    return " on other prompts" if run.provenance["settings"]["confirm"] else " on the same prompts"


def _methods(run: Run, results: Mapping[str, Any]) -> str:
    """How the numbers were made, as a paragraph to paste."""
    said, settings = run.provenance, run.provenance["settings"]
    table = run.tables["discovery"].provenance
    halves = "one half of the prompts" if settings["confirm"] else "all prompts"
    versions = ", ".join(f"{name} {version}" for name, version in said["versions"].items())
    sentences = [
        f"{results['cells']:,} {PLURAL[settings['level']]} of {said['model']} ({said['architecture']}, {said['parameters']:,} parameters), at "
        f"positions kept {settings['positions']}, were ranked by {settings['method']} on {halves} ({table['ranked_on']}) of the task "
        f"{task_in_words(said['task'])}.",
        f"An effect is the {results['unit']} if {_DIRECTIONS[settings['direction']]}.",
    ]
    if settings["verify"]:
        sentences.append(
            f"The best {settings['verify']} were then patched one at a time on {table['confirmed_on']} prompts, "
            "with everything after them recomputed; intervals are 95 % bootstrap intervals over prompts, and q is controlled over these alone."
        )
    if "scores" in results:
        sentences.append(
            "A circuit's run keeps the clean values of its edges only; every other edge carries its corrupted value. Faithfulness is the "
            "metric that is left, 1 for the whole model and 0 if every edge is cut."
        )
    if results.get("shares"):
        sentences.append(
            "A node's attribution is the sum of those of its autoencoder's latents and of its error. A run with some latents keeps "
            "these; all other latents, and errors, take their corrupted values (Marks et al. 2024)."
        )
    note = settings.get("dtype")
    return " ".join([*sentences, *([f"Dtype: {note}."] if note else []), f"Versions: {versions}."])
