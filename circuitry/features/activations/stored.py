"""Activations on disk, in place of a model and its text: every value of some nodes at a corpus's used tokens."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file
from torch import Tensor

from ...errors import CircuitryError
from ...html.shown import Shown
from ...paths.parse import parse_node
from ...paths.values import Node
from ...store.resumable import Resumable
from .corpus import Corpus
from .passes import Ints, Passes, runs

if TYPE_CHECKING:
    from markupsafe import Markup

RECORD, CORPUS, PASSES = "activations.json", "corpus.safetensors", "passes.safetensors"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def work(folder: Path) -> Resumable:
    """The record of a folder of activations."""
    return Resumable(folder, RECORD, "activation store")


@dataclass(frozen=True, eq=False)
class ActivationStore(Shown):
    """Stored activations of nodes at the used tokens of ``corpus``. Written by ``store``; ``activations`` reads it.

    Tokens are in the order of ``passes``, and pass after pass in shards of whole passes, which are read through memory maps. Values
    are float32 when read, on ``device``; ``record`` is the content of ``activations.json``.
    """

    folder: Path
    record: Mapping[str, Any]
    corpus: Corpus
    passes: Passes
    device: torch.device

    def _shown_(self) -> Iterable[Markup]:
        from ..notebook import of_activations

        return of_activations(self)

    @classmethod
    def open(cls, folder: str | PathLike[str], device: str | torch.device = "cpu", *, whole: bool = True) -> ActivationStore:
        """Open the store in a folder.

        Raises CircuitryError if there is none, a file is damaged, or, if it must be ``whole``, shards are missing.

        >>> ActivationStore.open("nowhere")
        Traceback (most recent call last):
        circuitry.errors.CircuitryError: nowhere holds no activation store: it has no activations.json
        """
        path = Path(folder)
        if (record := work(path).record()) is None:
            raise CircuitryError(f"{path} holds no activation store: it has no {RECORD}")
        try:
            corpus, passes = Corpus.load(path / CORPUS), Passes(**load_arrays(path / PASSES))
        except (OSError, SafetensorError, TypeError) as error:
            raise CircuitryError(f"{path} is not complete ({error}); run the command that writes it again") from error
        found = cls(path, record, corpus, passes, torch.device(device))
        for name, digest in (("corpus", corpus.digest), ("passes", passes.digest)):
            if digest != record["identity"][name]:
                raise CircuitryError(f"{path} was changed: its {name} is not what {RECORD} says; write it again")
        if whole and (missing := found.missing()):
            raise CircuitryError(
                f"{path} is not complete: {len(missing)} of {len(found.shards)} shards are missing "
                f"({', '.join(map(str, missing[:8]))}{', ...' * (len(missing) > 8)}); run the command that writes it again, without a rank"
            )
        return found

    @functools.cached_property
    def widths(self) -> dict[Node, int]:
        """Numbers of each stored node at one token."""
        return {parse_node(name): width for name, width in self.record["identity"]["nodes"].items()}

    @functools.cached_property
    def shards(self) -> list[range]:
        """The passes in each shard."""
        return runs(self.passes.tokens, self.record["identity"]["shard"])

    @property
    def identity(self) -> dict[str, Any]:
        """What the values depend on besides the corpus: the same as for the model's if they are stored as float32."""
        about = self.record["identity"]
        stored = {"stored_dtype": about["stored_dtype"]} if about["stored_dtype"] != "float32" else {}
        return {"weights": about["weights"], "passes": about["passes"], **stored}

    @property
    def provenance(self) -> dict[str, Any]:
        """The model, for files."""
        return dict(self.record["provenance"])

    def origin(self, node: Node) -> dict[str, Any]:
        """Name, layer, depth and model of a stored node."""
        return dict(self.record["origins"][str(node)])

    def node(self, name: str | Node) -> Node:
        """The stored node of this name. Raises CircuitryError, which lists the stored ones, for any other."""
        node = parse_node(name) if isinstance(name, str) else name
        if node not in self.widths:
            raise CircuitryError(f"{self.folder} has no activations of {node}; it has {', '.join(map(str, self.widths))}")
        return node

    def nodes(self, name: str | Node) -> list[Node]:
        """The stored node of this name, or all stored nodes of a family. Raises CircuitryError if there is none."""
        node = parse_node(name) if isinstance(name, str) else name
        family = [one for one in self.widths if not node.indices and (one.family, one.port) == (node.family, node.port)]
        return family or [self.node(node)]

    def missing(self) -> list[int]:
        """Numbers of the shards that are not written yet."""
        return [number for number in range(len(self.shards)) if not self.file(number).is_file()]

    def file(self, number: int) -> Path:
        """The file of a shard."""
        return self.folder / f"shard-{number:05}.safetensors"

    def values(self, numbers: Ints, nodes: Iterable[Node]) -> dict[Node, Tensor]:
        """Values of nodes at the used tokens of passes, in their order: float32 [token, width]."""
        total = int(np.diff(self.passes.tokens)[numbers].sum())
        values = {node: torch.empty(total, self.widths[node], device=self.device) for node in nodes}
        ends = [shard.stop for shard in self.shards]
        at = 0
        for number in numbers:
            shard = int(np.searchsorted(ends, number, side="right"))
            first = int(self.passes.tokens[self.shards[shard].start])
            begin, stop = (int(self.passes.tokens[number + k]) - first for k in (0, 1))
            for node, value in values.items():
                value[at : at + stop - begin] = self._shard(shard)[str(node)][begin:stop]
            at += stop - begin
        return values

    @functools.cached_property
    def _opened(self) -> dict[int, dict[str, Tensor]]:
        """Shards that have been opened: memory maps, of which the system keeps in memory what it has room for."""
        return {}

    def _shard(self, number: int) -> dict[str, Tensor]:
        if number not in self._opened:
            file, shard = self.file(number), self.shards[number]
            tokens = int(self.passes.tokens[shard.stop] - self.passes.tokens[shard.start])
            try:
                tensors = load_file(file)
            except (OSError, SafetensorError) as error:
                raise CircuitryError(f"{file} cannot be read ({error}); remove it and write it again") from error
            if {name: tuple(value.shape) for name, value in tensors.items()} != {
                str(node): (tokens, width) for node, width in self.widths.items()
            }:
                raise CircuitryError(f"{file} does not have the values that {RECORD} says; remove it and write it again")
            self._opened[number] = tensors
        return self._opened[number]

    def __repr__(self) -> str:
        return f"<activations of {', '.join(map(str, self.widths))} at {self.corpus.tokens} tokens, in {self.folder}>"


def opened(given: object) -> ActivationStore | None:
    """The store that is given, itself or by its folder; None for anything else, such as a model.

    >>> opened(None) is None
    True
    """
    if isinstance(given, ActivationStore):
        return given
    return ActivationStore.open(given) if isinstance(given, str | PathLike) else None
