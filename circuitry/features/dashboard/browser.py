"""The feature browser: one page to look at matched features of two models side by side, which asks the network for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ...errors import CircuitryError
from ...reports.page import render
from ...store.files import write_whole
from .contexts import CONTEXTS, WINDOW
from .entries import entries, told
from .score import pick

if TYPE_CHECKING:
    from ..activations.corpus import Corpus
    from ..matching.sides import ActsLike

LIMIT = 300
"""Matches on a page, which make it about 1 MB large."""


def browser(
    matches: Any,
    acts_a: Sequence[ActsLike],
    acts_b: Sequence[ActsLike],
    corpus: Corpus,
    tokenizer: Any,
    out: str | Path,
    *,
    names: tuple[str, str] | None = None,
    title: str = "Matched features",
    limit: int = LIMIT,
    contexts: int = CONTEXTS,
    window: int = WINDOW,
    scores: pd.DataFrame | None = None,
) -> Path:
    """Write a page of matches: for both features of each their top contexts, activations, layer and node; its path.

    Args:
        matches: a Matches, or a table with its columns, of which at most ``limit`` rows are shown, as ``pick`` chooses them.
        acts_a, acts_b: activations of both models on the corpus, by layer: FeatureActs or sparse arrays.
        tokenizer: of the corpus, to show its tokens as text; None shows their numbers.
        out: a file that ends in .html, or a folder for ``features.html``.
        names: of the models; those that the activations know without.
        scores: what ``score_layers`` gave for features of model A; a proxy's are called so on the page.

    Raises CircuitryError if no match can be shown, or if the activations are of another corpus.

    >>> import tempfile
    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from circuitry.features.activations.corpus import Corpus
    >>> told = Corpus(np.array([0, 5, 6], np.int32), np.array([0, 3]), np.array([True, False, False]), "three ids", "")
    >>> row = {"layer_a": 0, "feature_a": 0, "mppc": 1.0, "layer_b": 0, "feature_b": 0}
    >>> one = csr_array([[0.0], [2.0]])
    >>> browser(pd.DataFrame([row]), [one], [one], told, None, tempfile.mkdtemp()).name
    'features.html'
    """
    every = getattr(matches, "forward", matches)
    shown = pick(every, limit)
    if not len(shown):
        raise CircuitryError("no feature has a match that could be shown")
    how = {"contexts": contexts, "window": window}
    data = entries(shown, every, getattr(matches, "reverse", None), (acts_a, acts_b), corpus, tokenizer, scores, **how)
    both = names or (_name(acts_a, "model A"), _name(acts_b, "model B"))
    scored = None if scores is None or not len(scores) else scores.iloc[0]
    words = {
        "names": both,
        "title": title,
        "contexts": contexts,
        "window": window,
        "corpus": f"{corpus.source}, {corpus.tokens:,} tokens",
        "scored": scored,
    }
    counts = {"shown": len(shown), "total": int(every["mppc"].notna().sum()), "silent": int(every["mppc"].isna().sum())}
    told_of = {"data": {**data, "names": both}, "limit": limit, "ends": max(1, limit // 10), **words, **counts}
    page = render("features.html", package=__package__, styles=("style.css", "features.css"), script="features.js", **told_of)
    target = Path(out) if str(out).endswith(".html") else Path(out) / "features.html"
    write_whole(target, page)
    return target


def _name(acts: Sequence[object], otherwise: str) -> str:
    return str(told(acts[0]).get("model") or otherwise) if len(acts) else otherwise
