"""The claims file of a run: what its summary says, with bounds that other prompts can be expected to meet.

A bound lies ``FAR`` times as far from the run's number as the end of the number's interval, since the claim must hold with its whole
interval, and on fresh prompts both the number and the width of its interval differ. ``benchmarks/claims.py`` counts how many hold.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from scipy import stats

from ..discovery.page import RESULTS, is_discovery
from ..errors import CircuitryError
from ..paths.parse import parse_node
from ..paths.values import Path as PathValue
from ..planning.metrics import METRICS
from ..results.recorded import filled, path_among, paths_of
from ..results.table import PatchingTable
from ..suites.folder import read_record
from ..suites.result import Component, SuiteResult
from ..thresholds import DOES_TASK, LEVEL
from .intervals import Estimate, ratios

FAR = 4.0
"""How many times as far as the end of its interval a bound lies from a number."""
SURE = 0.999
"""Confidence of the interval whose lower end is the bound of an accuracy."""
Entry = dict[str, Any]


def claims_of(folder: str | Path) -> str:
    """The text of a claims file for the folder of a suite's run, or of a discovery.

    Components with their effects, those that act last together, the accuracy, and the faithfulness of the circuit. What the run
    measured too roughly for a bound above zero is listed in a comment. Raises CircuitryError if the folder has no complete run.

    >>> claims_of("nowhere")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: expected a run folder, with a readable run.json, got 'nowhere'; `circuitry run` makes one
    """
    path = Path(folder)
    if is_discovery(path):
        record, entries, left_out = read_record(path), list(_discovered(path)), list[str]()
    else:
        result = SuiteResult.load(path)
        record, (entries, left_out) = dict(result.record), _found(result)
    if not entries:
        raise CircuitryError(f"the run in {path} found nothing that a claim could say; more examples may help")
    comment = [
        f"# What the run in {path.name} found. Check it, or check it on other prompts:",
        "#   circuitry check FILE --seed 1",
    ]
    comment += [f"# left out, since its bound would not be above zero: {text}" for text in left_out]
    return "\n".join([*comment, *_lines(_model(record), entries)]) + "\n"


def _lines(model: Entry, entries: list[Entry]) -> Iterator[str]:
    """The file: the model and the task of most claims first, then every claim, with one line for each key."""
    shared = Counter(_flow(entry["task"]) for entry in entries).most_common(1)[0][0]
    yield f"model: {_flow(model)}"
    yield f"task: {shared}"
    yield "claims:"
    for entry in entries:
        keys = [f"{name}: {_flow(value)}" for name, value in entry.items() if name != "task" or _flow(value) != shared]
        yield from (f"{'- ' if number == 0 else '  '}{line}" for number, line in enumerate(keys))


def _flow(value: Any) -> str:
    """A value in one line of YAML."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf)
    return text.removesuffix("...\n").strip()


def _model(record: Mapping[str, Any]) -> Entry:
    """The model with the digest of its weights, so that the claims are about no other."""
    name, _, revision = str(record["model"]).partition("@")
    weights = record.get("identity", record).get("weights")
    model = {"name": name, "revision": revision, "weights": weights, "dtype": record.get("dtype")}
    return {key: value for key, value in model.items() if value}


def _task(record: Mapping[str, Any], **changed: Any) -> Entry:
    """A task's record as a claims file has it. A custom table of prompts is looked for beside the file."""
    name = record["name"] if not record.get("source") else f"./{record['name']}"
    options = {key: value for key, value in {**record["options"], **changed}.items() if value is not None}
    return {"name": name, **options, "examples": record["examples"], "seed": record["seed"]}


# --- suites ------------------------------------------------------------------------------------------------------------------


def _found(result: SuiteResult) -> tuple[list[Entry], list[str]]:
    """The claims, and the components that none could be made of."""
    entries, left_out = list(_accuracies(result)), list[str]()
    measured = [(component, one) for component in result.summary.components if (one := _effect(result, component))]
    for component, one in measured:
        if (bound := _bound(one.estimate.value, one.margin)) is None:
            left_out.append(f"{component.node}, {component.role}, {component.normalized:.0%}")
            continue
        where = f", {component.at}" if component.at else ""
        text = f"{component.node}, {component.role}{where}, has {_in_words(bound)} of the effect ({component.normalized:.0%} in the run)."
        entries.append({"text": text, **one.entry, "effect": str(one.path), **bound})
    first = result.summary.components[0].table if measured else ""
    entries += _together(result, [one for component, one in measured if component.table == first])
    entries += _scored(result)
    return entries, left_out


def _accuracies(result: SuiteResult) -> Iterator[Entry]:
    """That the model does the task, where it does."""
    record = result.record["task"]
    for name, rate in result.summary.baseline.items():
        kind, _, rest = name.partition(", distance ")
        words = {"top-1 accuracy": "top-1", "answer above foil": "above foil"}.get(kind)
        if words is None or rate < DOES_TASK:
            continue
        bound = _below(float(stats.binomtest(round(rate * record["examples"]), record["examples"]).proportion_ci(SURE).low))
        where = f" at distance {rest}" if rest else ""
        yield {
            "text": f"The answer is right ({words}){where} in {rate:.0%} of the run's prompts.",
            "task": _task(record, **({"distance": int(rest)} if rest else {})),
            "accuracy": words,
            "at_least": bound,
        }


