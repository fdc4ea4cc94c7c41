"""The small tokenizer of all bundled models: byte-level BPE in which every task word is one token."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from . import sentences

VOCABULARY = 2048
_TASK_WORD_WEIGHT = 20_000
"""Repetitions of each task word in the training text: enough for it to become one token, whatever the corpus."""


def train_tokenizer(text: str) -> Tokenizer:
    """Train the tokenizer on ``text``; deterministic."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = sentences.NAMES + sentences.PLACES + sentences.OBJECTS

    def lines() -> Iterator[str]:
        yield from text.splitlines()
        for word in words:
            yield (" " + word) * _TASK_WORD_WEIGHT

    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[sentences.END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines(), trainer)
    return tokenizer


def read_corpus(path: Path, megabytes: float) -> str:
    """The first ``megabytes`` of a text file, xz-compressed or plain."""
    with lzma.open(path, "rb") if path.suffix == ".xz" else path.open("rb") as file:
        return file.read(int(megabytes * 1e6)).decode("utf-8", errors="ignore")


def encode_corpus(tokenizer: Tokenizer, text: str) -> NDArray[np.uint16]:
    """The corpus as one array of token ids."""
    chunks = [text[i : i + 100_000] for i in range(0, len(text), 100_000)]
    return np.concatenate([np.array(e.ids, np.uint16) for e in tokenizer.encode_batch(chunks)])
