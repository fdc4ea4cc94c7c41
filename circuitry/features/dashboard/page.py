"""The feature dashboard: one page with matched features of two models side by side, which works offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ...errors import CircuitryError
from ...html.page import render
from ...store.files import write_whole
from .contexts import CONTEXTS, LEVELS, LOWER, WINDOW
from .entries import entries, index_of
from .score import pick

if TYPE_CHECKING:
    from ..activations.corpus import Corpus
    from ..matching.sides import ActsLike
    from .source import Source

LIMIT = 300
"""Matches on a page, which make it about 2 MB large."""


def write_dashboard(
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
    lower: int = LOWER,
    seed: int = 0,
    scores: pd.DataFrame | None = None,
    sources: tuple[Source | None, Source | None] = (None, None),
) -> Path:
    """Write a page of matches, with contexts, activations, layer and node of both features; returns its path.

    Every context of a feature has the activations of both.

    Args:
        matches: a Matches, or a table with its columns; ``pick`` chooses at most ``limit`` rows to show.
        acts_a, acts_b: activations of both models on the corpus, by layer: FeatureActs or sparse arrays.
        tokenizer: the corpus's, to show tokens as text; None shows their ids.
        out: a file that ends in .html, or a folder for ``features.html``.
        contexts, window: top contexts of a feature, and tokens of a context.
        lower, seed: contexts drawn by ``seed`` around each of the quantiles ``LEVELS`` of a feature's activations.
        names: of the two models; by default the names stored with the activations.
        scores: the result of ``score_layers`` for features of model A; the page marks scores of a proxy.
        sources: the models with their autoencoders, to show the tokens that features promote and suppress.

    Raises CircuitryError if no match can be shown, or if the activations are of another corpus.

    >>> import tempfile
    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from circuitry.features.activations.corpus import Corpus
    >>> text = Corpus(np.array([0, 5, 6], np.int32), np.array([0, 3]), np.array([True, False, False]), "three ids", "")
    >>> row = {"layer_a": 0, "feature_a": 0, "mppc": 1.0, "layer_b": 0, "feature_b": 0}
    >>> acts = csr_array([[0.0], [2.0]])
    >>> write_dashboard(pd.DataFrame([row]), [acts], [acts], text, None, tempfile.mkdtemp()).name
    'features.html'
    """
    table = getattr(matches, "forward", matches)
    shown = pick(table, limit)
    if not len(shown):
        raise CircuitryError("no feature has a match that could be shown")
    options = {"contexts": contexts, "window": window, "lower": lower, "seed": seed}
    back, sides = getattr(matches, "reverse", None), (acts_a, acts_b)
    data = entries(shown, table, back, sides, corpus, tokenizer, scores, sources, **options)
    both = names or (_name(acts_a, "model A"), _name(acts_b, "model B"))
    scored = None if scores is None or not len(scores) else scores.iloc[0]
    words = {
        "names": both,
        "title": title,
        "contexts": contexts,
        "window": window,
        "lower": lower,
        "levels": LEVELS,
        "promoted": any("up" in feature for side in data["features"] for feature in side),
        "corpus": f"{corpus.source}, {corpus.tokens:,} tokens",
        "scored": scored,
    }
    counts = {"shown": len(shown), "total": int(table["mppc"].notna().sum()), "silent": int(table["mppc"].isna().sum())}
    content = {"data": {**data, "names": both}, "limit": limit, "ends": max(1, limit // 10), **words, **counts}
    page = render("features.html", package=__package__, styles=("style.css", "features.css"), script="features.js", **content)
    target = Path(out) if str(out).endswith(".html") else Path(out) / "features.html"
    write_whole(target, page)
    return target


def _name(acts: Sequence[object], otherwise: str) -> str:
    return str(index_of(acts[0]).get("model") or otherwise) if len(acts) else otherwise
