"""The circuit of a discovery with every edge that a threshold can show, the curve, and the table's exact effects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..reports.run import Run
from ..thresholds import SIGNIFICANT

_MEASURED = ("exact", "low", "high", "normalized", "q")
_CURVE = ("fraction", "faithfulness", "low", "high", "random", "random_low", "random_high")


def discovered(run: Run, results: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of a discovery shows, from ``results.json`` and ``explorer.json``.

    Without the latter, of an earlier version, there are only the edges of the folder's circuit.

    >>> made = discovered(Run(None, {}, {}), {"unit": "logit", "whole": -2.0, "level": "edge"}, {})
    >>> made["unit"], made["whole"], made["edges"]
    ('logit', -2.0, [])
    """
    level = str(results.get("level", "edge"))
    nodes, edges, inside = _parts(run, seen)
    _verify(level, nodes if level != "edge" else edges, run, results)
    used = {node["position"] for node in nodes}
    return {
        "level": level,
        "unit": results.get("unit", ""),
        "whole": results.get("whole"),
        "whole_by_prompt": seen.get("whole", []),
        "examples": seen.get("examples", []),
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
        return (
            [dict(node) for node in seen["nodes"]],
            [dict(cell) for cell in seen.get("cells", [])],
            list(seen.get("inside", [])),
        )
    if run.circuit is None:
        return [], [], []
    nodes = [
        {"name": n.name, "position": n.position, "depth": n.depth, "role": n.role, "note": n.note} for n in run.circuit.nodes
    ]
    arrows = [e for e in run.circuit.edges if math.isfinite(e.effect)]
    edges = [
        {
            "edge": _text(e.source, e.target),
            "position": e.source.rpartition(" @ ")[2],
            "source": e.source,
            "target": e.target,
            "effect": e.effect,
            "kind": "",
        }
        for e in sorted(arrows, key=lambda e: -abs(e.effect))
    ]
    return nodes, edges, [[e.source, e.target] for e in run.circuit.edges if not math.isfinite(e.effect)]


def _text(source: str, target: str) -> str:
    return f"{source.rpartition(' @ ')[0]} -> {target.rpartition(' @ ')[0]}"


def _positions(run: Run, seen: Mapping[str, Any]) -> list[str]:
    """The positions in the order of the text."""
    drawn = run.circuit.positions if run.circuit else ()
    return list(seen.get("positions") or drawn)


def _verify(level: str, items: list[dict[str, Any]], run: Run, results: Mapping[str, Any]) -> None:
    """Add to edges, nodes or latents what the ranking and the table say of them: exact effects, and effects by prompt."""
    ranking = {(row[level], row["position"]): row for row in results.get("ranking", [])}
    exact, estimated = (_by_prompt(run, level, measure) for measure in ("exact", "attribution"))
    for item in items:
        cell = (str(item["edge"] if level == "edge" else item["name"].rpartition(" @ ")[0]), str(item["position"]))
        row = ranking.get(cell, {})
        item |= {name: row[name] for name in _MEASURED if name in row}
        if "attribution" in row:
            item["effect"] = row["attribution"]
        if cell in exact:
            item["exact_by_prompt"] = exact[cell]
        if "prompts" not in item and cell in estimated:
            item["prompts"] = estimated[cell]["effects"]


def _by_prompt(run: Run, level: str, measure: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The effects of the table's cells by prompt: attributions, or exact effects, which are of other prompts."""
    table = run.tables.get("discovery")
    if table is None or "measure" not in table.frame:
        return {}
    rows = table.frame[table.frame["measure"] == measure]
    groups = rows.groupby([level, "position"], sort=False)
    return {
        (str(item), str(position)): {"examples": part["example"].tolist(), "effects": part["effect"].tolist()}
        for (item, position), part in groups
    }


def _scored(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the circuit of the folder keeps, which is scored beside the curve."""
    scores = results.get("scores")
    if not scores:
        return None
    return {"size": results["edges"], **{name: scores[name] for name in ("faithfulness", "interval", "complement")}}


def _curve(results: Mapping[str, Any], level: str) -> dict[str, Any] | None:
    curve = results.get("curve")
    if not curve:
        return None
    frame = curve["frame"]
    return {"sizes": frame[f"{level}s"], **{name: frame[name] for name in _CURVE}}
