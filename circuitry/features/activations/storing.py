"""Writing activations to disk, shard by shard: a kill loses at most one, and several processes may share the work."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from ...errors import CircuitryError, expected, suggest, whole
from ...paths.values import Node
from ...progress import bar
from ...store.files import sweep, write_whole
from ...store.locks import Presence
from .forward import Forward
from .origin import MASK, origin
from .passes import Passes
from .stored import CORPUS, DTYPES, PASSES, ActivationStore, work
from .stream import Activations

VERSION = 1


def store(
    activations: Activations,
    folder: str | PathLike[str],
    *,
    dtype: str = "float32",
    shard: int = 1 << 16,
    rank: int = 0,
    world_size: int = 1,
    progress: bool = True,
) -> ActivationStore:
    """Write the activations of a model to a folder, which ``activations``, ``train_sae``, ``encode`` and ``evaluate`` take in its place.

    Args:
        activations: as ``activations`` makes them from a model. Their batches from the folder are the same, bit for bit in float32.
        folder: a new folder, or one that the same call has begun: complete files are kept.
        dtype: of the files: float32, float16 or bfloat16, with 4, 2 and 2 bytes a number.
        shard: about how many tokens a file has; it has whole forward passes.
        rank, world_size: of ``world_size`` processes that share the work, this is number ``rank``: it writes every
            ``world_size``-th file and waits for no other. A call without them writes all files that are missing.
        progress: show a bar if there is a terminal.

    The result has ``missing()`` files if another process has not written its part. Raises CircuitryError for activations that are
    stored already, a folder that holds something else, and numbers too large for the dtype; FileError if another process writes
    the same part, or the disk cannot be written.

    >>> import tempfile
    >>> import circuitry as ct
    >>> from circuitry.features.activations import activations
    >>> found = activations(ct.load("bundled:mamba"), "resid[4]", ["Twenty characters or more."])
    >>> store(found, tempfile.mkdtemp(), progress=False)
    <activations of resid[4] at 11 tokens, in ...>
    """
    path, made = Path(folder), activations.origin
    if dtype not in DTYPES:
        raise CircuitryError(f"activations cannot be stored as {dtype!r}; {suggest(dtype, DTYPES)}")
    if not 0 <= rank < world_size:
        raise CircuitryError(expected(f"a rank from 0 to {world_size - 1} (of {world_size} processes)", rank))
    if not isinstance(made, Forward):
        raise CircuitryError(f"{made!r} is stored already; give activations of a model")
    identity = _identity(activations, dtype, whole("shard", shard, 1))
    work(path).check(identity, alone=world_size == 1)
    with Presence(path, rank, world_size).hold():
        if world_size == 1:  # with several, another process may be writing
            sweep(path)
        about = {str(node): origin(made.model, node) for node in activations.nodes}
        provenance = {key: value for key, value in activations.provenance.items() if key not in ("corpus", "text", "tokenizer")}
        work(path).begin(identity, alone=world_size == 1, provenance=provenance, origins=about)
        _text(path, activations)
        begun = ActivationStore.open(path, whole=False)
        mine = [number for number in begun.missing() if number % world_size == rank]
        _write(begun, mine, made, dtype, progress)
    return begun


def _identity(activations: Activations, dtype: str, shard: int) -> dict[str, Any]:
    """Everything that the files depend on."""
    nodes = {str(node): width for node, width in activations.widths.items()}
    about = {key: value for key, value in activations.identity.items() if key not in ("seed", "buffer")}
    return {"version": VERSION, **about, "nodes": nodes, "mask": MASK, "stored_dtype": dtype, "shard": shard}


def _text(folder: Path, activations: Activations) -> None:
    """The corpus and its passes; several processes may write the same."""
    if not (folder / CORPUS).is_file():
        activations.corpus.save(folder / CORPUS)
    if not (folder / PASSES).is_file():
        write_whole(folder / PASSES, lambda path: save_arrays(_arrays(activations.origin.passes), path))


def _arrays(passes: Passes) -> dict[str, Any]:
    names = ("documents", "edges", "stretches", "tokens")
    return {name: np.ascontiguousarray(getattr(passes, name), np.int64) for name in names}


def _write(begun: ActivationStore, numbers: Iterable[int], made: Forward, dtype: str, progress: bool) -> None:
    nodes: list[Node] = list(begun.widths)
    for number in bar(list(numbers), "store", unit="shard", show=None if progress else False):
        shard = begun.shards[number]
        values = made.values(np.arange(shard.start, shard.stop), nodes)
        tensors = {str(node): value.to(DTYPES[dtype]).cpu().contiguous() for node, value in values.items()}
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise CircuitryError(f"values of {name} are not finite as {dtype}; store them as another type")
        write_whole(begun.file(number), lambda path, tensors=tensors: save_file(tensors, path))  # type: ignore[misc]
