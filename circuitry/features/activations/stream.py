"""Activations of graph nodes on a corpus: in endless shuffled batches, or once in the corpus's order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import CircuitryError, expected, no_effect
from ...executing.activations import read
from ...executing.memory import parse_memory
from ...models.model import Model
from ...paths.parse import parse_node
from ...paths.values import Node
from .corpus import Corpus, tokenizer_digest
from .corpus import corpus as tokenised
from .texts import Texts

CONTEXT = 1024
"""Most tokens of a document, by default."""
Ints = NDArray[np.int64]
Reader: TypeAlias = Callable[[Model, Iterable[Node], Ints], dict[Node, Tensor]]
"""From ids [row, position] to values [row, position, ...] of nodes."""


@dataclass(frozen=True)
class _Spans:
    """Used tokens ``first`` to ``stop`` of several documents, one part after another: arrays [part]."""

    document: Ints
    first: Ints
    stop: Ints

    @property
    def at(self) -> Ints:
        """Where each part begins in the sequence of all parts."""
        counts = self.stop - self.first
        begins: Ints = np.cumsum(counts) - counts
        return begins


@dataclass(frozen=True, eq=False)
class Activations:
    """Values of nodes at the used tokens of a corpus. Made by ``activations``.

    The endless sequence of used tokens (all documents in a seeded order, then all in another order, and so on) is cut into
    buffers of ``buffer`` tokens; a document that is cut runs for both buffers. A buffer is filled by forward passes, shuffled,
    and used up in batches of ``batch``. Everything follows from ``seed`` and the number of the batch, so any batch can be made
    without the batches before it. Every token comes once before any comes twice, except in a buffer that spans two epochs.
    ``reader`` replaces the engine in reading values. Of ``world_size`` processes, the one with ``rank`` r gets batches r,
    r + ``world_size``, and so on.
    """

    model: Model
    nodes: tuple[Node, ...]
    corpus: Corpus
    batch: int
    buffer: int
    seed: int
    memory: int
    rank: int = 0
    world_size: int = 1
    reader: Reader | None = None

    @functools.cached_property
    def widths(self) -> dict[Node, int]:
        """Numbers of each node at one token: the product of all dimensions after position.

        >>> import circuitry as ct
        >>> from circuitry.features.activations import activations
        >>> acts = activations(ct.load("bundled:mamba"), ["resid[4]", "h[0]"], ["Twenty characters or more."])
        >>> {str(node): width for node, width in acts.widths.items()}
        {'resid[4]': 128, 'ssm_state[0]': 8192}
        """
        # Two lengths, since attention patterns have a number for every token and would pass as a width.
        short, long = (self._read(np.zeros((1, length), np.int64)) for length in (1, 2))
        if growing := [str(node) for node in self.nodes if short[node].shape[2:] != long[node].shape[2:]]:
            raise CircuitryError(f"{growing[0]} has no fixed width: it has a number for every token of the text")
        return {node: value[0, 0].numel() for node, value in short.items()}

    def batches(self, start: int = 0) -> Iterator[dict[Node, Tensor]]:
        """Endless shuffled batches, float32 [batch, width], on the model's device, from this process's batch ``start`` on.

        They equal, to the bit, those of a stream that begins at 0; buffers before ``start`` are not computed.

        >>> import circuitry as ct
        >>> from circuitry.features.activations import activations
        >>> acts = activations(ct.load("bundled:mamba"), "resid[4]", ["Twenty characters or more."] * 3, batch=8, buffer=16)
        >>> stream = acts.batches()
        >>> first, second = next(stream), next(stream)
        >>> node = acts.nodes[0]
        >>> first[node].shape, bool((next(acts.batches(1))[node] == second[node]).all())
        (torch.Size([8, 128]), True)
        """
        per_buffer = self.buffer // self.batch
        number = start * self.world_size + self.rank
        while True:
            window, first = divmod(number, per_buffer)
            values = self._values(self._shuffled(window))
            order = np.random.default_rng([self.seed, 1, window]).permutation(self.buffer).reshape(per_buffer, self.batch)
            for tokens in order[first :: self.world_size]:
                at = torch.from_numpy(tokens).to(self.model.device)
                yield {node: value[at] for node, value in values.items()}
                number += self.world_size
            del values  # else two buffers are in memory while the next one is filled

    def in_order(self, start: int = 0) -> Iterator[tuple[slice, dict[Node, Tensor]]]:
        """Every used token once, in the corpus's order, from number ``start`` on: a slice of numbers, and float32 [n, width], n <= batch.

        All processes get the same, whatever their rank.

        >>> import circuitry as ct
        >>> from circuitry.features.activations import activations
        >>> acts = activations(ct.load("bundled:mamba"), "resid[4]", ["Twenty characters or more."] * 3, tokens=20, batch=8)
        >>> [(at.start, at.stop) for at, _ in acts.in_order()]
        [(0, 8), (8, 16), (16, 20)]
        """
        documents = np.arange(len(self.corpus))
        # From the beginning of a buffer, wherever ``start`` is: other forward passes would round differently.
        for begin in range(start - start % self.buffer, self.corpus.tokens, self.buffer):
            end = min(begin + self.buffer, self.corpus.tokens)
            values = self._values(self._window(documents, begin, end))
            for at in range(max(begin, start), end, self.batch):
                stop = min(at + self.batch, end)
                yield slice(at, stop), {node: value[at - begin : stop - begin].clone() for node, value in values.items()}
            del values

    def _window(self, documents: Ints, start: int, stop: int) -> _Spans:
        """Used tokens ``start`` to ``stop`` of the documents in this order."""
        counts = np.diff(self.corpus.edges)[documents]
        ends = np.cumsum(counts)
        begins = ends - counts
        inside = np.flatnonzero((ends > start) & (begins < stop) & (counts > 0))
        begins, counts = begins[inside], counts[inside]
        return _Spans(documents[inside], np.maximum(start - begins, 0), np.minimum(stop - begins, counts))

    def _shuffled(self, window: int) -> _Spans:
        """The used tokens of one buffer; it may hold the end of one epoch and the beginning of the next."""
        start, size = window * self.buffer, self.corpus.tokens
        stop = start + self.buffer
        parts = []
        for epoch in range(start // size, -(-stop // size)):
            documents = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.corpus))
            parts.append(self._window(documents, max(start - epoch * size, 0), min(stop - epoch * size, size)))
        return _Spans(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("document", "first", "stop")))

    def _read(self, ids: Ints) -> dict[Node, Tensor]:
        return (self.reader or read)(self.model, self.nodes, ids)

    def _values(self, parts: _Spans) -> dict[Node, Tensor]:
        """Values at the tokens of the parts, in their order: float32 [token, width]."""
        total, used, starts = int((parts.stop - parts.first).sum()), self.corpus.used, self.corpus.starts
        values = {node: torch.empty(total, width, device=self.model.device) for node, width in self.widths.items()}
        # Each document runs from its beginning, so that tokens see their context, but only to the last token needed.
        last = used[self.corpus.edges[parts.document] + parts.stop - 1]
        lengths, at = last + 1 - starts[parts.document], parts.at
        for group in self._groups(lengths):
            ids = np.zeros((len(group), int(lengths[group].max())), np.int64)
            rows, columns, slots = [], [], []
            for row, part in enumerate(group):
                document, first, stop = parts.document[part], parts.first[part], parts.stop[part]
                begin = starts[document]
                ids[row, : lengths[part]] = self.corpus.ids[begin : begin + lengths[part]]
                columns.append(used[self.corpus.edges[document] + np.arange(first, stop)] - begin)
                rows.append(np.full(stop - first, row))
                slots.append(at[part] + np.arange(stop - first))
            index = tuple(torch.from_numpy(np.concatenate(k)).to(self.model.device) for k in (rows, columns, slots))
            for node, value in self._read(ids).items():
                values[node][index[2]] = value[index[0], index[1]].reshape(-1, self.widths[node]).float()
        return values

    def _groups(self, lengths: Ints) -> Iterator[Ints]:
        """Rows to run together: of similar length, and as many as fit into ``memory``, but at least one."""
        order = np.argsort(-lengths, kind="stable")
        read_out = 3 * self.model.dtype.itemsize * sum(self.widths.values())  # a value may exist three times at once
        while len(order):
            longest = int(lengths[order[0]])
            fit = max(1, self.memory // (self.model.bytes_per_row(longest) + read_out * longest))
            yield order[:fit]
            order = order[fit:]


def activations(
    model: Model,
    nodes: str | Node | Iterable[str | Node],
    texts: Texts = None,
    *,
    tokens: int | None = None,
    context: int = CONTEXT,
    batch: int = 1024,
    buffer: int = 65536,
    seed: int = 0,
    corpus: Corpus | None = None,
    memory: int | str = "512MiB",
    rank: int = 0,
    world_size: int = 1,
) -> Activations:
    """Activations of nodes on text: one forward pass serves all nodes, and special tokens are left out.

    Args:
        model: a loaded model.
        nodes: one or several: nodes such as ``"resid[3]"``, or families such as ``"head"`` for all their nodes.
        texts, tokens, context: as for ``corpus``.
        batch: tokens of a batch.
        buffer: tokens shuffled together, rounded up to whole batches; at most the corpus's, rounded likewise. It takes 4 bytes
            for each number of a node at each token.
        seed: for the order of documents and of tokens within a buffer.
        corpus: an existing corpus, instead of texts; ``tokens`` then takes its first documents.
        memory: bound for one forward pass, bytes or text such as "2GiB". Other bounds give values that differ by rounding.
        rank, world_size: of ``world_size`` processes that share the stream, this is number ``rank``. Each of them runs the model.

    Raises CircuitryError for nodes that do not exist, for the logits, and for a corpus that the model cannot read.

    >>> import circuitry as ct
    >>> acts = activations(ct.load("bundled:gpt_neox"), ["mlp", "resid[4]"], ["Twenty characters or more."])
    >>> [str(node) for node in acts.nodes]
    ['mlp[0]', 'mlp[1]', 'mlp[2]', 'mlp[3]', 'resid[4]']
    """
    if batch < 1 or buffer < batch:
        raise CircuitryError(expected(f"a batch of 1 to {buffer} tokens (buffer={buffer})", batch))
    if not 0 <= rank < world_size:
        raise CircuitryError(expected(f"a rank from 0 to {world_size - 1} (of {world_size} processes)", rank))
    chosen = tuple(dict.fromkeys(node for name in _several(nodes) for node in _nodes(model, name)))
    if not chosen:
        raise CircuitryError("no node to collect; name one such as 'resid[3]', or a family")
    if corpus is not None and texts is not None:
        raise CircuitryError("give texts or a corpus, not both")
    if corpus is not None and context != CONTEXT:
        raise no_effect("context", context, "the corpus is cut into documents already", "leave context out, or give texts")
    if corpus is None:
        corpus = tokenised(model, texts, tokens=tokens, context=context)
    elif tokens is not None:
        corpus = corpus.take(tokens)
    _check(model, corpus)
    buffer = -(-min(buffer, corpus.tokens) // batch) * batch
    stream = Activations(model, chosen, corpus, batch, buffer, seed, parse_memory(memory), rank, world_size)
    _ = stream.widths  # reads every node once, and raises for one that cannot be collected
    return stream


def _several(nodes: str | Node | Iterable[str | Node]) -> list[str | Node]:
    return [nodes] if isinstance(nodes, str | Node) else list(nodes)


def _nodes(model: Model, text: str | Node) -> list[Node]:
    """One node, or all nodes of a family, in the order of computation."""
    node = parse_node(text) if isinstance(text, str) else text
    family = model.graph.family(node.family).name
    if family == "logits":
        raise CircuitryError(
            "logits cannot be collected: they have a number for every token of the vocabulary; try a node such as 'resid[3]'"
        )
    members = model.graph.nodes(family)
    if node.indices or not members[0].indices:
        return [model.graph.node(node)]
    return [model.graph.node(replace(member, port=node.port)) for member in members]


def _check(model: Model, corpus: Corpus) -> None:
    """Raise CircuitryError for a corpus whose tokens are not the model's, or whose documents are too long for the model."""
    longest, limit = int(np.diff(corpus.starts).max()), model.positions
    if not corpus.tokens:
        raise CircuitryError("the corpus has special tokens only")
    if model.tokenizer is not None and corpus.tokenizer and tokenizer_digest(model.tokenizer) != corpus.tokenizer:
        raise CircuitryError(f"{corpus!r} was made with another tokenizer than that of {model.name}; make one with corpus(model)")
    first, last = corpus.ids.min(), corpus.ids.max()
    if first < 0 or last >= model.hf.config.vocab_size:
        raise CircuitryError(
            f"the corpus has token ids {first} to {last}, {model.name} has 0 to {model.hf.config.vocab_size - 1}"
        )
    if limit is not None and longest > limit:
        raise CircuitryError(
            f"a document of {longest} tokens is longer than {model.name}'s {limit} positions; make the corpus with context={limit}"
        )
