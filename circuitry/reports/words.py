"""A run in sentences: its findings, and a paragraph of methods to paste into a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..html.formats import percent
from ..prompting import record
from ..results import writing
from ..results.recorded import paths_of
from ..results.table import PatchingTable
from .run import Run

_DIRECTIONS = {
    "clean": "the clean run is patched with what the corrupted one has (noising)",
    "corrupted": "the corrupted run is patched with what the clean one has (denoising)",
}


def findings(summary: Mapping[str, Any]) -> list[str]:
    """The summary in sentences: the number of components, what they explain together, and the write position.

    >>> findings({"components": [], "explained": 0.0, "offsets": {}, "offset": "none"})
    ['No component reached the threshold.', 'No write position was found.']
    """
    components = summary.get("components") or []
    sentences = []
    if components:
        # A node with several roles or positions is listed several times; without the position it counts once.
        nodes = {re.sub(r" @ [^,)]+", "", str(component["node"])) for component in components}
        single, share = len(nodes) == 1, percent(summary.get("explained"))
        carried = "One component carries the behaviour" if single else f"{len(nodes)} components carry the behaviour"
        who = "it has" if single else writing.having(summary.get("together") or "these")
        sentences.append(f"{carried}; {who} {share} of the whole effect." if share else f"{carried}.")
    elif undecided := summary.get("undecided"):
        sentences.append(f"Too few examples to tell: {_sentence(str(undecided))}")
    else:
        sentences.append("No component reached the threshold.")
    if verdict := summary.get("verdict"):
        sentences += [_sentence(line) for line in str(verdict).splitlines() if line.strip()]
    elif (offsets := summary.get("offsets")) is None:
        pass  # not measured
    elif offsets:
        strong = ", ".join(f"{name} {percent(share)}" for name, share in offsets.items() if share >= 0.005)
        sentences.append(f"Most of it is written at {summary.get('offset') or max(offsets, key=offsets.get)} ({strong}).")
    else:
        sentences.append("No write position was found.")
    return sentences


def methods(run: Run) -> str:
    """How the numbers were computed, as a paragraph to paste. It contains only what the run itself recorded.

    >>> from pathlib import Path
    >>> methods(Run(Path("r"), {"suite": "ioi", "model": "bundled:mamba", "state": "complete", "tables": []}, {}))[:60]
    'Circuits of bundled:mamba were measured with the suite ioi o'
    """
    provenance, tables = run.provenance, list(run.tables.values())
    sentences = [_model(provenance), _task(provenance, tables)]
    if tables:
        sentences += [
            _intervention(tables),
            _frozen(tables),
            _metric(tables),
            *_statistics(tables),
            _executor(provenance, tables),
        ]
    sentences.append(_software(provenance))
    return " ".join(sentence for sentence in sentences if sentence)


def _model(provenance: Mapping[str, Any]) -> str:
    size = f"{provenance['parameters']:,} parameters" if provenance.get("parameters") else ""
    facts = ", ".join(
        str(fact) for fact in (provenance.get("architecture"), size, provenance.get("dtype"), provenance.get("device")) if fact
    )
    text = f"Circuits of {provenance['model']}{f' ({facts})' if facts else ''} were measured with"
    text += f" the suite {provenance['suite']} of" if provenance.get("suite") else ""
    version = str(provenance.get("versions", {}).get("circuitry-lm", ""))
    text += f" circuitry {version}" if version[:1].isdigit() else " circuitry"  # a checkout on the path has no version
    return f"{text}: {_sentence(str(provenance['description']))}" if provenance.get("description") else f"{text}."


def _task(provenance: Mapping[str, Any], tables: list[PatchingTable]) -> str:
    settings = provenance.get("settings", {})
    counts = sorted({int(table.frame["example"].nunique()) for table in tables})
    number = _range(counts) if counts else str(settings.get("examples", ""))
    seed = settings.get("seed", next((table.provenance["seed"] for table in tables if "seed" in table.provenance), None))
    task = _posed(provenance, tables)
    more = ", ".join(f"{k} {_plain(v)}" for k, v in settings.items() if k not in ("examples", "seed") and f"{k}=" not in task)
    facts = [task]
    facts += [f"{number} pairs of a clean and a corrupted prompt in every cell" if number else ""]
    facts += [f"seed {seed}" if seed is not None else "", f"settings: {more}" if more else ""]
    text = "; ".join(fact for fact in facts if fact)
    return f"Prompts: {text}." if text else ""


def _posed(provenance: Mapping[str, Any], tables: list[PatchingTable]) -> str:
    """The task with its options; an option that differs between tables, or between the cells of one, lists all its values."""
    recorded = [table.provenance["task"] for table in tables if "task" in table.provenance] or [provenance.get("task")]
    tasks = [entry for task in recorded for entry in (task if isinstance(task, list) else [task])]
    names = _distinct(task["name"] for task in tasks if isinstance(task, Mapping))
    options: dict[str, list[str]] = {}
    for task in tasks:
        for option, values in record.settings(task).items():
            options.setdefault(option, []).extend(map(repr, values))
    for table in tables:
        for axis in set(table.axes) & set(options):
            options[axis] += [repr(value) for value in table.frame[axis].unique().tolist()]
    listed = ", ".join(f"{option}={' or '.join(_distinct(values))}" for option, values in options.items())
    return f"task {' and '.join(names)}" + (f" ({listed})" if listed else "") if names else record.text(tasks[0])


def _intervention(tables: list[PatchingTable]) -> str:
    provenances = [provenance for table in tables if "intervention" in (provenance := table.provenance)]
    replacements = _distinct(
        provenance.get("source_becomes") or f"what {provenance['intervention']} ablation puts there" for provenance in provenances
    )
    directions = _distinct(_DIRECTIONS.get(str(base), str(base)) for base in _recorded(tables, "base"))
    text = f"The source of a path is set to {' or '.join(replacements)}" if replacements else ""
    return f"{text}{'; ' if text and directions else ''}{'; '.join(directions)}." if text or directions else ""


def _frozen(tables: list[PatchingTable]) -> str:
    """The nodes that any path of the run freezes, in words."""
    frozen: dict[str, None] = {}
    for table in tables:
        legs = [leg for path in paths_of(table.provenance).values() for leg in path.legs]
        frozen |= dict.fromkeys(str(node) for leg in legs for node in leg.frozen)
        frozen |= dict.fromkeys("everything between the ends of a direct path" for leg in legs if leg.directly)
    if not frozen:
        return "Nothing is frozen: everything after the source is recomputed."
    return f"Frozen at the unpatched value at all positions, as each path states: {', '.join(frozen)}; everything else is recomputed."


def _metric(tables: list[PatchingTable]) -> str:
    units = ", ".join(_distinct(table.unit for table in tables))
    return f"Effects are given as {units}; a normalized effect is the mean effect divided by that of exchanging the whole input."


def _statistics(tables: list[PatchingTable]) -> list[str]:
    sentences = [
        "Intervals are 95 % bootstrap intervals of the mean over prompts.",
    ]
    signs = [bool(signed) for table in tables for signed in table.signed()]
    if any(signs):
        sentences.append(
            "Each mean is tested against zero by a two-sided sign-flip permutation test and by Johnson's t test, which allows for "
            "skewness; q is the larger p value after Benjamini and Hochberg over all cells of the table, and cells with q < 0.05 "
            "count as found. No q is given where outliers as other cells have them may be missing among a cell's prompts."
        )
    if not all(signs):
        sentences.append("Divergences and distances are never negative, so they are not tested against zero.")
    draws = sorted({int(table.random["draw"].nunique()) for table in tables if table.random is not None})
    if draws:
        sentences.append(f"Effects are compared with those of {_range(draws)} randomly drawn nodes, patched the same way.")
    return sentences


def _executor(provenance: Mapping[str, Any], tables: list[PatchingTable]) -> str:
    ran = _recorded(tables, "executor")  # older tables do not name theirs
    if ran == ["reference"] or provenance.get("settings", {}).get("engine") == "reference":
        return "Paths were run by the independent reference, one cell at a time."
    return (
        "Paths were run on nnsight; each experiment first checked that patching nothing gives the unpatched run, that patching "
        "the whole input gives the other run, and that every hook point was reached."
    )


def _software(provenance: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in provenance.get("versions", {}).items())
    return f"Versions: {versions}." if versions else ""


def _recorded(tables: list[PatchingTable], key: str) -> list[Any]:
    return _distinct(table.provenance[key] for table in tables if key in table.provenance)


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _range(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _sentence(text: str) -> str:
    """The text with one full stop at its end."""
    return re.sub(r"[.\s]*$", "", text) + "."
