"""The matched features of two models in one folder: the browser, scores, figure 5, and the matches that cannot be interpreted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ...errors import no_effect
from ...progress import together
from ...store.files import write_csv
from ...store.locks import hold
from .page import LIMIT, write_dashboard
from .score import BELOW, SCORES, Estimate, contexts_of, estimate, pick, score_layers, uninterpretable
from .scorer import Scorer

if TYPE_CHECKING:
    from ..activations.corpus import Corpus
    from ..matching.sides import ActsLike
    from .source import Source

CASES = 50
"""Most matches on the page of uninterpretable ones; those with the lowest MPPC."""


@dataclass(frozen=True)
class Features:
    """The results: ``scores`` of features of model A, ``cases`` that cannot be interpreted, and written ``files`` by name."""

    scores: pd.DataFrame
    cases: pd.DataFrame
    files: Mapping[str, Path]

    def text(self) -> str:
        """The results, for a terminal."""
        lines = [] if self.files else ["no feature has a match: there is nothing to show"]
        if len(self.scores):
            scorer, proxy = self.scores.iloc[0][["scorer", "proxy"]]
            means = [f"{name} {self.scores[name].mean():.2f} on average" for name in SCORES if name in self.scores]
            source = "no scorer read the text; a proxy computed from activations: " if proxy else f"scored by {scorer}: "
            missing = int(self.scores[[name for name in SCORES if name in self.scores]].isna().any(axis=1).sum())
            lines.append(f"{source}{len(self.scores)} features, {', '.join(means)}; {missing} without a score")
            lines.append(f"{len(self.cases)} of them with an MPPC below {BELOW} and monosemanticity of 2 or less")
        return "\n".join([*lines, *(f"{name}: {file.resolve()}" for name, file in self.files.items())])


@together()
def study(
    matches: Any,
    acts_a: Sequence[ActsLike],
    acts_b: Sequence[ActsLike],
    corpus: Corpus,
    tokenizer: Any,
    out: str | Path,
    *,
    scorer: Scorer | None = None,
    variants: Mapping[str, Any] | None = None,
    limit: int = LIMIT,
    price: tuple[float, float] | None = None,
    agree: Callable[[Estimate], object] | None = None,
    names: tuple[str, str] | None = None,
    sources: tuple[Source | None, Source | None] = (None, None),
    progress: bool = False,
) -> Features:
    """Write features.html into a folder and, with a scorer, scores.csv, figure5.png and .svg, uninterpretable.csv and .html.

    The features of at most ``limit`` matches are shown and scored. ``variants`` are matches of the same features in other
    comparisons, by name ("SAE seed", "model seed"), for figure 5. Before a scorer other than the proxy is asked, ``agree`` is
    called with the estimate at this ``price`` of a million tokens read and written; an exception from it stops the study.
    uninterpretable.html is written only if there are such matches. Answers are stored in the folder, so the same call resumes.
    Other arguments and errors are those of ``write_dashboard`` and of the scorer.

    >>> import tempfile
    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from circuitry.features.activations.corpus import Corpus
    >>> text = Corpus(np.array([0, 5, 6], np.int32), np.array([0, 3]), np.array([True, False, False]), "three ids", "")
    >>> table = pd.DataFrame([{"layer_a": 0, "feature_a": 0, "mppc": 1.0, "layer_b": 0, "feature_b": 0}])
    >>> list(study(table, [csr_array([[0.0], [2.0]])], [csr_array([[0.0], [2.0]])], text, None, tempfile.mkdtemp()).files)
    ['features']
    """
    _check_asked(scorer, variants, price, agree)
    folder, frame = Path(out), getattr(matches, "forward", matches)
    shown = pick(frame, limit)
    if not len(shown):
        return Features(pd.DataFrame(), pd.DataFrame(), {})
    sides = (acts_a, acts_b, corpus, tokenizer)
    scores = cases = pd.DataFrame()
    files: dict[str, Path] = {}
    with hold(folder):  # two processes would ask, and pay for, every question twice
        if scorer is not None:
            wanted = shown[["layer_a", "feature_a"]].drop_duplicates().itertuples(index=False, name=None)
            contexts = contexts_of(acts_a, corpus, tokenizer, wanted)
            if agree is not None and not scorer.proxy:
                first, second = (estimate(scorer, contexts, score, cache=folder, price=price) for score in SCORES)
                agree(first + second)
            scores = score_layers(scorer, contexts, cache=folder, progress=progress)
            cases = uninterpretable(shown, scores)
            files = _tables(folder, scores, cases) | _figure(folder, {**(variants or {}), "architecture": matches}, scores)
        shared: dict[str, Any] = {"names": names, "scores": scores, "sources": sources}
        files = {"features": write_dashboard(matches, *sides, folder, limit=limit, **shared), **files}
        if len(cases):
            lowest = cases.head(CASES)
            count = f": the {CASES} lowest of {len(cases)}" if len(cases) > CASES else ""
            title = f"Below {BELOW}, and uninterpretable{count}"
            target = folder / "uninterpretable.html"
            files["uninterpretable"] = write_dashboard(lowest, *sides, target, title=title, limit=CASES, **shared)
    return Features(scores, cases, files)


def _check_asked(scorer: Scorer | None, variants: Mapping[str, Any] | None, price: Any, agree: Any) -> None:
    """Refuse arguments that only a scorer uses if there is none."""
    if variants and scorer is None:
        raise no_effect("variants", ..., "they are drawn in figure 5, which needs scores", "give scorer=, or leave variants out")
    if price is not None and (scorer is None or scorer.proxy):
        raise no_effect("price", price, "no scorer is paid for", "give scorer=, or leave price out")
    if price is not None and agree is None:
        raise no_effect("price", price, "only agree gets the estimated cost", "give agree=, or leave price out")


def _tables(folder: Path, scores: pd.DataFrame, cases: pd.DataFrame) -> dict[str, Path]:
    files = {"scores": folder / "scores.csv", "cases": folder / "uninterpretable.csv"}
    write_csv(scores, files["scores"], index=False)
    write_csv(cases, files["cases"], index=False)
    return files


def _figure(folder: Path, variants: Mapping[str, Any], scores: pd.DataFrame) -> dict[str, Path]:
    from ...drawing.figures import save
    from .figure import figure5

    figure = figure5({name: getattr(matches, "forward", matches) for name, matches in variants.items()}, scores)
    for suffix in (".svg", ".png"):
        save(figure, folder / f"figure5{suffix}")
    return {"figure 5": folder / "figure5.png"}
