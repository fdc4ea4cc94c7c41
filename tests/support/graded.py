"""Measuring a graded model against its truth: every effect as a share of the whole effect of the corruption."""

from __future__ import annotations

from typing import Any

import pandas as pd

import circuitry as ct
from circuitry.compiled.graded import Graded
from circuitry.compiled.truth import GroundTruth
from support.compiled import Cell, edges, every_node, patched, possible_edges, where

LEAK, CLEAR = 1e-4, 0.01
"""A node of the truth has more than CLEAR of the whole effect, any other node less than LEAK."""
Shares = dict[Any, tuple[float, float]]
"""For each cell the least share by any example and the most."""


def loaded(made: Graded) -> ct.Model:
    return ct.load(made.hf, dtype="float64")


def shares(model: ct.Model, task: ct.Task, frame: pd.DataFrame, by: list[str]) -> Shares:
    """Effects as shares of the whole: the least counts the answer's logit and the logit difference, the most KL divergence too."""
    sizes = frame.assign(size=frame["effect"].abs() / frame["example"].map(whole(model, task)))
    least = sizes[sizes["metric"] != "kl"].groupby([*by, "example"])["size"].max().groupby(by).min()
    most = sizes.groupby(by)["size"].max()
    return {key: (float(least[key]), float(most[key])) for key in least.index}


def whole(model: ct.Model, task: ct.Task) -> pd.Series:
    """The effect of the corruption on the answer's logit or on the logit difference, whichever is larger, by example."""
    frame = patched(model, task, f"embed @ {task.options['corruption']} -> logits").frame
    sizes = frame[frame["metric"] != "kl"].assign(size=lambda rows: rows["effect"].abs())
    largest: pd.Series = sizes.groupby("example")["size"].max()
    return largest


def node_shares(model: ct.Model, task: ct.Task) -> Shares:
    """Of every node and port at every position."""
    return shares(model, task, every_node(model, task), ["node", "position"])


def path_shares(model: ct.Model, task: ct.Task, paths: list[str]) -> Shares:
    """Of paths, by their text."""
    return shares(model, task, patched(model, task, {path: path for path in paths}).frame, ["path"])


def wrong_nodes(model: ct.Model, task: ct.Task, made: Graded) -> dict[Cell, tuple[float, float]]:
    """Nodes that all copies share and that have no clear effect, nodes outside the truth that have one, and redundant ones that
    have the whole effect alone, or with a backup any effect."""
    corruption, named = task.options["corruption"], where(model, task)
    sites = made.truth.sites(corruption, named)
    redundant: set[Cell] = set().union(*made.redundant(corruption, named))
    measured, wrong = node_shares(model, task), {}
    alone = LEAK if made.redundancy == "backup" else 0.9
    for cell, (least, most) in measured.items():
        right = most < alone if cell in redundant else least > CLEAR if cell in sites else most < LEAK
        if not right:
            wrong[cell] = (least, most)
    return wrong | {cell: (0.0, 0.0) for cell in sites if cell not in measured and cell[0] != "logits"}


def idle(model: ct.Model, task: ct.Task, made: Graded) -> dict[Cell, float]:
    """Redundant nodes that add nothing clear to the effect of the other copy, and the last of a copy if both have not the whole."""
    pair = made.redundant(task.options["corruption"], where(model, task))
    if not pair or not all(pair):
        return {}
    ends, wrong = [max(_latest(cells)) for cells in pair], {}
    both = {(end, cell): _path(*sorted((end, cell))) for end, cells in zip(ends, pair[::-1], strict=True) for cell in cells}
    paths = {path: path for path in (*map(_path, ends), *both.values())}
    frame = patched(model, task, paths).frame
    effects = frame[frame["metric"] != "kl"].pivot(index=["example", "metric"], columns="path", values="effect")
    for (end, cell), path in both.items():
        added = (effects[path] - effects[_path(end)]).abs().groupby("example").max() / whole(model, task)
        if added.min() < CLEAR:
            wrong[cell] = float(added.min())
    together = effects[both[ends[0], ends[1]]].abs().groupby("example").max() / whole(model, task)
    return wrong if together.min() > 0.99 else wrong | dict.fromkeys(ends, 0.0)


def _path(*cells: Cell) -> str:
    sites = ", ".join(f"{node} @ {at}" for node, at in cells)
    return f"({sites}) -> logits" if len(cells) > 1 else f"{sites} -> logits"


def _latest(cells: set[Cell]) -> set[Cell]:
    end = max(position for _, position in cells)
    return {cell for cell in cells if cell[1] == end}


def wrong_edges(model: ct.Model, task: ct.Task, truth: GroundTruth) -> set[tuple[Cell, Cell]]:
    """Edges of the truth without a clear effect, and others between two nodes of the truth with one."""
    corruption, named = task.options["corruption"], where(model, task)
    true = edges(truth, corruption, named, model.graph)
    paths = {}
    for (a, s), (b, t) in sorted(true | possible_edges(truth, corruption, named, model.graph)):
        path = f"{a} @ {s} -> {b} @ {t} directly"
        paths[path if b == "logits" else f"{path} -> logits"] = ((a, s), (b, t))
    found = path_shares(model, task, list(paths))
    clear = {paths[path] for path, (least, _) in found.items() if least > CLEAR}
    some = {paths[path] for path, (_, most) in found.items() if most > LEAK}
    return (clear ^ true) | (some ^ true)
