"""The sides of a comparison: a model and the autoencoders whose features were matched, by the layer numbers of the matches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from ...autoencoders.sae import SAE
from ...errors import CircuitryError
from ...features.activations.corpus import tokenizer_digest
from ...features.matching.matches import Matches
from ...models.attached import Attachable, autoencoders
from ...models.model import Model
from ...paths.values import Node
from ...prompting.prompts import Prompts
from ...prompting.task import Task

Skyline: TypeAlias = "tuple[Model, Attachable, Matches]"
"""Another model, its autoencoders, and the matches of the same features in it."""


@dataclass(frozen=True)
class Side:
    """A model with autoencoders; ``nodes`` are theirs, in the order in which the matches number layers."""

    model: Model
    saes: Mapping[Node, SAE]
    nodes: tuple[Node, ...]

    @classmethod
    def of(cls, model: Model, saes: Attachable | None, matches: Matches, side: str) -> Side:
        """Side "a" or "b" of matches. ``saes`` None: those attached to the model.

        Raises CircuitryError without autoencoders, and if the matches are of others: of other nodes, weights or numbers of features.
        """
        given = model.saes if saes is None else autoencoders(saes, model.graph, model.device, model.dtype)
        if not given:
            raise CircuitryError(
                f"{model.name} has no autoencoders; attach those whose features were matched, or give saes_{side}"
            )
        layers: Sequence[Mapping[str, Any]] = matches.provenance.get(side, ())
        nodes = _named(model, given, layers) if all("node" in layer for layer in layers) and layers else _ordered(given)
        table = matches.forward if side == "a" else matches.reverse
        _check(model, given, nodes, table)
        return cls(model, given, nodes)

    @property
    def identity(self) -> dict[str, Any]:
        """All that a result depends on: the weights of the model and of its autoencoders."""
        return {
            "model": self.model.name,
            "weights": self.model.fingerprint,
            "saes": {str(node): self.saes[node].digest() for node in self.nodes},
        }

    @contextmanager
    def attached(self) -> Iterator[Model]:
        """The model with these autoencoders attached and no others; afterwards it has again what it had."""
        before = self.model.saes, self.model.graph
        try:
            yield self.model.detach().attach(self.saes)
        finally:
            self.model.saes, self.model.graph = before


def _named(model: Model, saes: Mapping[Node, SAE], layers: Sequence[Mapping[str, Any]]) -> tuple[Node, ...]:
    """The nodes that the matches name."""
    nodes = tuple(model.graph.node(layer["node"]) for layer in layers)
    for node, layer in zip(nodes, layers, strict=True):
        if node not in saes:
            raise CircuitryError(
                f"features of {node} were matched, but the autoencoders of {model.name} are of {', '.join(map(str, saes))}; "
                "give those that were matched"
            )
        if layer.get("sae", "") not in ("", saes[node].digest()):
            raise CircuitryError(f"the autoencoder of {node} of {model.name} is not the one whose features were matched")
        same_dtype = layer.get("dtype") == str(model.dtype).removeprefix("torch.")
        if same_dtype and layer.get("weights", model.fingerprint) != model.fingerprint:
            raise CircuitryError(f"the matched features are of a model with other weights than {model.name}")
    return nodes


def _ordered(saes: Mapping[Node, SAE]) -> tuple[Node, ...]:
    """Without names, layers are the autoencoders in the order in which they are given."""
    return tuple(saes)


def _check(model: Model, saes: Mapping[Node, SAE], nodes: tuple[Node, ...], table: pd.DataFrame) -> None:
    """Refuse matches with other numbers of layers or of features."""
    sizes = table.groupby("layer_a").size()
    matched, given = sizes.tolist(), [saes[node].config.features for node in nodes]
    if matched != given:
        raise CircuitryError(
            f"the matches have layers of {matched} features, the autoencoders of {model.name} have {given}; "
            "give those that were matched, in the same order"
        )


def check_tokenizers(sides: Sequence[Side]) -> None:
    """Raise CircuitryError unless all models have the same tokenizer, or none and as many tokens."""
    first = sides[0].model
    for side in sides:
        if _tokens(side.model) != _tokens(first):
            raise _another(side.model, first)


def shared_prompts(models: Sequence[Model], task: Task) -> Prompts:
    """The prompts of a task, which must be the same for all models.

    Raises CircuitryError where they differ, and for fewer than two prompts, TaskError as the task does.

    >>> import circuitry as ct
    >>> models = [ct.load("bundled:mamba"), ct.load("bundled:gpt_neox")]
    >>> len(shared_prompts(models, ct.task("induction", distance=8, examples=2)))
    2
    """
    prompts = task.prompts(models[0].vocabulary)
    if len(prompts) < 2:
        raise CircuitryError(f"expected at least two prompts to compare effects on, got {len(prompts)}; ask for more examples")
    for model in models:
        if not _same(prompts, task.prompts(model.vocabulary)):
            raise _another(model, models[0])
    return prompts


def _another(model: Model, first: Model) -> CircuitryError:
    return CircuitryError(f"{model.name} has another tokenizer than {first.name}; compare models with one tokenizer")


def _tokens(model: Model) -> str | int:
    """What distinguishes vocabularies: a digest of the tokenizer, or without one the number of tokens."""
    return int(model.hf.config.vocab_size) if model.tokenizer is None else tokenizer_digest(model.tokenizer)


def _same(one: Prompts, other: Prompts) -> bool:
    names = ("clean", "corrupted", "answer", "foil")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
