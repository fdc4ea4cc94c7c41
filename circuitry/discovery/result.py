"""What was discovered: the ranking, its verification, and the circuits that follow from it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..drawing.circuit import Circuit
from ..errors import CircuitryError, whole
from ..html.shown import Shown
from ..prompting.texts import PromptTexts
from ..results.statistics import all_or_none, resampling
from ..results.table import PatchingTable
from ..results.top_1 import below_threshold
from ..thresholds import SIGNIFICANT
from .circuit import Cell, EdgeCircuit, edge_circuit, node_circuit
from .curve import Curve, curve, first, ordered
from .kinds import kind
from .latents import in_words, shares
from .question import PLURAL, Question, Scores
from .saving import SHOWN, save
from .wiring import edge

if TYPE_CHECKING:
    from markupsafe import Markup

DRAWN = 24
"""How many nodes or latents a diagram shows, if nobody says."""


@dataclass
class Discovery(Shown):
    """Edges (or nodes, or latents and errors) at positions, ranked by attribution, and the exact effects of the best.

    ``scores`` [example, item, label] are the attributions on the prompts of ``question``; ``exact`` has the effects of the verified
    cells on the prompts of ``confirming``, which are others unless ``confirm=False``. ``provenance`` says how both were made.
    """

    question: Question
    confirming: Question
    method: str
    scores: Scores
    exact: Mapping[tuple[int, int], NDArray[np.float64]]
    ends: tuple[NDArray[np.float64], NDArray[np.float64]]
    provenance: dict[str, Any] = field(default_factory=dict)

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_discovery

        return of_discovery(self)

    def __repr__(self) -> str:
        return self.text()

    @property
    def level(self) -> str:
        """What is ranked: "edge", "node" or "latent", which are latents and errors."""
        return self.question.level

    @functools.cached_property
    def mean(self) -> NDArray[np.float64]:
        """The mean attribution [item, label]."""
        return np.asarray(self.scores.mean(0, dtype=np.float64))

    @property
    def carried(self) -> NDArray[np.float64]:
        """The mean attribution [item, label], positive where it has the sign of the whole effect."""
        return self.mean if self.whole >= 0 else -self.mean

    def cells(self, count: int, *, absolute: bool = True) -> list[tuple[int, int]]:
        """The numbers (item, label) of the ``count`` best cells, without those whose attribution is zero.

        The best are the largest, or with ``absolute=False`` those that carry most of the whole effect.
        """
        scores = self._ranked(self.carried)
        every = zip(*np.unravel_index(ordered(scores, absolute)[:count], scores.shape), strict=True)
        return [(int(item), int(label)) for item, label in every if scores[item, label] != 0]

    def _ranked(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Scores [item, label] with zeros for what is not ranked."""
        return np.where(self.question.ranked[:, None], scores, 0)

    @property
    def size(self) -> int:
        """How many cells are ranked: items times positions."""
        return int(self.question.ranked.sum()) * len(self.question.labels)

    def name(self, cell: tuple[int, int]) -> Cell:
        """An item and a position as text."""
        return str(self.question.items[cell[0]]), self.question.labels.names[cell[1]]

    @functools.cached_property
    def table(self) -> PatchingTable:
        """The best cells: axes ``edge`` (or ``node``, ``latent``), ``position`` and ``measure``, which is "attribution" or, where it was verified, "exact"."""
        chosen = list(dict.fromkeys([*self.cells(max(SHOWN, len(self.exact))), *self.exact]))
        if not chosen:
            raise CircuitryError(
                f"no {self.level} has an attribution other than zero, so there is nothing to show; does the model do the task?"
            )
        columns: list[pd.DataFrame] = []
        for cell in chosen:
            item, position = self.name(cell)
            measures: dict[str, tuple[Question, NDArray[Any]]] = {
                "attribution": (self.question, self.scores[:, cell[0], cell[1]])
            }
            if cell in self.exact:
                measures["exact"] = (self.confirming, self.exact[cell])
            for measure, (asked, effects) in measures.items():
                rows = {self.level: item, "position": position, "measure": measure, "example": asked.numbers, "effect": effects}
                columns.append(pd.DataFrame(rows | dict(zip(("base", "source"), self._ends(asked), strict=True))))
        axes = (self.level, "position", "measure")
        frame, unit = pd.concat(columns, ignore_index=True), self.question.metric.unit
        asked_of = {"attribution": self.question, **({"exact": self.confirming} if self.exact else {})}
        return PatchingTable(frame, axes, unit, self.provenance, prompts=_prompts(asked_of))

    def _ends(self, asked: Question) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.ends[0][asked.numbers], self.ends[1][asked.numbers]

    @functools.cached_property
    def ranking(self) -> pd.DataFrame:
        """The best cells, one in a row: ``edge`` (or ``node``, ``latent``), ``position``, ``kind``, for latents their ``label`` if there are any, ``attribution`` and, where verified, ``exact`` with its
        interval (``low``, ``high``), ``normalized`` and ``q``."""
        table, statistics = self.table, self.table.statistics()
        rows = []
        for cell in dict.fromkeys(zip(table.frame[self.level], table.frame["position"], strict=True)):
            row = {self.level: cell[0], "position": cell[1], "kind": self._kind(cell[0]), **self._label(cell[0])}
            row["attribution"] = statistics.loc[(*cell, "attribution"), "mean"]
            if (*cell, "exact") in statistics.index:
                exact = self._tested.loc[cell]
                row |= {"exact": exact["mean"], **{k: exact[k] for k in ("low", "high", "normalized", "q")}}
            rows.append(row)
        return pd.DataFrame(rows)

    @functools.cached_property
    def _tested(self) -> pd.DataFrame:
        """Statistics of the verified cells alone: q is over these, which were chosen on other prompts."""
        return self.table.select("measure", "exact").statistics()

    def _label(self, text: str) -> dict[str, str]:
        """The label of a latent, if any latent of the model has one."""
        labels = self.provenance.get("labels", {})
        return {"label": labels.get(text, "")} if labels else {}

    def _kind(self, text: str) -> str:
        graph = self.question.wiring.graph
        return kind(graph, edge(text) if self.level == "edge" else graph.node(text))

    @property
    def found(self) -> pd.DataFrame:
        """The verified cells whose exact effect is significant (q < .05 over all that were verified)."""
        return self.ranking[self.ranking["q"] < SIGNIFICANT] if "q" in self.ranking else self.ranking.iloc[:0]

    @functools.cached_property
    def agreement(self) -> pd.DataFrame:
        """How attribution and exact effects agree, by ``kind`` of edge and for "all": ``cells``, Pearson's ``r``, the ``slope`` of the
        exact effects on the attributions, and the mean absolute ``error`` relative to the mean size of the exact effects."""
        if not self.exact:
            raise CircuitryError("no cell was verified, so nothing can be compared; use verify=")
        rows = self.ranking.dropna(subset=["exact"])
        parts = {"all": rows, **{str(name): part for name, part in rows.groupby("kind", sort=False)}}
        return pd.DataFrame([{"kind": name, **_agreement(part)} for name, part in parts.items()])

    def circuit(
        self, edges: int | None = None, *, threshold: float | None = None, absolute: bool = True, prune: bool = True
    ) -> EdgeCircuit:
        """The circuit of the best ``edges``, or of those whose attribution is at least ``threshold`` of the whole effect.

        ``prune`` leaves out edges that are on no way from the embedding to the logits, so there may be fewer. Raises CircuitryError for a
        discovery of nodes or latents, and unless one of the two is given.
        """
        if self.level != "edge":
            raise CircuitryError(f"these are {self.level}s, and a circuit is made of edges; discover with level='edge'")
        if (edges is None) == (threshold is None):
            raise CircuitryError("give either edges= (how many) or threshold= (a fraction of the whole effect)")
        if edges is None:
            assert threshold is not None
            size = np.abs(self.mean) if absolute else self.carried
            edges = int((size >= threshold * abs(self.whole)).sum())
        effects = {self.name(cell): float(self.mean[cell]) for cell in self.cells(edges, absolute=absolute)}
        title = f"{self.question.task.name} in {self.question.model.name}: {self.method}, best {len(effects)} edges"
        unit, labels = self.question.metric.unit, self.question.labels
        return edge_circuit(self.question.wiring, effects, labels, title=title, unit=unit, prune=prune, whole=self.whole)

    def diagram(self, count: int = DRAWN) -> Circuit:
        """The ``count`` best nodes, or latents and errors, at positions with their attributions, and the labels of latents, as a picture.

        Positions are across and layers upwards. It has no edges, so it can be drawn and not scored. Raises CircuitryError for a
        discovery of edges, and for less than one.

        >>> import circuitry as ct
        >>> found = ct.discover(ct.load("bundled:mamba"), ct.task("induction", distance=4, examples=8), level="node", verify=0)
        >>> len(found.diagram(5).nodes)
        5
        """
        if self.level == "edge":
            raise CircuitryError("these are edges, which are drawn with the nodes that they join; use circuit()")
        cells = self.cells(whole("count", count, 1))
        effects = {self.name(cell): float(self.mean[cell]) for cell in cells}
        title = f"{self.question.task.name} in {self.question.model.name}: {self.method}, best {len(cells)} {PLURAL[self.level]}"
        graph, unit = self.question.wiring.graph, self.question.metric.unit
        names, notes = self.question.labels.names, self.provenance.get("labels", {})
        return node_circuit(graph, effects, notes, names, title=title, unit=unit, whole=self.whole)

    @property
    def whole(self) -> float:
        """The mean effect of exchanging the whole prompt."""
        return float((self.ends[1] - self.ends[0]).mean())

    @functools.cached_property
    def curve(self) -> Curve:
        """Faithfulness by circuit size on the confirming prompts, ranked by magnitude, with random circuits; ``curves`` has options.

        A circuit of latents keeps these latents and errors at these positions; all other latents, and errors, of the nodes that have
        an autoencoder take their corrupted values. The rest of the model is computed from there, so if ways lead past these nodes, a
        circuit of nothing has more than 0.
        """
        return self.curves()

    def curves(self, **options: Any) -> Curve:
        """The same with other ``fractions``, ``random``, ``absolute`` or ``scale``. Raises CircuitryError for a discovery of nodes."""
        if self.level == "node":
            raise CircuitryError("these are nodes, and a curve is of edges or latents; discover with level='edge'")
        return curve(self.confirming, self._ranked(self.carried), **options)

    @property
    def shares(self) -> pd.DataFrame:
        """How the attribution of each node with an autoencoder divides, by ``position`` and for "all".

        ``attribution`` is that of the ``node``, the sum of ``latents`` (all of them; ``ranked``: those that are items here) and
        ``error``; ``error_share`` is the error's part of it. Each may have either sign. Raises CircuitryError for edges and nodes.
        """
        if self.level != "latent":
            raise CircuitryError(f"these are {self.level}s, which have no latents; discover with features=True")
        return shares(self.question, self.mean)

    def paths(self, count: int = 10, edges: int = 200) -> pd.DataFrame:
        """The strongest paths from the embedding to the logits through the best ``edges``, patched exactly (``path_level.paths``).

        Raises CircuitryError for a discovery of nodes or latents.
        """
        if self.level != "edge":
            raise CircuitryError(f"these are {self.level}s, and a path is made of edges; discover with level='edge'")
        from .path_level import paths

        return paths(self, count, edges)

    def inclusion(self, edges: int, resamples: int = 200, seed: int = 0) -> tuple[pd.DataFrame, float]:
        """How stable a circuit is under another draw of prompts (a bootstrap): how often each of its edges is among the best, and the mean
        Jaccard index of the resampled circuits with it.

        The frame has ``edge``, ``position`` and ``frequency``.
        """
        if np.isnan(self.scores).any():
            raise CircuitryError("a file has the scores by prompt of the best cells only, and this needs all; discover again")
        best = self.cells(edges)
        chosen = first(
            np.array([np.ravel_multi_index(cell, self.mean.shape) for cell in best], np.int64), len(best), self.mean.shape
        )
        weights = resampling(len(self.scores), resamples, np.random.default_rng(seed)).astype(np.float32)
        counts, overlap = np.zeros(self.mean.shape), 0.0
        for row in weights:
            drawn = first(ordered(self._ranked(np.tensordot(row, self.scores, 1)), True), len(best), self.mean.shape)
            counts += drawn
            overlap += (drawn & chosen).sum() / (drawn | chosen).sum()
        rows = [(*self.name(cell), counts[cell] / resamples) for cell in best]
        return pd.DataFrame(rows, columns=[self.level, "position", "frequency"]), overlap / resamples

    def save(self, path: str | FilePath, edges: int | None = None) -> None:
        """Write a file that EAP-IG and ``circuitry.discovery.read`` read; ``edges`` of it are marked as the circuit. See ``saving.save``."""
        save(self, path, edges)

    def text(self) -> str:
        """The best cells in words."""
        lines = self.sentences()
        shown = self.ranking.head(12)
        lines.append(shown.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
        return "\n".join(lines)

    def sentences(self) -> list[str]:
        """What was ranked and verified, in sentences."""
        lines = [
            f"{self.question.task.name} in {self.question.model.name}: {self.size:,} {PLURAL[self.level]} at positions ranked by {self.method} on "
            f"{len(self.question.prompts)} prompts, direction {self.question.direction}"
        ]
        if below := below_threshold(self.provenance.get("top_1")):
            lines.append(below)
        if self.exact:
            row = self.agreement.iloc[0]
            lines.append(
                f"the best {len(self.exact)} verified exactly on {len(self.confirming.prompts)} "
                f"{'other' if self.confirming is not self.question else 'of these'} prompts: r = {row.r:.2f}; "
                f"{len(self.found)} significant (q < {SIGNIFICANT:g})"
            )
            few = all_or_none(len(self.confirming.prompts), len(self.exact))
            lines += [f"too few examples: {few}"] if few and self.found.empty else []
        if self.level == "latent":
            lines += in_words(self.shares)
        return lines


def _prompts(asked_of: Mapping[str, Question]) -> tuple[tuple[dict[str, Any], PromptTexts], ...]:
    """The prompts of each measure, as examples of the task; none for a discovery that was read without its model."""
    try:
        texts = {m: PromptTexts.of(asked.prompts, asked.model.vocabulary) for m, asked in asked_of.items()}
    except CircuitryError:
        return ()
    return tuple(({"measure": m}, texts[m].placed(asked.numbers.tolist())) for m, asked in asked_of.items())


def _agreement(rows: pd.DataFrame) -> dict[str, float]:
    x, y = rows["attribution"].to_numpy(float), rows["exact"].to_numpy(float)
    spread = len(rows) > 2 and np.std(x) > 0 and np.std(y) > 0
    slope = float(x @ y / (x @ x)) if x @ x > 0 else float("nan")
    size = float(np.abs(y).mean())
    return {
        "cells": len(rows),
        "r": float(np.corrcoef(x, y)[0, 1]) if spread else float("nan"),
        "slope": slope,
        "error": float(np.abs(x - y).mean() / size) if size else float("nan"),
    }
