"""Matches and their features as plain data for the script of the feature dashboard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from .contexts import Context, Profile, profiles_of
from .fires import Fires, fires_of

if TYPE_CHECKING:
    from ..activations.corpus import Corpus
    from ..matching.sides import ActsLike
    from .promoted import Effects, Promoted
    from .source import Source


def entries(
    frame: pd.DataFrame,
    table: pd.DataFrame,
    reverse: pd.DataFrame | None,
    sides: tuple[Sequence[ActsLike], Sequence[ActsLike]],
    corpus: Corpus,
    tokenizer: Any,
    scores: pd.DataFrame | None = None,
    sources: tuple[Source | None, Source | None] = (None, None),
    **options: Any,
) -> dict[str, Any]:
    """Matches, their features (each once, by side), and the texts of tokens, which contexts refer to by number.

    ``frame`` has rows of ``table``, which has all matches and from which ``shared`` counts how many features have the same best
    match; ``sides`` are the activations of both models, by layer; ``options`` go to ``profiles``. ``beside`` are the activations of
    the other feature of a match on the contexts of each, those that are not 0: index of the token and activation, in turn.

    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from circuitry.features.activations.corpus import Corpus
    >>> text = Corpus(np.array([0, 5, 6], np.int32), np.array([0, 3]), np.array([True, False, False]), "three ids", "")
    >>> row = {"layer_a": 0, "feature_a": 0, "mppc": 1.0, "layer_b": 0, "feature_b": 0}
    >>> acts = csr_array([[2.0], [0.0]])
    >>> entries(pd.DataFrame([row]), pd.DataFrame([row]), None, ([acts], [acts]), text, None)["matches"]
    [{'a': 0, 'b': 0, 'mppc': 1, 'null': None, 'mutual': None, 'shared': 1, 'beside': [[[0, 2]], [[0, 2]]]}]
    """
    texts: dict[str, int] = {}
    views: list[dict[_Feature, _View]] = []
    for side, acts, source in zip("ab", sides, sources, strict=True):
        pairs = sorted({(int(k), int(f)) for k, f in frame[[f"layer_{side}", f"feature_{side}"]].to_numpy()})
        views.append(_views(pairs, acts, source, corpus, tokenizer, options))
    features = [[view.data(texts) for view in side.values()] for side in views]
    numbered = [{pair: number for number, pair in enumerate(side)} for side in views]
    back = None if reverse is None else _best(reverse)
    scores_of = _scores(scores)
    shared = table.dropna(subset=["mppc"]).groupby(["layer_b", "feature_b"]).size().to_dict()
    matches = []
    for row in frame.to_dict("records"):
        a, b = ((int(row[f"layer_{side}"]), int(row[f"feature_{side}"])) for side in "ab")
        mutual = None if back is None else back.get(b) == a
        numbers = {"mppc": _number(row["mppc"]), "null": _number(row.get("null"))}
        beside = [views[0][a].beside(views[1][b]), views[1][b].beside(views[0][a])]
        counts = {"mutual": mutual, "shared": shared[b], "beside": beside}
        matches.append({"a": numbered[0][a], "b": numbered[1][b], **numbers, **counts, **scores_of.get(a, {})})
    return {"matches": matches, "features": features, "texts": list(texts)}


_Feature: TypeAlias = tuple[int, int]
"""Layer and feature."""


@dataclass(frozen=True)
class _View:
    """One feature: what is shown of it, and where it fires."""

    feature: int
    provenance: Mapping[str, Any]
    profile: Profile
    fires: Fires
    promoted: Promoted | None

    @property
    def contexts(self) -> list[Context]:
        """All its contexts, in the order in which the page has them."""
        return [*self.profile.contexts, *(context for found in self.profile.lower.values() for context in found)]

    def data(self, texts: dict[str, int]) -> dict[str, Any]:
        """The feature for the page."""
        one = self.profile
        counts = {"fires": one.fires, "tokens": one.tokens, "most": _number(one.most), "histogram": one.histogram}
        lower = [{"level": level, "contexts": [_context(c, texts) for c in found]} for level, found in one.lower.items()]
        shown: dict[str, Any] = {"contexts": [_context(context, texts) for context in one.contexts]}
        shown["lower"] = lower
        if self.promoted is not None:
            shown |= {"up": _effects(self.promoted.up, texts), "down": _effects(self.promoted.down, texts)}
        return {**self.provenance, "feature": self.feature, **counts, **shown}

    def beside(self, other: _View) -> list[list[float | int | None]]:
        """For each context of this feature, the other's activations on its tokens that are not 0: index and activation, in turn."""
        shown = []
        for context in self.contexts:
            values = other.fires.inside(context.start, context.start + len(context.tokens))
            shown.append([part for at in values.nonzero()[0] for part in (int(at), _number(values[at]))])
        return shown


