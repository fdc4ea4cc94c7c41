"""What a model can do with autoencoders on its nodes: attach them, take them off, and find the latents that matter on prompts."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from ..autoencoders.sae import SAE
from ..errors import CircuitryError, expected, whole
from ..paths.positions import Position
from ..paths.terms import LATENT, Term
from ..paths.values import Node, PositionLike, position
from .attached import Attachable, autoencoders, changing, check_widths
from .reading import hooked

if TYPE_CHECKING:
    from ..architecture.families import Place
    from ..architecture.graph import Graph
    from ..prompting.prompts import Prompts
    from ..prompting.task import Task
    from ..prompting.vocabulary import Vocabulary


class HasLatents:
    """The part of ``Model`` that knows its autoencoders, ``saes`` by node."""

    name: str
    graph: Graph
    saes: dict[Node, SAE]

    if TYPE_CHECKING:  # what Model itself has

        @property
        def hf(self) -> Any: ...
        @property
        def mixers(self) -> list[Any]: ...
        @property
        def vocabulary(self) -> Vocabulary: ...
        @property
        def device(self) -> torch.device: ...
        @property
        def dtype(self) -> torch.dtype: ...

    def attach(self, saes: Attachable) -> Self:
        """Give nodes the latents of sparse autoencoders: ``resid[2].latent[17]``, ``resid[2].latent`` and ``resid[2].error`` in paths.

        ``saes``: one SAE, a folder, several of either, or SAEs by node. Attached ones of other nodes stay; of the same node they
        are replaced. No result of the model changes. Raises CircuitryError for an unknown node, an SAE of another width or with weights that are NaN, and a transcoder.

        >>> import circuitry as ct
        >>> from circuitry.autoencoders import SAE, SAEConfig
        >>> model = ct.load("bundled:mamba").attach({"resid[2]": SAE(SAEConfig(128, 256))})
        >>> [f"{node}: {sae}" for node, sae in model.saes.items()]
        ['resid[2]: SAE(relu, 128 -> 256)']
        """
        found = autoencoders(saes, self.graph, self.device, self.dtype)
        short, long = (hooked(self.hf, self.mixers, self._places(found), torch.zeros(1, n, dtype=torch.long)) for n in (2, 3))
        check_widths(short, long, found)
        for node, sae in found.items():
            if (trained_on := sae.config.provenance.get("model", self.name)) != self.name:
                warnings.warn(f"the autoencoder of {node} was trained on {trained_on}, and this is {self.name}", stacklevel=2)
        self.saes = {**self.saes, **found}
        self.graph = self.graph.attached({node: sae.config.features for node, sae in self.saes.items()})
        return self

    def detach(self, *nodes: Node | str) -> Self:
        """Take the autoencoders of these nodes off again; of all nodes if none is named.

        >>> import circuitry as ct
        >>> from circuitry.autoencoders import SAE, SAEConfig
        >>> ct.load("bundled:mamba").attach({"resid[2]": SAE(SAEConfig(128, 256))}).detach().saes
        {}
        """
        gone = {self.graph.node(node) for node in nodes} or set(self.saes)
        self.saes = {node: sae for node, sae in self.saes.items() if node not in gone}
        self.graph = self.graph.attached({node: sae.config.features for node, sae in self.saes.items()})
        return self

    def latents(self, node: Node | str, task: Task, top: int = 50, at: PositionLike | None = None) -> list[int]:
        """The latents of a node that differ most between a task's clean and corrupted prompts, those with the largest change first.

        The change |f(clean) - f(corrupted)| is added up over all tokens, or taken ``at`` one position, and averaged over examples.
        Fewer than ``top`` are returned if fewer differ. Raises CircuitryError for a node without an autoencoder, and a position outside
        the prompts.

        >>> import circuitry as ct
        >>> from circuitry.autoencoders import SAE, SAEConfig
        >>> model = ct.load("bundled:mamba").attach({"resid[2]": SAE(SAEConfig(128, 256))})
        >>> len(model.latents("resid[2]", ct.task("induction", distance=8, examples=4), top=5))
        5
        """
        if not hasattr(task, "prompts"):
            raise CircuitryError(expected("a task, such as ct.task('induction')", task))
        change, _ = self.changing(node, task.prompts(self.vocabulary), None if at is None else position(at))
        order = change.argsort(descending=True)[: whole("top", top, 1)]
        return [int(latent) for latent in order if change[latent] > 0]

    def changing(self, node: Node | str, prompts: Prompts, at: Position | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """By latent of a node [F]: its mean change between clean and corrupted prompts, and in how many examples it fires.

        ``at``: at this position instead of added up over all. Raises CircuitryError for a node without an autoencoder.
        """
        host = self.graph.node(node).host
        self.graph.terms.check(replace(host, term=Term(LATENT)))
        values = [
            hooked(self.hf, self.mixers, self._places([host]), torch.from_numpy(ids))[host]
            for ids in (prompts.clean, prompts.corrupted)
        ]
        every = np.arange(prompts.length)
        used = every < prompts.stops[:, None] if at is None else every == prompts.tokens(at)[:, None]
        return changing(self.saes[host], values[0], values[1], torch.from_numpy(used))

    def _places(self, nodes: Iterable[Node]) -> dict[Node, Place]:
        return {node: self.graph.place(node) for node in nodes}
