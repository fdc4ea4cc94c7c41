"""The circuit of a discovery with every edge that a threshold can show, the curve, and the table's exact effects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..reports.run import Run
from ..thresholds import SIGNIFICANT

_CURVE = ("fraction", "faithfulness", "low", "high", "random", "random_low", "random_high")


def discovered(run: Run, results: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of a discovery shows, from ``results.json`` and ``explorer.json``.

    Without the latter, of an earlier version, there are only the edges of the folder's circuit.

    >>> made = discovered(Run(None, {}, {}), {"unit": "logit", "whole": -2.0, "level": "edge"}, {})
    >>> made["unit"], made["whole"], made["edges"]
    ('logit', -2.0, [])
    """
    level = str(results.get("level", "edge"))
    ranking = {(row[level], row["position"]): row for row in results.get("ranking", [])}
    exact = _exact(run, level)
    nodes, edges, inside = _parts(run, seen)
    for edge in edges:
        edge |= _verified(ranking.get((edge["edge"], edge["position"]), {}), exact.get((edge["edge"], edge["position"])))
    for node in nodes:
        node |= _verified(ranking.get((str(node["name"]).rpartition(" @ ")[0], node["position"]), {}), None) if level != "edge" else {}
    used = {node["position"] for node in nodes}
    return {
        "level": level,
        "unit": results.get("unit", ""),
        "whole": results.get("whole"),
        "whole_by_prompt": seen.get("whole", []),
        "examples": [prompt["number"] for prompt in seen.get("prompts", [])],
        "measure": f"attribution by {run.provenance.get('settings', {}).get('method', 'gradient')}",
        "threshold": SIGNIFICANT,
        "start": int(results.get("edges") or 0),
        "scored": _scored(results),
        "positions": [name for name in _positions(run, seen) if name in used],
        "nodes": nodes,
        "edges": edges,
        "inside": inside,
        "curve": _curve(results, level),
        "profiles": seen.get("profiles", {}),
        "contexts": results.get("firing", []),
        "tables": [],
        "rows": [],
    }


def _parts(run: Run, seen: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[list[str]]]:
    """Nodes, edges in the order of their ranking, and the joints inside blocks."""
    if seen.get("nodes"):
        return [dict(node) for node in seen["nodes"]], [dict(cell) for cell in seen.get("cells", [])], list(seen.get("inside", []))
    if run.circuit is None:
        return [], [], []
    nodes = [{"name": n.name, "position": n.position, "depth": n.depth, "role": n.role, "note": n.note} for n in run.circuit.nodes]
    arrows = [e for e in run.circuit.edges if math.isfinite(e.effect)]
    edges = [
        {"edge": _text(e.source, e.target), "position": e.source.rpartition(" @ ")[2], "source": e.source, "target": e.target, "effect": e.effect, "kind": ""}
        for e in sorted(arrows, key=lambda e: -abs(e.effect))
    ]
    return nodes, edges, [[e.source, e.target] for e in run.circuit.edges if not math.isfinite(e.effect)]


def _text(source: str, target: str) -> str:
    return f"{source.rpartition(' @ ')[0]} -> {target.rpartition(' @ ')[0]}"


def _positions(run: Run, seen: Mapping[str, Any]) -> list[str]:
    """The positions in the order of the text."""
    profile = next(iter(seen.get("profiles", {}).values()), None)
    if profile is not None:
        return list(profile["positions"])
    drawn = run.circuit.positions if run.circuit else ()
    return list(dict.fromkeys([*drawn, *(node["position"] for node in seen.get("nodes", []))]))


def _verified(row: Mapping[str, Any], by_prompt: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the ranking says of an edge: its exact effect with its interval, if it was patched."""
    found = {name: row[name] for name in ("exact", "low", "high", "normalized", "q", "label") if name in row}
    if "attribution" in row:
        found["effect"] = row["attribution"]
    return {**found, **({"exact_by_prompt": by_prompt} if by_prompt else {})}


def _exact(run: Run, level: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The exact effects of every verified cell by prompt, from the table."""
    table = run.tables.get("discovery")
    if table is None or "measure" not in table.frame:
        return {}
    rows = table.frame[table.frame["measure"] == "exact"]
    groups = rows.groupby([level, "position"], sort=False)
    return {
        (str(item), str(position)): {"examples": part["example"].tolist(), "effects": part["effect"].tolist()}
        for (item, position), part in groups
    }


def _scored(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the circuit of the folder keeps, which is scored beside the curve."""
    scores = results.get("scores")
    return {"size": results["edges"], **{name: scores[name] for name in ("faithfulness", "interval", "complement")}} if scores else None


def _curve(results: Mapping[str, Any], level: str) -> dict[str, Any] | None:
    curve = results.get("curve")
    if not curve:
        return None
    frame = curve["frame"]
    return {"sizes": frame[f"{level}s"], **{name: frame[name] for name in _CURVE}}
