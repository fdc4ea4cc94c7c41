"""What a discovery and the scores of a circuit of edges show in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..colours import number
from ..drawing.notebook import drawn
from ..html.formats import interval, percent, small
from ..html.glossary import found as terms_of
from ..html.output import Format, details, frame, heading, part

if TYPE_CHECKING:
    from .result import Discovery
    from .scores import EdgeScores


def of_discovery(found: Discovery) -> Iterator[Markup]:
    """What was ranked and verified, and the best cells; of nodes and latents also their picture.

    >>> import circuitry as ct
    >>> found = ct.discover(ct.load("bundled:mamba"), ct.task("induction", distance=4, examples=8), level="node", verify=0)
    >>> "nodes at positions" in "".join(of_discovery(found)), "<svg" in "".join(of_discovery(found))
    (True, True)
    """
    asked = found.question
    first, *rest = found.sentences()
    yield heading(f"{asked.task.name} in {asked.model.name}", first.partition(": ")[2])
    if rest:
        yield part("said", rest)
    if found.level != "edge" and found.cells(1):
        yield drawn(found.diagram())
    ranking = found.ranking
    if {"low", "high"} <= set(ranking):
        intervals = [interval(low, high) for low, high in zip(ranking["low"], ranking["high"], strict=True)]
        place = list(ranking).index("low")
        ranking = ranking.drop(columns=["low", "high"])
        ranking.insert(place, "95 % interval", intervals)
    formats: dict[str, Format] = {"attribution": number, "exact": number, "normalized": percent, "q": small}
    yield frame(ranking, formats)


def of_edge_scores(scores: EdgeScores) -> Iterator[Markup]:
    """The scores in sentences, and what each edge and each subset changes.

    >>> import numpy as np, pandas as pd
    >>> from circuitry.discovery.curve import Measured
    >>> from circuitry.discovery.scores import EdgeScores
    >>> change, gap = pd.DataFrame({"edge": ["embed -> mlp[0]"], "change": [0.2]}), pd.DataFrame({"gap": [0.1]})
    >>> ran = Measured(np.zeros((0, 2)), np.ones(2), np.zeros(2))
    >>> scores = EdgeScores(1, 0.9, (0.8, 1.0), 0.1, (0.0, 0.2), pd.DataFrame(), gap, change, [], ran)
    >>> "embed -&gt; mlp[0]" in "".join(of_edge_scores(scores))
    True
    """
    yield heading(f"scores of a circuit of {scores.edges} edges")
    yield part("said", scores.text().splitlines())
    yield part("defined", terms_of(scores.text()))
    yield details("minimality: what the removal of each edge changes", frame(scores.minimality))
    yield details("completeness: circuit and model without a subset", frame(scores.completeness))
