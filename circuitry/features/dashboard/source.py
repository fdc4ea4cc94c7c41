"""A model and its autoencoders: what the activations of features were made with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import CircuitryError
from .promoted import Promoted, promoted, writes

if TYPE_CHECKING:
    from ...autoencoders.sae import SAE
    from ...models.model import Model


@dataclass(frozen=True)
class Source:
    """A model, and autoencoders by node (or its text), as ``train_sae`` and ``Trained.load`` return them."""

    model: Model
    saes: Mapping[Any, SAE]

    def made(self, acts: object) -> bool:
        """Whether feature activations were written with one of the autoencoders; False for a plain array.

        >>> import circuitry as ct
        >>> Source(ct.load("bundled:mamba"), {}).made(object())
        False
        """
        sae = self._sae(getattr(acts, "index", {}))
        return sae is not None and sae.digest() == getattr(acts, "index", {}).get("sae")

    def promoted(self, acts: object, features: Iterable[int]) -> dict[int, Promoted]:
        """The tokens that features promote, by feature; empty if their node does not write to the stream.

        Raises CircuitryError if the activations were written with another autoencoder.
        """
        index = getattr(acts, "index", {})
        sae = self._sae(index)
        if sae is None:
            return {}
        node = self.model.graph.node(index["node"])
        if sae.digest() != index.get("sae", sae.digest()):
            raise CircuitryError(f"the activations of {node} were written with another autoencoder than the one that is given")
        return promoted(self.model, node, sae, features) if writes(self.model, node) else {}

    def _sae(self, index: Mapping[str, Any]) -> SAE | None:
        """The autoencoder of the node that activations name."""
        by_node = {str(node): sae for node, sae in self.saes.items()}
        return by_node.get(str(index.get("node")))


def source_of(acts: Sequence[object], sources: Iterable[Source]) -> Source | None:
    """The first of the sources with which any of these activations were written; None if there is none.

    >>> source_of([], []) is None
    True
    """
    return next((source for source in sources if any(source.made(layer) for layer in acts)), None)
