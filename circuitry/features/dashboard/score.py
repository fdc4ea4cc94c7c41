"""Scores of features by a scorer, the choice of matches to score, and the matches that cannot be interpreted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from ...errors import several, whole
from ...progress import bar
from .answers import Answers
from .contexts import Context, top_contexts
from .question import Question, Rubric, rubric
from .scorer import Scorer

if TYPE_CHECKING:
    from ..activations.corpus import Corpus
    from ..matching.sides import ActsLike

BELOW = 0.2
"""Matches below this MPPC are mostly uninterpretable in the paper (section 5.2 and appendix F)."""
SCORES = ("complexity", "monosemanticity")
_LETTERS = 2.2
"""Characters for each token of a question, with SmolLM2's tokenizer: half as many as in plain text, since questions are full of
numbers and quotation marks."""
Feature = TypeVar("Feature")


@dataclass(frozen=True)
class Estimate:
    """Questions that remain to be asked, and roughly how many tokens they take; ``cost`` is in the currency of the prices, or None."""

    scorer: str
    questions: int
    answered: int
    tokens_in: int
    tokens_out: int
    cost: float | None

    def text(self) -> str:
        """The estimate as a sentence.

        >>> print(Estimate("a model", 2000, 10, 3_000_000, 32_000, 7.82).text())
        2,000 questions to a model (10 more are answered): about 3,000,000 tokens to read and at most 32,000 to write, about 7.82 in all
        """
        answered = f" ({self.answered:,} more are answered)" if self.answered else ""
        reading = f"{self.questions:,} questions to {self.scorer}{answered}: about {self.tokens_in:,} tokens to read"
        cost = "" if self.cost is None else f", about {self.cost:,.2f} in all"
        return f"{reading} and at most {self.tokens_out:,} to write{cost}"

    def __add__(self, other: Estimate) -> Estimate:
        """The sum of two estimates for the same scorer."""
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        questions, answered = self.questions + other.questions, self.answered + other.answered
        reading, writing = self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out
        return Estimate(self.scorer, questions, answered, reading, writing, cost)


def estimate(
    scorer: Scorer,
    contexts: Mapping[Feature, Sequence[Context]],
    what: str | Rubric = "complexity",
    *,
    cache: str | Path | None = None,
    price: tuple[float, float] | None = None,
) -> Estimate:
    """What ``score_features`` would ask, and its cost; asks nothing. ``price``: of a million tokens read, and of a million written.

    Tokens read are estimated at 2.2 characters each; every answer is assumed to have the scorer's maximal length.

    >>> from circuitry.features.dashboard.proxy import ProxyScorer
    >>> estimate(ProxyScorer(), {7: [Context(("a",), (1.0,), 0, 0)]}).questions
    1
    """
    answers, criteria = Answers(cache), rubric(what)
    questions = [Question(criteria, windows) for windows in contexts.values() if windows]
    left = [question for question in questions if not answers.has(scorer, question)]
    reading = round(sum(len(question.text) for question in left) / _LETTERS)
    writing = len(left) * int(getattr(scorer, "answer_tokens", 1))
    cost = None if price is None else (reading * price[0] + writing * price[1]) / 1e6
    return Estimate(scorer.name, len(left), len(questions) - len(left), reading, writing, cost)


def score_features(
    scorer: Scorer,
    contexts: Mapping[Feature, Sequence[Context]],
    what: str | Rubric = "complexity",
    *,
    cache: str | Path | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """One row for each feature: ``feature``, ``score`` (NaN if it has none), ``answer``, ``what``, ``scorer``, ``proxy``.

    ``answer`` is what the scorer wrote, and ``explanation`` what it wrote beside the score (None if nothing). A score is missing if the scorer refused or gave no whole number on the scale, or the feature has no contexts. Every answer is
    stored in the folder ``cache`` at once, unless it is a proxy's. Raises what the scorer raises.

    >>> from circuitry.features.dashboard.proxy import ProxyScorer
    >>> contexts = {7: [Context(("a",), (1.0,), 0, document, elsewhere=1.0) for document in range(3)], 8: []}
    >>> score_features(ProxyScorer(), contexts)[["feature", "score", "proxy"]].values.tolist()
    [[7, 1.0, True], [8, nan, True]]
    """
    answers, criteria = Answers(None if scorer.proxy else cache), rubric(what)
    rows = []
    for feature, windows in bar(contexts.items(), criteria.name, unit="feature", show=None if progress else False):
        question, answer = Question(criteria, windows), None
        if windows:
            if not answers.has(scorer, question):
                answers.put(scorer, question, scorer.score(question))
            answer = answers.get(scorer, question)
        score = question.read(answer)
        text = None if answer is None else str(answer)
        value = float("nan") if score is None else float(score)
        rows.append((feature, value, text, question.explanation(answer), criteria.name, scorer.name, scorer.proxy))
    return pd.DataFrame(rows, columns=["feature", "score", "answer", "explanation", "what", "scorer", "proxy"])


def contexts_of(
    acts: Sequence[ActsLike], corpus: Corpus, tokenizer: Any, wanted: Iterable[tuple[int, int]], **options: Any
) -> dict[tuple[int, int], list[Context]]:
    """Top contexts of features by (layer, feature); ``layer`` is an index into ``acts``. ``options`` go to ``top_contexts``.

    >>> from scipy.sparse import csr_array
    >>> from circuitry.features.activations.corpus import Corpus
    >>> text = Corpus(np.array([0, 5, 6], np.int32), np.array([0, 3]), np.array([True, False, False]), "three ids", "")
    >>> list(contexts_of([csr_array([[0.0, 1.0], [2.0, 0.0]])], text, None, [(0, 1), (0, 0)]))
    [(0, 1), (0, 0)]
    """
    pairs = [(int(layer), int(feature)) for layer, feature in wanted]
    by_layer: dict[int, dict[int, list[Context]]] = {}
    for layer in sorted({layer for layer, _ in pairs}):
        features = [feature for of, feature in pairs if of == layer]
        by_layer[layer] = top_contexts(acts[layer], corpus, tokenizer, features, **options)
    return {(layer, feature): by_layer[layer][feature] for layer, feature in pairs}


def score_layers(
    scorer: Scorer,
    contexts: Mapping[tuple[int, int], Sequence[Context]],
    what: Sequence[str | Rubric] = SCORES,
    *,
    cache: str | Path | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Several scores of features of several layers: ``layer``, ``feature``, a column for each score, ``scorer``, ``proxy``.

    If the scorer wrote more than scores, ``explanation`` has it, a line for each score.

    >>> from circuitry.features.dashboard.proxy import ProxyScorer
    >>> contexts = {(3, 7): [Context(("a",), (1.0,), 0, document, elsewhere=1.0) for document in range(3)]}
    >>> score_layers(ProxyScorer(), contexts).columns.tolist()
    ['layer', 'feature', 'complexity', 'monosemanticity', 'scorer', 'proxy']
    """
    table = pd.DataFrame(list(contexts), columns=["layer", "feature"], dtype=np.int64)
    written: list[list[str]] = [[] for _ in range(len(table))]
    for score in several("what", what):
        scored = score_features(scorer, contexts, score, cache=cache, progress=progress)
        table[rubric(score).name] = scored["score"]
        for lines, text in zip(written, scored["explanation"], strict=True):
            lines += [f"{rubric(score).name}: {text}"] if isinstance(text, str) else []
    if any(written):
        table["explanation"] = ["\n".join(lines) or None for lines in written]
    return table.assign(scorer=scorer.name, proxy=scorer.proxy)


