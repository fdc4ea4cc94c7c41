"""A stand-in for a scorer that needs none: scores computed from tokens and activations, without any idea of what a text means."""

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
"""Where a common token is looked for, relative to the peak."""


class ProxyScorer:
    """Scores that follow from which tokens a feature fires on, and whether the token alone makes it fire. A proxy, not a scorer.

    Complexity, on a scale from 1 to 5, is 1 + 2 max(H, D) + D (H + V) with

    * H: the entropy of the peaks' tokens, weighted by activation, as a share of its maximum (0: one token)
    * D: context dependence, the share of the peaks' tokens' other occurrences on which the feature does not fire (0: the token is
      enough); where no token occurs again nothing is known and D is 0
    * V: as H, of the tokens before the peaks (0: they are always the same, so the feature may be a phrase's)

    Monosemanticity is the share of the activation at peaks that falls to one token at one place, of four around the peak, less what
    as many different tokens would have. It sees no meaning: a feature for one idea in many words counts as polysemantic.
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
    """The proxy for complexity, from 0 (one token does it) to 1.

    >>> complexity([Context((before, " of"), (0.0, 2.0), 1, 0, elsewhere=0.0) for before in ("all", "all")])
    0.5
    """
    weights = _weights(contexts)
    tokens, before = (_entropy([_at(c, place) for c in contexts], weights) for place in (0, -1))
    silent = np.array([1 - context.elsewhere for context in contexts])
    known = np.isfinite(silent)
    needed = float(np.average(silent[known], weights=weights[known])) if known.any() else 0.0
    return (2 * max(tokens, needed) + needed * (tokens + before)) / 4


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
    made: Floats = tops / tops.sum()
    return made


def _at(context: Context, place: int) -> str | None:
    """The token at a place relative to the peak; None beyond the edge of a document."""
    index = context.peak + place
    return context.tokens[index] if 0 <= index < len(context.tokens) else None


def _folded(token: str | None) -> str | None:
    """Without case and spaces around it; a token of spaces as it is."""
    return None if token is None else (token.strip() or token).casefold()


def _shares(tokens: Sequence[str | None], weights: Floats) -> Floats:
    """How the weight is spread over different tokens; no token is like no other."""
    kinds: dict[object, int] = {}
    numbers = [kinds.setdefault(number if token is None else token, len(kinds)) for number, token in enumerate(tokens)]
    made: Floats = np.bincount(numbers, weights).astype(np.float64)
    return made


def _largest(tokens: Sequence[str | None], weights: Floats) -> float:
    return float(_shares(tokens, weights).max())


def _entropy(tokens: Sequence[str | None], weights: Floats) -> float:
    """Entropy as a share of the most that so many contexts can have."""
    if len(tokens) < 2:
        return 0.0
    shares = _shares(tokens, weights)
    return float(np.clip(-(shares * np.log(shares)).sum() / np.log(len(tokens)), 0, 1))
