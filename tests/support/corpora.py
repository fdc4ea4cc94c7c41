"""Texts, a model that reads them, and corpora of numbers: what the tests of corpora and streams share."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from hypothesis import strategies as st

import circuitry as ct
from circuitry.features.activations import Corpus

LONG = "Mary and John went to the store"
SOURCE = "The other document is this one."


@functools.cache
def bundled(name: str = "mamba") -> Any:
    return ct.load(f"bundled:{name}")


def numbers(lengths: list[int], masked: set[int] = frozenset()) -> Corpus:  # type: ignore[assignment]
    """Token ids that say where they are, from 1; those in ``masked`` are not used."""
    starts = np.cumsum([0, *lengths])
    ids = np.arange(1, starts[-1] + 1, dtype=np.int32)
    return Corpus(ids, starts, np.isin(ids, list(masked)), "numbers", "")


@st.composite
def corpora(draw: st.DrawFn, most: int = 12) -> Corpus:
    """Of up to ``most`` documents; some may have no used token, but not all."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=most))
    total = sum(lengths)
    masked = draw(st.sets(st.integers(1, total), max_size=total - 1))
    return numbers(lengths, masked)