def pick(frame: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most ``limit`` rows of a table of matches, over the whole range of MPPC, highest first.

    A tenth of them are the highest, a tenth the lowest, and the rest are evenly spaced in rank. Features without an MPPC are left
    out. Raises CircuitryError for a limit below 1.

    >>> pick(pd.DataFrame({"mppc": [0.1, 0.9, float("nan"), 0.5, 0.7, 0.3]}), 3)["mppc"].tolist()
    [0.9, 0.5, 0.1]
    """
    whole("limit", limit, 1)
    ranked = frame.dropna(subset=["mppc"]).sort_values("mppc", ascending=False, kind="stable")
    count = len(ranked)
    if count <= limit:
        return ranked.reset_index(drop=True)
    ends = max(1, limit // 10) if limit > 1 else 0
    between = limit - 2 * ends
    middle = ends + ((np.arange(between) + 0.5) * (count - 2 * ends) / max(1, between)).astype(int)
    places = np.concatenate([np.arange(ends), middle, np.arange(count - ends, count)]) if ends else np.zeros(1, int)
    return ranked.iloc[places].reset_index(drop=True)


def uninterpretable(frame: pd.DataFrame, scores: pd.DataFrame, below: float = BELOW, at_most: float = 2) -> pd.DataFrame:
    """Matches with an MPPC below ``below`` whose feature has monosemanticity ``at_most`` or less, lowest MPPC first.

    As in the paper's appendix F. ``frame`` is a table of matches (``layer_a``, ``feature_a``, ``mppc`` ...) or a Matches,
    ``scores`` the result of ``score_layers``. Features without a score are left out.

    >>> matches = pd.DataFrame({"layer_a": [0, 0, 0], "feature_a": [1, 2, 3], "mppc": [0.1, 0.15, 0.9]})
    >>> scores = pd.DataFrame({"layer": 0, "feature": [1, 2, 3], "monosemanticity": [1.0, 5.0, 1.0], "proxy": False})
    >>> uninterpretable(matches, scores)[["feature_a", "mppc"]].values.tolist()
    [[1.0, 0.1]]
    """
    scored = with_scores(getattr(frame, "forward", frame), scores)
    chosen = scored[(scored["mppc"] < below) & (scored["monosemanticity"] <= at_most)]
    return chosen.sort_values(["mppc", "layer_a", "feature_a"]).reset_index(drop=True)


def with_scores(frame: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """A table of matches with columns for the scores of its features (of model A); rows without scores stay, with NaN.

    >>> matches = pd.DataFrame({"layer_a": [0, 0], "feature_a": [1, 2], "mppc": [0.1, 0.9]})
    >>> scores = pd.DataFrame({"layer": [0], "feature": [2], "complexity": [1.0]})
    >>> with_scores(matches, scores)["complexity"].tolist()
    [nan, 1.0]
    """
    named = scores.rename(columns={"layer": "layer_a", "feature": "feature_a"})
    return frame.merge(named, on=["layer_a", "feature_a"], how="left", validate="many_to_one")
