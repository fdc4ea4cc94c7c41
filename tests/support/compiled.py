"""Measuring a compiled model against its ground truth: what every node, and every edge, of its graph does to the logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

import circuitry as ct
from circuitry.compiled import GroundTruth
from circuitry.compiled.truth import span
from circuitry.errors import PathError
from circuitry.paths import Node

NOTHING, MUCH = 1e-4, 5.0
"""An effect is none below, and large above, in logits; no effect lies between."""
METRICS = ["logit", "logit_difference", "kl"]
SMALL = 48
"""Tokens of a small vocabulary, for what takes long with the whole one: the construction is the same."""
DISTANCES = (2, 8, 32, 128, 256)
Cell = tuple[str, int]


def induction(corruption: str = "B", **options: Any) -> ct.Task:
    """Short prompts of the induction task: five tokens around the first [A][B]."""
    return ct.task("induction", **{"distance": 4, "prefix": 1, "examples": 2, "corruption": corruption, **options})


def ioi(corruption: str = "ABC", **options: Any) -> ct.Task:
    """Prompts of one wording of the IOI task, so that named positions are the same in all of them."""
    return ct.task("ioi", **{"corruption": corruption, "template": 0, "order": "ABBA", "examples": 2, **options})


def where(model: ct.Model, task: ct.Task) -> dict[str, int]:
    """The named positions, which must be the same in all examples."""
    named = task.prompts(model.vocabulary).where
    assert all(len(set(at.tolist())) == 1 for at in named.values())
    return {name: int(at[0]) for name, at in named.items()}


def effects(model: ct.Model, task: ct.Task) -> dict[Cell, tuple[float, float]]:
    """The least effect by any example on the answer's logit, and the most by any example and metric, of every node at every
    position: its value on the corrupted prompt is put in, and everything after it recomputed. Cells that cannot have one are left out.
    """
    return _extremes(every_node(model, task), ["node", "position"])


def every_node(model: ct.Model, task: ct.Task) -> pd.DataFrame:
    """These effects, one row for each node, position, example and metric."""
    positions = list(range(where(model, task)["END"] + 1))
    found = []
    for family in model.graph.families:
        for port in ("", *family.ports):
            indices = ",".join(f"{{{name}}}" for name in family.indices)
            path = f"{family.name}{indices and f'[{indices}]'}{port and '.' + port} @ {{position}} -> logits"
            try:
                frame = patched(model, task, path, axes={"position": positions}).frame
            except PathError:
                continue  # the logits themselves, and nodes that are nowhere on the way to END
            names = [str(Node(family.name, row, port or None)) for row in frame[list(family.indices)].itertuples(False, None)]
            found.append(frame.assign(node=names, position=frame["position"].astype(int)))
    whole: pd.DataFrame = pd.concat(found)
    return whole


def patched(model: ct.Model, task: ct.Task, path: Any, **options: Any) -> Any:
    """The effects of paths, by each of ``METRICS``."""
    return ct.patch(model, task, path, metric=METRICS, baseline=0, lint=False, **options)


def _extremes(frame: pd.DataFrame, by: list[str]) -> dict[Any, tuple[float, float]]:
    sizes = frame.assign(size=frame["effect"].abs())
    least = sizes[sizes["metric"] == "logit"].groupby(by)["size"].min()
    most = sizes.groupby(by)["size"].max()
    return {key: (float(least[key]), float(most[key])) for key in least.index}


def wrong_nodes(model: ct.Model, task: ct.Task, truth: GroundTruth) -> list[Cell]:
    """Nodes of the truth without a large effect, and all others with any."""
    sites = truth.sites(task.options["corruption"], where(model, task))
    measured = effects(model, task)
    wrong = [cell for cell, (least, most) in measured.items() if (least < MUCH if cell in sites else most > NOTHING)]
    return wrong + [cell for cell in sites if cell not in measured and cell[0] != "logits"]


def edges(truth: GroundTruth, corruption: str, named: dict[str, int], graph: ct.Graph) -> set[tuple[Cell, Cell]]:
    """The truth's edges between numbered positions. Raises KeyError for one that the graph does not have."""
    found = set()
    for edge in truth.edges:
        if edge.corruption == corruption:
            (source, first), (target, second) = (site.split(" @ ") for site in (edge.source, edge.target))
            rule = graph.nx.edges[graph.node(source), graph.node(target)]["rule"]
            pairs = {(s, t) for s in span(first, named) for t in span(second, named) if rule.reaches(t - s)}
            assert pairs, edge
            found |= {((source, s), (target, t)) for s, t in pairs}
    return found


def possible_edges(truth: GroundTruth, corruption: str, named: dict[str, int], graph: ct.Graph) -> set[tuple[Cell, Cell]]:
    """Every edge of the graph between two nodes that matter."""
    sites: dict[Node, list[int]] = {}
    for name, at in truth.sites(corruption, named):
        sites.setdefault(graph.node(name), []).append(at)
    return {
        ((str(source), s), (str(target), t))
        for source, target, rule in graph.edges
        for s in sites.get(source, ())
        for t in sites.get(target, ())
        if rule.reaches(t - s)
    }


def edge_effects(model: ct.Model, task: ct.Task, cells: set[tuple[Cell, Cell]]) -> dict[tuple[Cell, Cell], tuple[float, float]]:
    """As ``effects``, of what the source of each edge does to its target along that edge."""
    paths = {f"{a} @ {s} -> {b} @ {t} directly": ((a, s), (b, t)) for (a, s), (b, t) in sorted(cells)}
    table = patched(model, task, {name: name if "logits" in name else f"{name} -> logits" for name in paths})
    return {paths[name]: both for name, both in _extremes(table.frame, ["path"]).items()}


def doubled(tokens: int, distance: int, seed: int = 0) -> torch.Tensor:
    """Prompts [prompt, 2 * distance] of all different tokens, then the same again, that together hold every token."""
    order = np.random.default_rng(seed).permutation(tokens)
    return torch.from_numpy(np.resize(order, (-(-tokens // distance), distance))).repeat(1, 2)


@torch.no_grad()
def induced(model: ct.Model, distance: int) -> Iterator[tuple[int, bool, float]]:
    """Every token as [A] at a distance: the token, whether the model answers with what followed it, and by how much.

    Each token of the second half of ``doubled`` prompts is a second [A]; what followed it is the token after it in the circle.
    """
    ids = doubled(model.hf.config.vocab_size, distance)
    logits = model.hf(ids, use_cache=False).logits[:, distance:].flatten(0, 1)
    answer = ids[:, :distance].roll(-1, 1).flatten()[:, None]
    margin = logits.gather(1, answer)[:, 0] - logits.scatter(1, answer, -torch.inf).max(1).values
    yield from zip(ids[:, distance:].flatten().tolist(), (margin > 0).tolist(), margin.tolist(), strict=True)
