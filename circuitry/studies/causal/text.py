"""Text in place of a task: for each feature the tokens where it fires, and what its ablation does to the next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csc_array

from ...errors import CircuitryError
from ...features.activations.corpus import Corpus
from ...features.activations.stream import activations
from ...features.matching.blocks import Block
from ...features.matching.encode import features
from ...prompting.definition import TaskDefinition
from ...prompting.prompts import Prompts
from ...prompting.task import Task, task_of
from ...results.statistics import Array
from .measure import How, Measured, kept
from .sides import Side

NAME = "text"
OPTIONS: dict[str, Any] = {"metric": "log_probability", "lint": False}
"""How ``ct.patch`` measures on text."""


@dataclass
class Firing:
    """Where features of one side fire in a corpus, at tokens that have a next token in their document: by node [used token, feature]."""

    corpus: Corpus
    at: dict[str, Any]

    @classmethod
    def of(cls, side: Side, corpus: Corpus) -> Firing:
        """Encode the corpus. Raises CircuitryError for one that the model cannot read."""
        blocks: dict[str, list[Block]] = {str(node): [] for node in side.nodes}
        for _, values in activations(side.model, list(side.nodes), corpus=corpus).in_order():
            for node in side.nodes:
                blocks[str(node)].append(features(side.saes[node], values[node]))
        last = np.isin(corpus.used, corpus.starts[1:] - 1)
        found = {}
        for node in side.nodes:
            block = Block.joined(blocks[str(node)])
            token = np.repeat(np.arange(block.tokens), block.count)
            inner = ~last[token]
            shape = block.tokens, side.saes[node].config.features
            found[str(node)] = csc_array((np.ones(inner.sum()), (token[inner], block.feature[inner])), shape)
        return cls(corpus, found)

    def counts(self, node: str) -> Array:
        """On how many tokens each feature of a node fires [feature]."""
        return np.diff(self.at[node].indptr)

    def task(self, node: str, feature: int, prompts: int, seed: int) -> Task:
        """Prompts that end where a feature fires, at tokens drawn by the seed; the answer is the next token.

        A prompt begins where its document does, so that the feature fires as it did in the corpus.
        """
        array, corpus = self.at[node], self.corpus
        tokens = np.sort(array.indices[array.indptr[feature] : array.indptr[feature + 1]])
        if len(tokens) < prompts:
            raise CircuitryError(f"{node}.latent[{feature}] fires on {len(tokens)} tokens, fewer than {prompts}")
        ends = corpus.used[np.sort(np.random.default_rng([seed, feature]).choice(tokens, prompts, replace=False))]
        starts = corpus.starts[np.searchsorted(corpus.starts, ends, side="right") - 1]
        lengths = ends + 1 - starts
        ids = np.zeros((prompts, int(lengths.max())), np.int64)
        for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
            ids[row, : end + 1 - start] = corpus.ids[start : end + 1]
        answer = corpus.ids[ends + 1].astype(np.int64)
        made = Prompts(ids, ids, answer, answer, {"END": lengths - 1}, None, lengths)
        definition = TaskDefinition(
            NAME, corpus.source, lambda *_, **__: made, ("END",), ("END",), copied=False, source=corpus.digest
        )
        return task_of(definition, {}, prompts, seed)


def on_text(
    side: Side, letter: str, tables: Sequence[pd.DataFrame], firing: Firing, prompts: int, seed: int, how: How
) -> Measured:
    """Effects of the features of one side of pairs, each on prompts that end where the pair's first feature fires.

    An effect is the change of the next token's log probability if the feature is ablated; the whole effect is -1 everywhere, so that a
    normalized effect is the increase of the loss in nats.
    """
    own = ("node_a", "feature_a")
    columns = own if letter == "a" else (*own, "node_b", "feature_b")
    measured = Measured(columns, np.full(prompts, -1.0))
    with side.attached():
        for row in pd.concat(tables)[list(columns)].drop_duplicates().itertuples(index=False, name=None):
            task = firing.task(row[0], int(row[1]), prompts, seed)
            table = how.table(side, row[-2], [int(row[-1])], task, key=row[:2])
            measured.effects[row] = kept(table)[0]
    return measured