@dataclass(frozen=True)
class _Effect:
    """The effect of a component in the run: its closed path, what else a claim on it needs, and how far off its bound lies."""

    path: PathValue
    entry: Entry
    estimate: Estimate
    margin: float


def _effect(result: SuiteResult, component: Component) -> _Effect | None:
    """A component's effect; None if its table does not say which path, task and metric it is of."""
    table = result.tables.get(component.table)
    if table is None:
        return None
    values = dict(zip(table.axes, component.cell, strict=True))
    path = _path(table, values)
    for axis, value in values.items():
        table = table.select(axis, value)
    metric = _metric(table)
    if path is None or metric is None or not isinstance(table.provenance.get("task"), Mapping):
        return None
    [estimate] = ratios(table, LEVEL)
    margin = FAR * max(estimate.value - estimate.low, estimate.high - estimate.value)
    return _Effect(path, {"task": _task(table.provenance["task"]), **_choices(table, metric, "logit")}, estimate, margin)


def _metric(table: PatchingTable) -> str | None:
    return next((metric.name for metric in METRICS.values() if metric.unit == table.unit), None)


def _path(table: PatchingTable, values: Mapping[str, Any]) -> PathValue | None:
    path = path_among(paths_of(table.provenance), values)
    if path is None:
        return None
    legs = (
        replace(leg, frozen=tuple(filled(n, values) for n in leg.frozen), exempt=tuple(filled(n, values) for n in leg.exempt))
        for leg in path.legs
    )
    return replace(path, legs=tuple(legs))


def _choices(table: PatchingTable, metric: str, usual: str) -> Entry:
    """Options of the patch that are not the defaults."""
    given = {
        "metric": metric if metric != usual else None,
        "direction": "denoising" if table.provenance.get("base") == "corrupted" else None,
        "intervention": kind if (kind := table.provenance.get("intervention")) != "resample" else None,
    }
    return {name: value for name, value in given.items() if value}


def _together(result: SuiteResult, ends: list[_Effect]) -> Iterator[Entry]:
    """The components that act last, patched at once, if their paths differ in the source only."""
    explained, together = result.summary.explained, result.summary.together
    sources = tuple(dict.fromkeys(site for one in ends for site in one.path.sources))
    if len(ends) < 2 or len({one.path.legs for one in ends}) > 1 or len(sources) < len(ends) or not math.isfinite(explained):
        return
    if (bound := _bound(explained, max(one.margin for one in ends))) is not None:
        text = f"{together[0].upper()}{together[1:]} together have {_in_words(bound)} of the effect ({explained:.0%} in the run)."
        yield {"text": text, **ends[0].entry, "effect": str(PathValue(sources, ends[0].path.legs)), **bound}


def _scored(result: SuiteResult) -> Iterator[Entry]:
    """What is left if only the circuit's nodes are kept, if the suite has scored it."""
    table, components = result.tables.get("scores"), result.summary.components
    if table is None or not components or not isinstance(table.provenance.get("task"), Mapping):
        return
    effects = {str(name): rows["effect"].to_numpy() for name, rows in table.frame.groupby("set", sort=False)}
    if not {"nothing kept", "circuit"} <= effects.keys():
        return
    whole = effects["nothing kept"]
    kept = PatchingTable.of([{}], (whole - effects["circuit"])[None], 0 * whole, whole, table.unit)
    [estimate] = ratios(kept, LEVEL)
    bound, metric = _bound(estimate.value, FAR * (estimate.value - estimate.low)), _metric(table)
    if bound is None or metric is None:
        return
    kinds = {component.node: parse_node(component.node).family for component in components}
    nodes = [node for node, family in kinds.items() if family == kinds[components[0].node]]
    yield {
        "text": f"If only the circuit is kept, {_in_words(bound, '.2f')} of the behaviour remains ({estimate.value:.2f} in the run).",
        "task": _task(table.provenance["task"]),
        "faithfulness": nodes,
        **_choices(table, metric, "logit_difference"),
        **bound,
    }


# --- discoveries ---------------------------------------------------------------------------------------------------------------


def _discovered(path: Path) -> Iterator[Entry]:
    """The faithfulness of the circuit that was found."""
    try:
        results = json.loads((path / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CircuitryError(f"the discovery in {path} is incomplete; run the same command to complete it") from error
    record = read_record(path)
    scores = results.get("scores")
    if not scores or not (path / "circuit.json").is_file():
        return
    value, (low, _) = scores["faithfulness"], scores["interval"]
    if (bound := _bound(value, FAR * (value - low))) is not None:
        yield {
            "text": f"The circuit of {scores['edges']} edges keeps {_in_words(bound, '.2f')} of the behaviour ({value:.2f} in the run).",
            "task": _task(record["task"]),
            "faithfulness": str((path / "circuit.json").resolve()),
            **bound,
        }


def _bound(value: float, margin: float) -> Entry | None:
    """A bound on the side of zero of a number, two digits; None if it would be zero or beyond."""
    if not math.isfinite(value) or not math.isfinite(margin):
        return None
    bound = _below(abs(value) - margin)
    if bound <= 0:
        return None
    return {"at_least": bound} if value > 0 else {"at_most": -bound}


def _in_words(bound: Entry, digits: str = ".0%") -> str:
    """What is checked, as the sentence of a claim says it."""
    [(side, number)] = bound.items()
    return f"{side.replace('_', ' ')} {number:{digits}}"


def _below(number: float) -> float:
    return math.floor(number * 100) / 100
