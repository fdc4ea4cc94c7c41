"""What offsets, scores and the sensitivity of a finding show in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..colours import number
from ..html.formats import interval, percent, small
from ..html.glossary import found as terms_of
from ..html.output import Format, caption, code, details, frame, heading, part, table
from .write_profile import position_name

if TYPE_CHECKING:
    from .grid import Sensitivity
    from .offsets_result import Offsets
    from .scores import Scores


def of_offsets(offsets: Offsets) -> Iterator[Markup]:
    """A sentence for each model, and the shares at each offset.

    >>> import pandas as pd
    >>> from circuitry.evidence.offsets_result import Offsets, Verdict
    >>> verdict = Verdict("m", "mamba", "all", "none", (), (), (), (), 0.0, "m: none")
    >>> frame = pd.DataFrame(columns=["model", "layer", "offset", "share", "low", "high", "effect", "q"])
    >>> "m: none" in "".join(of_offsets(Offsets("B", frame, (verdict,), {})))
    True
    """
    yield heading(f"where {offsets.token} is written")
    if sentences := offsets.text().splitlines():
        yield part("said", sentences)
    rows = offsets.frame[offsets.frame["layer"] == "all"].to_dict("records") if "layer" in offsets.frame else []
    columns = ["model", "written at", "share", "95 % interval", "effect", "q"]
    formats: dict[str, Format] = {"share": percent, "effect": percent, "q": small}
    yield table(
        columns,
        [
            [row["model"], position_name(offsets.token, int(row["offset"])), row["share"],
             f"{percent(row['low'])} to {percent(row['high'])}" if row["low"] == row["low"] else "", row["effect"], row["q"]]
            for row in rows
        ],
        formats,
    )  # fmt: skip
    yield caption("share: of what is written at all offsets; effect: normalized, 100 % is that of exchanging the whole prompt")


def of_scores(scores: Scores) -> Iterator[Markup]:
    """The scores in sentences, and what each node and each subset changes.

    >>> import numpy as np, pandas as pd
    >>> from circuitry.evidence.scores import Scores
    >>> from circuitry.results.table import PatchingTable
    >>> table = PatchingTable.of([{"set": "circuit"}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
    >>> change, gap = pd.DataFrame({"node": ["head[0,1]"], "change": [0.2]}), pd.DataFrame({"without": ["half 1"], "gap": [0.1]})
    >>> "head[0,1]" in "".join(of_scores(Scores({"mover": ["head[0,1]"]}, 0.9, (0.8, 1.0), [], gap, change, [], table)))
    True
    """
    yield heading("scores of a circuit", ", ".join(f"{role}: {', '.join(nodes)}" for role, nodes in scores.roles.items()))
    yield part("said", scores.text().splitlines())
    yield part("defined", terms_of(scores.text()))
    yield details("minimality: what the removal of each node changes", frame(scores.minimality))
    yield details("completeness: circuit and model without a subset", frame(scores.completeness))


def of_sensitivity(found: Sensitivity) -> Iterator[Markup]:
    """In how many settings the finding holds, and a row for each.

    >>> import pandas as pd
    >>> from circuitry.evidence.grid import Sensitivity
    >>> settings = {"ablation": ["zero"], "direction": "noising", "frozen": "as written", "metric": "logit", "holds": [True]}
    >>> "1 of 1 settings" in "".join(of_sensitivity(Sensitivity("p", 3, pd.DataFrame(settings))))
    True
    """
    first, *rest = found.text().splitlines()
    yield code(first)
    yield part("said", rest)
    data = found.frame.copy()
    if {"low", "high"} <= set(data):
        intervals = [interval(low, high) for low, high in zip(data["low"], data["high"], strict=True)]
        data.insert(list(data).index("low"), "95 % interval", intervals)
        data = data.drop(columns=["low", "high"])
    formats: dict[str, Format] = {
        "normalized": percent,
        "effect": number,
        "q": small,
        "holds": lambda holds: "yes" if holds else "no",
    }
    yield frame(data, formats)
