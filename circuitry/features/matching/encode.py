"""Feature activations of a model: every autoencoder is applied to its node, in one pass over a corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from ...autoencoders.named import Given, by_node, check_width
from ...errors import CircuitryError, expected
from ...models.model import Model
from ...paths.values import Node
from ..activations.corpus import Corpus
from ..activations.origin import MASK, first_tokens, folders, origin
from ..activations.stored import ActivationStore, opened
from ..activations.stream import Activations, activations
from .blocks import Block
from .store import FeatureActs
from .writer import Writer, held

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
        shard: tokens of a file.
        progress: show a bar if there is a terminal.

    Raises CircuitryError for a corpus that the model cannot read, nodes that do not exist, autoencoders of another width, a
    folder that holds something else, and activations too large for the stored dtype.

    >>> import tempfile
    >>> import circuitry as ct
    >>> from circuitry.features.activations import corpus
    >>> from circuitry.features.sae import SAE, SAEConfig
    >>> model = ct.load("bundled:mamba")
    >>> encode(model, {"resid[4]": SAE(SAEConfig(128, 256))}, corpus(model, ["A text of some length."]), tempfile.mkdtemp(), progress=False)
    [<bundled:mamba resid[4]: 256 features on 9 tokens>]
    """
    stored = opened(model)
    named = by_node(_model(model).graph if stored is None else stored, saes, (stored or _model(model)).device)
    if stored is None and corpus is None:
        raise CircuitryError("give the corpus to encode on, or stored activations")
    folders_by_node = folders(named, Path(out))
    runs = {"buffer": buffer, "memory": memory} if stored is None else {}

    def stream(nodes: Iterable[Node]) -> Activations:
        return activations(stored or _model(model), list(nodes), corpus=corpus, batch=batch, **runs)  # type: ignore[arg-type]

    def about(node: Node) -> dict[str, Any]:
        return origin(_model(model), node) if stored is None else stored.origin(node)

    text = (
        stream(named).corpus if corpus is None or stored is not None else corpus
    )  # of a store it is compared with the given one
    with held(folders_by_node.values()):
        return _encode(stream, about, named, text, folders_by_node, stored_dtype, shard, progress)


def _model(given: object) -> Model:
    if not isinstance(given, Model):
        raise CircuitryError(expected("a model, or stored activations", given))
    return given


def _encode(
    stream: Callable[[Iterable[Node]], Activations], about: Callable[[Node], dict[str, Any]], named: Mapping[Node, SAE], corpus: Corpus,
    folders_by_node: Mapping[Node, Path], stored_dtype: str, shard: int, progress: bool,
) -> list[FeatureActs]:  # fmt: skip
    writers = {
        node: Writer(
            folder,
            named[node].config.features,
            {**about(node), "sae": digest(named[node]), "kind": named[node].config.kind},
            corpus.digest,
            mask=MASK,
            documents=first_tokens(corpus),
            dtype=stored_dtype,
            shard=shard,
        )
        for node, folder in folders_by_node.items()
    }
    if left := {node: writer for node, writer in writers.items() if not writer.complete}:
        start = min(writer.tokens for writer in left.values())  # a kill can leave writers at different tokens
        skip = {node: writer.tokens - start for node, writer in left.items()}
        with tqdm(total=corpus.tokens, initial=start, desc="encode", unit="token", disable=None if progress else True) as bar:
            for at, values in stream(left).in_order(start):
                for node, writer in left.items():
                    check_width(node, named[node], values[node])
                    block = features(named[node], values[node])
                    writer.add(block.split(max(skip[node] - (at.start - start), 0))[1])
                bar.update(at.stop - at.start)
    return [writer.close() for writer in writers.values()]


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


def digest(sae: SAE) -> str:
    """A digest of an autoencoder's weights and kind.

    >>> from circuitry.features.sae import SAE, SAEConfig
    >>> digest(SAE(SAEConfig(4, 16))) == digest(SAE(SAEConfig(4, 16), seed=1))
    False
    """
    hasher = hashlib.blake2b(f"{sae.config.kind} {sae.config.k} {sae.config.centred}".encode(), digest_size=8)
    for name, weight in sae.state_dict().items():
        hasher.update(f"{name} {tuple(weight.shape)}".encode())
        hasher.update(weight.detach().cpu().float().contiguous().numpy().data)
    return hasher.hexdigest()
