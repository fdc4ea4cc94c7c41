"""How much of the behaviour circuits of growing size keep, beside random circuits of the same sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..html.shown import Shown
from ..results.statistics import resampling
from ..thresholds import LEVEL, RESAMPLES
from .latent_runs import LatentRuns
from .mib import SIZES, areas
from .question import Question
from .subgraph import Subgraphs

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """The metric [circuit, example] of circuits, and on the clean and the corrupted prompts [example]."""

    values: Floats
    clean: Floats
    corrupted: Floats

    def faithfulness(self, weights: Floats | None = None) -> Any:
        """(circuit - corrupted) / (clean - corrupted), of means over examples [circuit]; with weights [resample, example] each
        resample's [resample, circuit].

        1 if a circuit keeps all of the difference between the prompts, 0 if none (MIB, equation 1).
        """
        w = np.ones(len(self.clean)) if weights is None else weights
        return ((w @ self.values.T).T - w @ self.corrupted).T / np.expand_dims(w @ (self.clean - self.corrupted), -1)


def measured(question: Question, kept: Sequence[NDArray[np.bool_]], desc: str = "circuits") -> Measured:
    """The metric of circuits, each given as edges (or latents and errors) by label [item, label], on all prompts.

    >>> import circuitry as ct
    >>> from circuitry.discovery.search import asked
    >>> question = asked(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> everything = np.ones((len(question.items), len(question.labels)), bool)
    >>> measured(question, [everything, ~everything]).faithfulness().round(3).tolist()
    [1.0, 0.0]
    """
    values = np.full((len(kept), len(question.prompts)), np.nan)
    ends = np.full((2, len(question.prompts)), np.nan)
    quiet = question.quiet()
    with question.bar(total=values.size, desc=desc, unit="run") as bar:
        for examples, prompts in quiet.batches(3, desc):
            runs = LatentRuns(quiet, prompts) if question.level == "latent" else Subgraphs(quiet, prompts)
            labels = question.labels.take(examples)

            def masks() -> Iterator[NDArray[np.bool_]]:
                yield from map(labels.tokens, kept)  # noqa: B023 (used up in this turn)

            for number, value in enumerate(runs.measure(masks())):
                values[number, examples] = value
                bar.update(len(examples))
            ends[:, examples] = runs.clean, runs.corrupted
    return Measured(values, ends[0], ends[1])


@dataclass(frozen=True)
class Curve(Shown):
    """Faithfulness by circuit size. ``frame`` has a row for each size: ``fraction`` and ``edges`` (or ``latents``), ``faithfulness`` with its interval
    (``low``, ``high``: a bootstrap over prompts), and ``random``, ``random_low``, ``random_high``: mean, least and most of random circuits.

    ``cpr`` is the area under the curve (higher is better), ``cmd`` the area between it and 1 (lower is better), each with its interval;
    ``random_cpr`` and ``random_cmd`` are the means of the random circuits.
    """

    frame: pd.DataFrame
    cpr: float
    cpr_interval: tuple[float, float]
    cmd: float
    cmd_interval: tuple[float, float]
    random_cpr: float
    random_cmd: float
    absolute: bool
    scale: str
    what: str = "edges"

    def __repr__(self) -> str:
        return self.text()

    @property
    def data(self) -> dict[str, Any]:
        """The curve as plain data, from which ``of`` makes it again."""
        return {**asdict(replace(self, frame=None)), "frame": self.frame.to_dict("list")}  # type: ignore[arg-type]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Curve:
        """A curve from its ``data``, which may have been through JSON."""
        intervals = {name: tuple(data[name]) for name in ("cpr_interval", "cmd_interval")}
        return cls(**{**data, **intervals, "frame": pd.DataFrame(data["frame"])})

    def text(self) -> str:
        """The curve in words and numbers."""
        rows = [
            f"{row.fraction:>8.1%} {getattr(row, self.what):>8,} {row.faithfulness:>z7.2f} ({row.low:z.2f} to {row.high:z.2f}) {row.random:>z8.2f}"
            for row in self.frame.itertuples()
        ]
        return "\n".join(
            [
                f"CPR {self.cpr:z.2f} ({self.cpr_interval[0]:z.2f} to {self.cpr_interval[1]:z.2f}), random {self.random_cpr:z.2f}; "
                f"CMD {self.cmd:z.2f} ({self.cmd_interval[0]:z.2f} to {self.cmd_interval[1]:z.2f}), random {self.random_cmd:z.2f} "
                f"({self.scale} sizes, ranked by {'magnitude' if self.absolute else 'signed score'})",
                f"   share {self.what:>8}  faithfulness            random",
                *rows,
            ]
        )


def ordered(scores: NDArray[np.floating[Any]], absolute: bool) -> NDArray[np.int64]:
    """The numbers of cells [item * label], the highest score first; by magnitude or by signed score.

    >>> ordered(np.array([[1.0, -3.0], [2.0, 0.0]]), True).tolist()
    [1, 2, 0, 3]
    """
    flat = scores.ravel()
    return np.argsort(-(np.abs(flat) if absolute else flat), kind="stable")


def first(order: NDArray[np.int64], count: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The first ``count`` cells of an order, as a mask.

    >>> first(np.array([2, 0, 1]), 1, (3, 1)).ravel().tolist()
    [False, False, True]
    """
    mask = np.zeros(shape, bool)
    mask.ravel()[order[:count]] = True
    return mask


def curve(
    question: Question,
    scores: NDArray[np.floating[Any]],
    *,
    fractions: Sequence[float] = SIZES,
    random: int | None = None,
    absolute: bool = True,
    scale: Literal["linear", "log"] = "linear",
) -> Curve:
    """Measure circuits of several sizes: the edges with the highest mean scores [edge, label], and ``random`` orders of all edges (5; 1 in
    a large model). Of latents and errors, all are those whose score is not zero.

    Without ``absolute`` scores are ranked with their sign, so they must be positive where an edge is needed.

    >>> from circuitry.discovery.search import asked
    >>> import circuitry as ct
    >>> question = asked(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=4))
    >>> scores = np.zeros((len(question.items), len(question.labels)))
    >>> [round(f, 3) for f in curve(question, scores, fractions=(0.01, 1.0), random=0).frame["faithfulness"]]
    [0.0, 1.0]
    """
    random = (1 if question.is_large else 5) if random is None else random
    every = np.flatnonzero(scores) if question.level == "latent" else np.arange(scores.size)
    counts = [max(1, round(fraction * len(every))) for fraction in fractions]
    rng = np.random.default_rng(question.seed)
    orders = [ordered(scores, absolute), *(rng.permutation(every) for _ in range(random))]
    masks = [first(order, count, scores.shape) for order in orders for count in counts]
    different = {mask.tobytes(): mask for mask in masks}  # the circuit of all edges is the same in every order
    once = measured(question, list(different.values()), "curve")
    row = {key: number for number, key in enumerate(different)}
    got = replace(once, values=once.values[[row[mask.tobytes()] for mask in masks]])
    found = got.faithfulness().reshape(len(orders), len(counts))
    weights = resampling(len(got.clean), RESAMPLES, rng)
    drawn = Measured(got.values[: len(counts)], got.clean, got.corrupted).faithfulness(weights)
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(drawn, tails, axis=0)
    chance = found[1:] if random else np.full((1, len(counts)), np.nan)
    frame = pd.DataFrame({
        "fraction": fractions, f"{question.level}s": counts, "faithfulness": found[0], "low": low, "high": high,
        "random": chance.mean(0), "random_low": chance.min(0), "random_high": chance.max(0),
    })  # fmt: skip
    spread = np.array([areas(fractions, row, scale=scale) for row in drawn])
    cpr, cmd = areas(fractions, found[0], scale=scale)
    by_chance = np.mean([areas(fractions, row, scale=scale) for row in chance], axis=0) if random else np.full(2, np.nan)
    (cpr_low, cmd_low), (cpr_high, cmd_high) = np.quantile(spread, tails, axis=0)
    return Curve(
        frame, cpr, (float(cpr_low), float(cpr_high)), cmd, (float(cmd_low), float(cmd_high)), float(by_chance[0]),
        float(by_chance[1]), absolute, scale, f"{question.level}s",
    )  # fmt: skip
