"""A small corpus and features whose reason to fire is known, for the tests of features."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from circuitry.features.activations.corpus import Corpus
from circuitry.features.dashboard.contexts import Context, top_contexts

DOCUMENTS, LENGTH, WORDS = 40, 60, 200
TOKEN, SPELLINGS, PHRASE, ANYWHERE, SILENT, CLASS, NUMB = range(7)
ALL = range(7)
CONTEXT = Context((" a", "b"), (0.0, 1.0), 1, 0)
EVIL = "<script>window.hacked = 1</script><img src=x onerror=window.hacked=1>"


class Words:
    """A tokenizer of numbered words; number 3 is markup, number 4 a line break."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return {3: EVIL, 4: "\n"}.get(ids[0], f" w{ids[0]}")

    def convert_ids_to_tokens(self, index: int) -> str:
        return f"Ġw{index}"


def corpus() -> Corpus:
    """40 documents, each a beginning (0) and 59 words; 8 is followed by 9 in three places of every document."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, WORDS, (DOCUMENTS, LENGTH)).astype(np.int32)
    ids[:, 0] = 0
    ids[:, 5:50:6] = rng.choice([5, 6, 7, 3], (DOCUMENTS, 8))
    for at in (10, 22, 40):
        ids[:, at : at + 2] = 8, 9
    ids[:, 33] = 9
    starts = np.arange(DOCUMENTS + 1) * LENGTH
    return Corpus(ids.ravel(), starts.astype(np.int64), ids.ravel() == 0, "words drawn at random", "words")


def activations(seed: int = 0, noise: float = 0.3) -> csr_array[Any]:
    """[used token, feature]: as the names of the features say; ``noise`` varies how much, never where."""
    told, rng = corpus(), np.random.default_rng(seed)
    ids = told.ids[told.used]
    before = told.ids[told.used - 1]
    anywhere = np.random.default_rng(7).random(len(ids)) < 0.03
    where = [ids == 5, (ids == 5) | (ids == 6) | (ids == 7), (ids == 9) & (before == 8), anywhere]
    where += [ids < 0, (ids >= 50) & (ids < 80), ids == 3]
    dense = np.stack([fires * (2 + noise * rng.standard_normal(len(ids))) for fires in where], 1)
    return csr_array(np.clip(dense, 0, None).astype(np.float32))


def matches(rows: int = 6) -> pd.DataFrame:
    """Every feature with itself; the silent one has no match."""
    numbers = np.arange(rows)
    mppc = np.where(numbers == SILENT, np.nan, 0.95 - 0.17 * numbers)
    told = {"layer_a": 0, "feature_a": numbers, "mppc": mppc, "layer_b": 0, "feature_b": numbers, "null": 0.05}
    return pd.DataFrame(told)


@functools.cache
def known_contexts() -> dict[int, list[Context]]:
    """The top contexts of every feature."""
    return top_contexts(activations(), corpus(), None, ALL)
