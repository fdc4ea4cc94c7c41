"""Feature activations of a model: every autoencoder is applied to its node, in one pass over a corpus."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...autoencoders.named import Given, by_node, check_width, read_by
from ...errors import CircuitryError, expected, whole
from ...models.model import Model
from ...paths.values import Node
from ...progress import bar
from ...store.locks import Presence
from ..activations.corpus import Corpus
from ..activations.origin import MASK, first_tokens, folders, origin
from ..activations.passes import runs
from ..activations.stored import ActivationStore, opened
from ..activations.stream import Activations, activations
from .blocks import Block
from .parts import Parts
from .store import FeatureActs
from .writer import identity

if TYPE_CHECKING:
    from ...autoencoders.sae import SAE


def encode(
    model: Model | ActivationStore | str | PathLike[str],
    saes: Given,
    corpus: Corpus | None,
    out: str | PathLike[str],
    *,
    batch: int = 1024,
    buffer: int = 8192,
    memory: int | str = "512MiB",
    stored_dtype: str = "float16",
    shard: int = 1 << 16,
    rank: int = 0,
    world_size: int = 1,
    progress: bool = True,
) -> list[FeatureActs]:
    """Write each autoencoder's feature activations at the corpus's used tokens, into a folder for each node below ``out``.

    Args:
        model: the model on which the autoencoders were trained; or, in its place, activations of it that ``store`` wrote, or
            their folder.
        saes: one autoencoder; several by node (or its text), as ``train_sae`` returns them; or several that name their node in
            ``config.provenance``.
        corpus: with the model's tokens; None for that of stored activations. MPPC compares activations on the same corpus only.
        out: a folder. The same call resumes after a kill, and writes nothing if everything is complete.
        batch, buffer, memory: tokens that an autoencoder gets at once, tokens kept in memory (about), and the bound of a forward
            pass. For stored activations, the last two are those with which they were made.
        stored_dtype: "float16" (4 bytes for each activation that is not 0) or "float32" (6).
        shard: about how many tokens a file has; it has whole documents.
        rank, world_size: of ``world_size`` processes that share the work, this is number ``rank``: it writes every
            ``world_size``-th file and waits for no other. The one that ends last completes the folders. A call without them
            writes all files that are missing.
        progress: show a bar if there is a terminal.

    Returns the feature activations that are complete: all of them, unless another process has not written its part. Raises
    CircuitryError for a corpus that the model cannot read, nodes that do not exist, autoencoders of another width, a
    folder that holds something else, and activations too large for the stored dtype.

    >>> import tempfile
    >>> import circuitry as ct
    >>> from circuitry.features.activations import corpus
    >>> from circuitry.features.sae import SAE, SAEConfig
    >>> model = ct.load("bundled:mamba")
    >>> encode(model, {"resid[4]": SAE(SAEConfig(128, 256))}, corpus(model, ["A text of some length."]), tempfile.mkdtemp(), progress=False)
    [<bundled:mamba resid[4]: 256 features on 9 tokens>]
    """
    given = _Given.of(model, saes, corpus, {"buffer": buffer, "memory": memory})
    stream = given.stream(batch)
    passes, text = stream.origin.passes, stream.corpus
    edges = passes.tokens[passes.stretches]  # a file has whole stretches, so no document is run for two files
    edges = edges[[0, *(run.stop for run in runs(edges, whole("shard", shard, 1)))]]
    parts = {
        node: Parts(folder, given.identity(node, text, stored_dtype, shard), edges, first_tokens(text))
        for node, folder in folders(given.saes, Path(out)).items()
    }
    with ExitStack() as stack:
        for part in parts.values():
            if not part.complete:  # a complete folder is only read, so it may be on a read-only disk
                part.check(alone=world_size == 1)
                stack.enter_context(Presence(part.folder, rank, world_size).hold())
                part.begin(alone=world_size == 1)
            else:
                part.check()
        _write(stream, given, parts, range(rank, len(edges) - 1, world_size), progress)
        return [acts for part in parts.values() if (acts := part.close()) is not None]


@dataclass(frozen=True)
class _Given:
    """A model or stored activations, with autoencoders by their nodes."""

    model: Model | ActivationStore
    saes: Mapping[Node, SAE]
    corpus: Corpus | None
    runs: Mapping[str, Any]
    """How the model runs; empty for stored activations."""

    @classmethod
    def of(cls, model: object, saes: Given, corpus: Corpus | None, how: Mapping[str, Any]) -> _Given:
        if (stored := opened(model)) is not None:
            return cls(stored, by_node(stored, saes, stored.device), corpus, {})
        if not isinstance(model, Model):
            raise CircuitryError(expected("a model, or stored activations", model))
        if corpus is None:
            raise CircuitryError("give the corpus to encode on, or stored activations")
        return cls(model, by_node(model.graph, saes, model.device), corpus, how)

    @functools.cached_property
    def sources(self) -> dict[Node, Node]:
        """The node that each autoencoder reads."""
        graph = self.model.graph if isinstance(self.model, Model) else self.model
        return {node: read_by(graph, node, sae) for node, sae in self.saes.items()}

    def stream(self, batch: int) -> Activations:
        return activations(self.model, list(self.sources.values()), corpus=self.corpus, batch=batch, **self.runs)

    def identity(self, node: Node, corpus: Corpus, dtype: str, shard: int) -> dict[str, Any]:
        """Everything that a node's files depend on."""
        sae = self.saes[node]
        about = self.model.origin(node) if isinstance(self.model, ActivationStore) else origin(self.model, node)
        read = {"reads": str(self.sources[node])} if sae.config.transcodes else {}
        provenance = {**about, "sae": sae.digest(), "kind": sae.config.kind, **read}
        return identity(sae.config.features, provenance, corpus.digest, MASK, dtype, shard)


def _write(stream: Activations, given: _Given, parts: Mapping[Node, Parts], mine: Iterable[int], progress: bool) -> None:
    """Write this process's files that are missing: each for all nodes at once."""
    left: dict[int, list[Node]] = {}
    for node, part in parts.items():
        for number in set(part.missing()).intersection(mine):
            left.setdefault(number, []).append(node)
    with bar(total=stream.corpus.tokens, desc="encode", unit="token", show=None if progress else False) as shown:
        for number, nodes in sorted(left.items()):
            blocks: dict[Node, list[Block]] = {node: [] for node in nodes}
            edges = parts[nodes[0]].edges
            for at, values in stream.in_order(int(edges[number]), int(edges[number + 1])):
                for node in nodes:
                    x = values[given.sources[node]]
                    check_width(given.sources[node], given.saes[node], x)
                    blocks[node].append(features(given.saes[node], x))
                shown.update(at.stop - at.start)
            for node in nodes:
                parts[node].put(number, blocks[node])


@torch.no_grad()
def features(sae: SAE, x: torch.Tensor) -> Block:
    """Feature activations of activations [token, width].

    >>> from circuitry.features.sae import SAE, SAEConfig
    >>> features(SAE(SAEConfig(4, 16, "topk", k=2)), torch.ones(3, 4)).count.tolist()
    [2, 2, 2]
    """
    dense = sae.encode(x.to(sae.W_enc.device))
    token, feature = dense.nonzero(as_tuple=True)
    count = torch.bincount(token, minlength=len(x))
    return Block.of(tuple(part.cpu().numpy() for part in (feature, dense[token, feature], count)), dense.shape[-1])
