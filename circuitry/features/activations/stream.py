"""Activations of graph nodes on a corpus: in endless shuffled batches, or once in the corpus's order."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...errors import CircuitryError, expected, no_effect
from ...executing.memory import parse_memory
from ...html.shown import Shown
from ...models.model import Model
from ...paths.parse import parse_node
from ...paths.values import Node
from .corpus import Corpus, tokenizer_digest
from .corpus import corpus as tokenised
from .forward import Forward
from .passes import Ints, Passes, tokens_of
from .stored import ActivationStore, opened
from .texts import Texts

if TYPE_CHECKING:
    from markupsafe import Markup

CONTEXT, MEMORY = 1024, "512MiB"
"""Defaults: most tokens of a document, and the bound for a forward pass."""


class Origin(Protocol):
    """Where values come from: a model, or files."""

    @property
    def passes(self) -> Passes:
        """The forward passes of the whole corpus."""

    @property
    def widths(self) -> Mapping[Node, int]:
        """Numbers of each node at one token."""

    @property
    def device(self) -> torch.device:
        """Where values are."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the values depend on besides the corpus."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The model, for files."""

    def values(self, numbers: Ints, nodes: Iterable[Node]) -> dict[Node, Tensor]:
        """Values at the used tokens of passes, in their order: float32 [token, width]."""


@dataclass(frozen=True)
class _Buffer:
    """Passes whose tokens are shuffled together: tokens ``begin`` to ``stop`` of the endless sequence, and its number."""

    number: int
    passes: Ints
    begin: int
    stop: int


@dataclass(frozen=True, eq=False)
class Activations(Shown):
    """Values of nodes at the used tokens of a corpus. Made by ``activations``.

    ``origin`` divides the corpus into forward passes, each of which has whole documents. In every epoch all passes come in
    another seeded order, and are cut into buffers of about ``buffer`` tokens, between passes. A buffer is filled, shuffled and used
    up; ``batch`` tokens are a batch, which may begin in one buffer and end in the next. Everything follows from ``seed`` and
    the number of the batch, so any batch can be made without the batches before it. No document runs twice in an epoch, and
    every token comes once before any comes twice.
    """

    origin: Origin
    nodes: tuple[Node, ...]
    corpus: Corpus
    batch: int
    buffer: int
    seed: int

    def _shown_(self) -> Iterable[Markup]:
        from ..notebook import of_activations

        return of_activations(self)

    @property
    def widths(self) -> dict[Node, int]:
        """Numbers of each node at one token: the product of all dimensions after position.

        >>> import circuitry as ct
        >>> from circuitry.features.activations import activations
        >>> acts = activations(ct.load("bundled:mamba"), ["resid[4]", "h[0]"], ["Twenty characters or more."])
        >>> {str(node): width for node, width in acts.widths.items()}
        {'resid[4]': 128, 'ssm_state[0]': 8192}
        """
        return {node: self.origin.widths[node] for node in self.nodes}

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the batches depend on, except their size.

        >>> import circuitry as ct
        >>> from circuitry.features.activations import activations
        >>> list(activations(ct.load("bundled:mamba"), "resid[4]", ["Twenty characters or more."]).identity)
        ['weights', 'passes', 'corpus', 'buffer', 'seed']
        """
        return {**self.origin.identity, "corpus": self.corpus.digest, "buffer": self.buffer, "seed": self.seed}

    @property
    def provenance(self) -> dict[str, Any]:
        """The text and the model, for files."""
        text = {"corpus": self.corpus.digest, "text": self.corpus.source, "tokenizer": self.corpus.tokenizer}
        return {**text, **self.origin.provenance}

    def batches(self, start: int = 0) -> Iterator[dict[Node, Tensor]]:
        """Endless shuffled batches, float32 [batch, width], on the model's device, from batch ``start`` on.

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
        return self._cut(self._shuffled(start * self.batch), itertools.repeat(self.batch))

    def in_order(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[slice, dict[Node, Tensor]]]:
        """Used tokens ``start`` to ``stop``, once, in the corpus's order: a slice of numbers, and float32 [n, width], n <= batch.

        Slices end at multiples of ``batch`` and at ``stop``, by default the end of the corpus.

        >>> import circuitry as ct
        >>> from circuitry.features.activations import activations
        >>> acts = activations(ct.load("bundled:mamba"), "resid[4]", ["Twenty characters or more."] * 3, tokens=20, batch=8)
        >>> [(at.start, at.stop) for at, _ in acts.in_order()]
        [(0, 8), (8, 16), (16, 20)]
        """
        end = self.corpus.tokens if stop is None else min(stop, self.corpus.tokens)
        if start >= end:
            return
        first = start - start % self.batch + self.batch
        edges = [start, *range(first, end, self.batch), end]
        slices = [slice(*pair) for pair in itertools.pairwise(edges)]
        yield from zip(slices, self._cut(self._natural(start), (at.stop - at.start for at in slices)), strict=True)

    def _cut(self, parts: Iterator[tuple[Ints, Ints]], sizes: Iterable[int]) -> Iterator[dict[Node, Tensor]]:
        """Parts, (passes, which of their tokens to take in what order), filled one after another and cut into these sizes."""
        values: dict[Node, Tensor] = {}
        order = np.zeros(0, np.int64)
        for size in sizes:
            pieces: list[dict[Node, Tensor]] = []
            missing = size
            while missing:
                if not len(order):
                    values = {}  # else two buffers are in memory while the next one is filled
                    passes, order = next(parts)
                    values = self.origin.values(passes, self.nodes)
                taken, order = order[:missing], order[missing:]
                at = torch.from_numpy(taken).to(self.origin.device)
                pieces.append({node: value[at] for node, value in values.items()})
                missing -= len(taken)
            yield pieces[0] if len(pieces) == 1 else {n: torch.cat([piece[n] for piece in pieces]) for n in self.nodes}

    def _shuffled(self, at: int) -> Iterator[tuple[Ints, Ints]]:
        """Buffers from token ``at`` of the endless sequence on; the first one without its tokens before ``at``."""
        while True:
            buffer = self._buffer(at)
            order = np.random.default_rng([self.seed, 1, buffer.number]).permutation(buffer.stop - buffer.begin)
            yield buffer.passes, order[at - buffer.begin :]
            at = buffer.stop

    def _natural(self, start: int) -> Iterator[tuple[Ints, Ints]]:
        """Stretches of the corpus from its used token ``start`` on."""
        passes = self.origin.passes
        for first, stop in itertools.pairwise(passes.stretches.tolist()):
            if passes.tokens[stop] > start:
                tokens = tokens_of(self.corpus, passes.documents[passes.edges[first] : passes.edges[stop]])
                yield np.arange(first, stop), np.argsort(tokens)[max(start - int(passes.tokens[first]), 0) :]

    def _buffer(self, at: int) -> _Buffer:
        """The buffer that has token ``at`` of the endless sequence."""
        epoch, offset = divmod(at, self.corpus.tokens)
        order, bounds, begins = self._epoch(epoch)
        number = int(np.searchsorted(begins, offset, side="right")) - 1
        begin, stop = (epoch * self.corpus.tokens + int(begins[number + k]) for k in (0, 1))
        return _Buffer(epoch * (len(begins) - 1) + number, order[bounds[number] : bounds[number + 1]], begin, stop)

    def _epoch(self, epoch: int) -> tuple[Ints, Ints, Ints]:
        """Passes in an epoch's order; the index in it at which each buffer begins, and the number of tokens before it."""
        passes, size = self.origin.passes, self.corpus.tokens
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(passes))
        before = np.concatenate([[0], np.cumsum(np.diff(passes.tokens)[order])])
        several = -(-size // self.buffer)
        bounds = np.searchsorted(before, -(-np.arange(several + 1) * size // several))
        return order, bounds, before[bounds]


def activations(
    model: Model | ActivationStore | str | PathLike[str],
    nodes: str | Node | Iterable[str | Node] | None = None,
    texts: Texts = None,
    *,
    tokens: int | None = None,
    context: int = CONTEXT,
    batch: int = 1024,
    buffer: int = 65536,
    seed: int = 0,
    corpus: Corpus | None = None,
    memory: int | str = MEMORY,
) -> Activations:
    """Activations of nodes on text: one forward pass serves all nodes, and special tokens are left out.

    Args:
        model: a loaded model; or, in its place and that of the text, activations that ``store`` wrote: an ``ActivationStore`` or
            its folder.
        nodes: one or several: nodes such as ``"resid[3]"``, or families such as ``"head"`` for all their nodes. None: all
            nodes of a store.
        texts, tokens, context: as for ``corpus``.
        batch: tokens of a batch.
        buffer: about how many tokens are shuffled together; documents are not cut. It takes 4 bytes for each number of a node at
            each token. Documents that run together are near each other, too: within as many tokens of the corpus.
        seed: for the order of documents and of tokens within a buffer.
        corpus: an existing corpus, instead of texts; ``tokens`` then takes its first documents.
        memory: bound for one forward pass, bytes or text such as "2GiB". Other bounds give values that differ by rounding.

    Raises CircuitryError for nodes that do not exist, for the logits, for a corpus that the model cannot read, and for a store of
    other nodes or of another corpus.

    >>> import circuitry as ct
    >>> acts = activations(ct.load("bundled:gpt_neox"), ["mlp", "resid[4]"], ["Twenty characters or more."])
    >>> [str(node) for node in acts.nodes]
    ['mlp[0]', 'mlp[1]', 'mlp[2]', 'mlp[3]', 'resid[4]']
    """
    if batch < 1 or buffer < batch:
        raise CircuitryError(expected(f"a batch of 1 to {buffer} tokens (buffer={buffer})", batch))
    if (stored := opened(model)) is not None:
        _check_stored(
            stored, corpus, texts=(texts, None), tokens=(tokens, None), context=(context, CONTEXT), memory=(memory, MEMORY)
        )
        names = list(stored.widths) if nodes is None else _several(nodes)
        chosen = _chosen(node for name in names for node in stored.nodes(name))
        return Activations(stored, chosen, stored.corpus, batch, buffer, seed)
    if not isinstance(model, Model):
        raise CircuitryError(expected("a model, or stored activations", model))
    chosen = _chosen(node for name in _several(nodes or ()) for node in members(model, name))
    if corpus is not None and texts is not None:
        raise CircuitryError("give texts or a corpus, not both")
    if corpus is not None and context != CONTEXT:
        raise no_effect("context", context, "the corpus is cut into documents already", "leave context out, or give texts")
    if corpus is None:
        corpus = tokenised(model, texts, tokens=tokens, context=context)
    elif tokens is not None:
        corpus = corpus.take(tokens)
    _check(model, corpus)
    forward = Forward(model, chosen, corpus, buffer, parse_memory(memory))
    _ = forward.widths  # reads every node once, and raises for one that cannot be collected
    return Activations(forward, chosen, corpus, batch, buffer, seed)


def _chosen(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Each node once. Raises CircuitryError if there is none."""
    if not (chosen := tuple(dict.fromkeys(nodes))):
        raise CircuitryError("no node to collect; name one such as 'resid[3]', or a family")
    return chosen


def _check_stored(stored: ActivationStore, corpus: Corpus | None, **given: tuple[Any, Any]) -> None:
    """Refuse another corpus than the stored one, and settings, (value, default), of how values are collected."""
    for name, (value, default) in given.items():
        if value != default:
            raise no_effect(name, ..., f"{stored.folder} has its activations already", f"leave {name} out, or give the model")
    if corpus is not None and corpus.digest != stored.corpus.digest:
        raise CircuitryError(
            f"{stored.folder} was made from {stored.corpus!r}, not from {corpus!r}; give that one, or leave it out"
        )


def _several(nodes: str | Node | Iterable[str | Node]) -> list[str | Node]:
    return [nodes] if isinstance(nodes, str | Node) else list(nodes)


def members(model: Model, text: str | Node) -> list[Node]:
    """One node, or all nodes of a family, in the order of computation. Raises CircuitryError for unknown nodes and the logits.

    >>> import circuitry as ct
    >>> [str(node) for node in members(ct.load("bundled:gpt_neox"), "mlp")]
    ['mlp[0]', 'mlp[1]', 'mlp[2]', 'mlp[3]']
    """
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