def _views(
    pairs: Sequence[_Feature],
    acts: Sequence[ActsLike],
    source: Source | None,
    corpus: Corpus,
    tokenizer: Any,
    options: Mapping[str, Any],
) -> dict[_Feature, _View]:
    """One side's features in the order of ``pairs``, layer by layer, so that only one layer's activations are in memory."""
    views = {}
    for layer in sorted({layer for layer, _ in pairs}):
        fires = fires_of(acts[layer], corpus, [feature for of, feature in pairs if of == layer])
        provenance = {"layer": layer, "node": node(acts[layer], layer), "depth": _number(index_of(acts[layer]).get("depth"))}
        effects = source.promoted(acts[layer], fires) if source is not None else {}
        for feature, profile in profiles_of(fires, corpus, tokenizer, **options).items():
            views[layer, feature] = _View(feature, provenance, profile, fires[feature], effects.get(feature))
    return views


def index_of(acts: object) -> Mapping[str, Any]:
    """The index of stored feature activations (``node``, ``depth``, ``model``); empty for a plain array.

    >>> index_of(object())
    {}
    """
    index: Mapping[str, Any] = getattr(acts, "index", {})
    return index if isinstance(index, Mapping) else {}


def node(acts: object, layer: int) -> str:
    """The graph node of feature activations; if it is unknown, the number of the layer.

    >>> node(object(), 3)
    'layer 3'
    """
    return str(index_of(acts).get("node") or f"layer {layer}")


def _context(context: Context, texts: dict[str, int]) -> dict[str, Any]:
    tokens = [texts.setdefault(token, len(texts)) for token in context.tokens]
    values = [_number(value) for value in context.values]
    return {"t": tokens, "v": values, "p": context.peak, "d": context.document, "e": _number(context.elsewhere)}


def _effects(effects: Effects, texts: dict[str, int]) -> list[list[float | int | None]]:
    return [[texts.setdefault(token, len(texts)), _number(value)] for token, value in effects]


def _number(value: Any) -> float | int | None:
    """A number with three significant digits, which keeps the page small; None for NaN, which JSON lacks."""
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{float(value):.3g}")
    return int(short) if short == int(short) and short < 1e6 else short


def _best(reverse: pd.DataFrame) -> dict[tuple[int, int], tuple[int, int]]:
    """The best match of every feature of model B."""
    matched = reverse.dropna(subset=["mppc"])
    columns = (matched[name].to_numpy(int) for name in ("layer_a", "feature_a", "layer_b", "feature_b"))
    return {(la, fa): (lb, fb) for la, fa, lb, fb in zip(*(column.tolist() for column in columns), strict=True)}


def _scores(scores: pd.DataFrame | None) -> dict[tuple[int, int], dict[str, Any]]:
    """Scores of model A's features by name, and what the scorer wrote; the names of a proxy's scores say so."""
    if scores is None or not len(scores):
        return {}
    names = [name for name in scores if name not in ("layer", "feature", "explanation", "scorer", "proxy")]
    by_feature = {}
    for row in scores.to_dict("records"):
        mark = " (proxy)" if row["proxy"] else ""
        shown: dict[str, Any] = {"scores": {f"{name}{mark}": _number(row[name]) for name in names}}
        if isinstance(text := row.get("explanation"), str):
            shown["explanation"] = text
        by_feature[int(row["layer"]), int(row["feature"])] = shown
    return by_feature
