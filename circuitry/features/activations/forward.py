"""Values of nodes from forward passes of a model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...errors import CircuitryError
from ...executing.activations import read
from ...models.model import Model
from ...paths.values import Node
from .corpus import Corpus
from .passes import Ints, Passes, needed, plan, tokens_of

Reader: TypeAlias = Callable[[Model, Iterable[Node], Ints], dict[Node, Tensor]]
"""From ids [row, position] to values [row, position, ...] of nodes."""


@dataclass(frozen=True, eq=False)
class Forward:
    """Runs the passes of a corpus through a model; ``memory`` bytes bound one pass. ``reader`` replaces the engine in reading."""

    model: Model
    nodes: tuple[Node, ...]
    corpus: Corpus
    buffer: int
    memory: int
    reader: Reader | None = None

    @property
    def device(self) -> torch.device:
        """Where values are."""
        return self.model.device

    @functools.cached_property
    def widths(self) -> dict[Node, int]:
        """Numbers of each node at one token. Raises CircuitryError for a node without a fixed width."""
        # Two lengths, since attention patterns have a number for every token and would pass as a width.
        short, long = (self._read(np.zeros((1, length), np.int64)) for length in (1, 2))
        if growing := [str(node) for node in self.nodes if short[node].shape[2:] != long[node].shape[2:]]:
            raise CircuitryError(f"{growing[0]} has no fixed width: it has a number for every token of the text")
        return {node: value[0, 0].numel() for node, value in short.items()}

    @functools.cached_property
    def passes(self) -> Passes:
        """What runs together: as many rows as fit into ``memory``."""
        return plan(self.corpus, self.buffer, self._fit)

    @property
    def identity(self) -> dict[str, Any]:
        """What the values depend on besides the corpus: the weights, and what runs together, which decides how they round."""
        return {"weights": self.model.fingerprint, "passes": self.passes.digest}

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The model, for files."""
        dtype = str(self.model.dtype).removeprefix("torch.")
        return {"model": self.model.name, "weights": self.model.fingerprint, "dtype": dtype}

    def values(self, numbers: Ints, nodes: Iterable[Node]) -> dict[Node, Tensor]:
        """Values of some of the nodes at the used tokens of passes, in their order: float32 [token, width]."""
        total = int(np.diff(self.passes.tokens)[numbers].sum())
        values = {node: torch.empty(total, self.widths[node], device=self.device) for node in nodes}
        at = 0
        for number in numbers:
            documents = self.passes.of(number)
            ids, rows, columns = self._inputs(documents)
            read_out = self._read(ids)
            for node in values:
                value = read_out[node][rows.to(self.device), columns.to(self.device)]
                values[node][at : at + len(rows)] = value.reshape(-1, self.widths[node]).float()
            at += len(rows)
        return values

    def _inputs(self, documents: Ints) -> tuple[Ints, Tensor, Tensor]:
        """The ids of documents as rows, padded on the right, and the row and column of each used token."""
        lengths, starts = needed(self.corpus, documents), self.corpus.starts[documents]
        ids = np.zeros((len(documents), int(lengths.max())), np.int64)
        for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            ids[row, :length] = self.corpus.ids[start : start + length]
        rows = np.repeat(np.arange(len(documents)), np.diff(self.corpus.edges)[documents])
        columns = self.corpus.used[tokens_of(self.corpus, documents)] - starts[rows]
        return ids, torch.from_numpy(rows), torch.from_numpy(columns)

    def _read(self, ids: Ints) -> dict[Node, Tensor]:
        return (self.reader or read)(self.model, self.nodes, ids)

    def _fit(self, length: int) -> int:
        """How many rows fit into memory; a value may exist three times at once."""
        read_out = 3 * self.model.dtype.itemsize * sum(self.widths.values())
        return self.memory // (self.model.bytes_per_row(length) + read_out * length)
