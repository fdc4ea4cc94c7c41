"""The page of effects of matched features, causal.html."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from ...drawing.inline import inline
from ...html.page import render
from ...prompting.record import words as task_in_words
from ...store.files import write_whole
from ...thresholds import EFFECTS_APART, LEVEL
from .agreement import MEASURES

if TYPE_CHECKING:
    from .result import Causal

SHOWN = 100
"""Pairs of the table on the page, those with the largest effects; the files have all."""


def write_page(found: Causal, folder: Path) -> Path:
    """Write causal.html into ``folder`` and return its path."""
    target = folder / "causal.html"
    write_whole(target, render("causal.html", package=__package__, **_contents(found, folder)))
    return target


def _contents(found: Causal, folder: Path) -> dict[str, Any]:
    """The values for the template."""
    main = found.frame[found.frame["comparison"] == next(iter(found.comparisons))]
    strongest = main[["effect_a", "effect_b"]].abs().max(axis=1).sort_values(ascending=False, kind="stable").index
    return {
        "record": found.record,
        "task": task_in_words(found.record.get("task")),
        "names": (found.main.a, found.main.b),
        "measures": MEASURES,
        "agreement": _by_bin(found.agreement),
        "differing": found.differing.to_dict("records"),
        "alike": found.alike,
        "pairs": main.loc[strongest[:SHOWN]].to_dict("records"),
        "all_pairs": len(main),
        "figure": Markup(inline(found.plot())),
        "saved": (folder / "figures" / "figure3-causes.svg").exists(),
        "apart": EFFECTS_APART,
        "confidence": LEVEL,
    }


def _by_bin(agreement: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for every comparison and bin, with its measures by name."""
    rows = []
    for (comparison, name), measures in agreement.groupby(["comparison", "bin"], sort=False):
        by_name = {row["measure"]: row for row in measures.to_dict("records")}
        rows.append({"comparison": comparison, "bin": name, "pairs": int(measures["pairs"].iloc[0]), "of": by_name})
    return rows
