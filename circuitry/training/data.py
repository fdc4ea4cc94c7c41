"""What the bundled models are trained on: random-token induction, IOI sentences and plain English."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from tokenizers import Tokenizer

from . import sentences

Ids = NDArray[np.int64]
ELSEWHERE = 0.05
"""Loss weight of tokens that nothing in the row predicts."""


@dataclass(frozen=True)
class Rows:
    """Training rows: ``ids`` [rows, length] and the loss ``weight`` [rows, length] of *predicting* each token."""

    ids: Ids
    weight: NDArray[np.float32]


def induction_rows(rng: Generator, rows: int, length: int, vocabulary: Ids, periodic: bool) -> Rows:
    """Rows in which some tokens can be predicted by induction and in no other way.

    ``periodic``: a random period, repeated to fill the row, which is easy to learn first. Otherwise segments of distinct tokens,
    each followed by the same tokens in shuffled pieces. Periods vary, or a model would learn to look back a fixed distance.
    """
    pairs = [(_periodic_row if periodic else _shuffled_row)(rng, length, vocabulary) for _ in range(rows)]
    return Rows(np.stack([ids for ids, _ in pairs]), np.stack([weight for _, weight in pairs]))


def _periodic_row(rng: Generator, length: int, vocabulary: Ids) -> tuple[Ids, NDArray[np.float32]]:
    period = int(rng.integers(3, length // 2 + 1))
    ids = np.resize(rng.choice(vocabulary, period, replace=False), length)
    weight = np.ones(length, np.float32)
    weight[: period + 1] = ELSEWHERE
    return ids, weight


def _shuffled_row(rng: Generator, length: int, vocabulary: Ids) -> tuple[Ids, NDArray[np.float32]]:
    """One segment, or with equal probability several of random lengths, so that near and far distances both occur."""
    distinct = rng.choice(vocabulary, length // 2, replace=False)
    cuts = np.cumsum(rng.integers(4, length // 2 + 1, 8)) if rng.random() < 0.5 else np.array([], int)
    parts = [_with_copy(rng, segment) for segment in np.split(distinct, cuts[cuts < length // 2])]
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([weight for _, weight in parts])


def _with_copy(rng: Generator, segment: Ids) -> tuple[Ids, NDArray[np.float32]]:
    """A segment, then its pieces of 2 to 6 tokens in random order; the first token of a piece cannot be predicted."""
    size = len(segment)
    cuts = np.cumsum(rng.integers(2, 7, size))
    pieces = np.split(segment, cuts[cuts < size - 1])
    pieces = [pieces[k] for k in rng.permutation(len(pieces))]
    weight = np.ones(2 * size, np.float32)
    weight[:size] = ELSEWHERE
    weight[size + np.cumsum([0] + [len(p) for p in pieces[:-1]])] = ELSEWHERE
    return np.concatenate([segment, *pieces]), weight


class Sentences:
    """Packs IOI sentences into rows. Some names are random tokens, so that the model learns to copy any token."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: Ids, random_names: float = 0.3) -> None:
        self._tokenizer, self._vocabulary, self._random_names = tokenizer, vocabulary, random_names
        self.end = int(tokenizer.encode(sentences.END).ids[0])
        names = [self._one_token(name) for name in sentences.NAMES]
        self._names = np.array(names)

    def _one_token(self, word: str) -> int:
        ids = self._tokenizer.encode(" " + word).ids
        if len(ids) != 1:
            raise ValueError(f"{word!r} is {len(ids)} tokens; the tokenizer was trained to make it one")
        return int(ids[0])

    def one(self, rng: Generator, templates: list[str]) -> tuple[list[int], int, int]:
        """One prompt: its tokens, the indirect object (the answer) and the subject."""
        template = templates[int(rng.integers(len(templates)))]
        place, thing = rng.choice(sentences.PLACES), rng.choice(sentences.OBJECTS)
        text = template.replace("{place}", str(place)).replace("{object}", str(thing))
        pool = self._vocabulary if rng.random() < self._random_names else self._names
        a, b, c = (int(i) for i in rng.choice(pool, 3, replace=False))
        subject, answer = (a, b) if rng.random() < 0.5 else (b, a)
        slots = {"{A}": a, "{B}": b, "{S}": subject, "{C}": c}
        ids: list[int] = []
        for piece in sentences.split_slots(text):
            ids += [slots[piece]] if piece in slots else self._tokenizer.encode(piece).ids
        return ids, answer, subject

    def rows(self, rng: Generator, rows: int, length: int, templates: list[str]) -> Rows:
        """Rows packed with prompts and their answers, each after an end-of-text token; the answers are weighted."""
        ids = np.full((rows, length), self.end, np.int64)
        weight = np.full((rows, length), ELSEWHERE, np.float32)
        for row in range(rows):
            at = 0
            while at < length:
                prompt, answer, _ = self.one(rng, templates)
                item: list[int] = [self.end, *prompt, answer][: length - at]
                ids[row, at : at + len(item)] = item
                if len(item) == len(prompt) + 2:
                    weight[row, at + len(item) - 1] = 1
                at += len(item)
        return Rows(ids, weight)


def english_rows(rng: Generator, rows: int, length: int, tokens: NDArray[np.uint16]) -> Rows:
    """Random windows of the tokenised corpus, every token predicted."""
    starts = rng.integers(0, len(tokens) - length, rows)
    ids = np.stack([tokens[s : s + length] for s in starts]).astype(np.int64)
    return Rows(ids, np.ones(ids.shape, np.float32))


def induction_prompts(rng: Generator, count: int, distance: int, vocabulary: Ids) -> tuple[Ids, Ids]:
    """Held-out test prompts: 7 random tokens, A, B, random tokens, A; all distinct. Returns ids and the answers B."""
    ids = np.stack([rng.choice(vocabulary, 7 + distance, replace=False) for _ in range(count)])
    return np.concatenate([ids, ids[:, 7:8]], axis=1), ids[:, 8]
