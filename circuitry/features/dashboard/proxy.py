"""A stand-in for a scorer: scores computed from tokens and activations, with no idea of what the text means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import CircuitryError, suggest
from .contexts import Context
from .question import Question

Floats: TypeAlias = NDArray[np.float64]
_PLACES = (-2, -1, 0, 1)
"""Positions, relative to the peak, at which a common token is sought."""


class ProxyScorer:
    """Scores computed from the tokens that a feature fires on, and from whether the token alone makes it fire.

    Complexity, on a scale from 1 to 5, is 1 + 2 max(H, D) + D (H + V) with

    * H: the entropy of the peaks' tokens, weighted by activation, as a share of its maximum (0: one token)
    * D: context dependence, the share of the other occurrences of the peaks' tokens on which the feature does not fire (0: the
      token is enough); 0 too if no token occurs again
    * V: as H, for the tokens before the peaks (0: they are always the same, so the feature may stand for a phrase)

    Monosemanticity is the share of the activation at peaks that goes to one token at one of four positions around the peak, minus
    the share it would have if all tokens differed. It ignores meaning: a feature for one idea in many words counts as polysemantic.
    """

    name = "proxy from activations"
    proxy = True

    def score(self, question: Question) -> int | None:
        """The nearest level; None with fewer than two contexts. Raises CircuitryError for a score that has no proxy.

        >>> from circuitry.features.dashboard.question import COMPLEXITY, Question
        >>> contexts = [Context((before, " cat"), (0.0, 2.0), 1, 0, elsewhere=1.0) for before in ("a", "the", "my")]
        >>> ProxyScorer().score(Question(COMPLEXITY, contexts))
        1
        """
        name = question.rubric.name
        if name not in _MEASURES:
            raise CircuitryError(f"no proxy for {name!r}; {suggest(name, _MEASURES)}")
        if len(question.contexts) < 2:
            return None
        share = _MEASURES[name](question.contexts)
        levels = sorted(question.rubric.levels)
        return levels[min(int(share * (len(levels) - 1) + 0.5), len(levels) - 1)]


def complexity(contexts: Sequence[Context]) -> float:
    """The proxy for complexity, from 0 (one token is enough) to 1.

    >>> complexity([Context((before, " of"), (0.0, 2.0), 1, 0, elsewhere=0.0) for before in ("all", "all")])
    0.5
    """
    weights = _weights(contexts)
    tokens, before = (_entropy([_at(c, place) for c in contexts], weights) for place in (0, -1))
    silent = np.array([1 - context.elsewhere for context in contexts])
    repeated = np.isfinite(silent)
    dependence = float(np.average(silent[repeated], weights=weights[repeated])) if repeated.any() else 0.0
    return (2 * max(tokens, dependence) + dependence * (tokens + before)) / 4


def monosemanticity(contexts: Sequence[Context]) -> float:
    """The proxy for monosemanticity, from 0 (nothing in common) to 1. Case and leading spaces do not count.

    >>> monosemanticity([Context((word,), (2.0,), 0, 0) for word in (" Cat", "cat")])
    1.0
    """
    weights, least = _weights(contexts), 1 / len(contexts)
    best = max(_largest([_folded(_at(c, place)) for c in contexts], weights) for place in _PLACES)
    return max(0.0, (best - least) / (1 - least)) if len(contexts) > 1 else 1.0


_MEASURES = {"complexity": complexity, "monosemanticity": monosemanticity, "monosemantic": monosemanticity}


def _weights(contexts: Sequence[Context]) -> Floats:
    tops = np.array([context.top for context in contexts])
    weights: Floats = tops / tops.sum()
    return weights


def _at(context: Context, place: int) -> str | None:
    """The token at a position relative to the peak; None beyond the ends of the window."""
    index = context.peak + place
    return context.tokens[index] if 0 <= index < len(context.tokens) else None


def _folded(token: str | None) -> str | None:
    """The token without case and surrounding spaces; a token of spaces stays."""
    return None if token is None else (token.strip() or token).casefold()


def _shares(tokens: Sequence[str | None], weights: Floats) -> Floats:
    """The weight of each distinct token; every missing token counts as distinct."""
    kinds: dict[object, int] = {}
    numbers = [kinds.setdefault(number if token is None else token, len(kinds)) for number, token in enumerate(tokens)]
    shares: Floats = np.bincount(numbers, weights).astype(np.float64)
    return shares


def _largest(tokens: Sequence[str | None], weights: Floats) -> float:
    return float(_shares(tokens, weights).max())


def _entropy(tokens: Sequence[str | None], weights: Floats) -> float:
    """Entropy as a share of its maximum for this number of contexts."""
    if len(tokens) < 2:
        return 0.0
    shares = _shares(tokens, weights)
    return float(np.clip(-(shares * np.log(shares)).sum() / np.log(len(tokens)), 0, 1))
