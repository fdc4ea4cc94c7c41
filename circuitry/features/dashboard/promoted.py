"""The tokens that a feature promotes and suppresses: the direct effect of its direction on the logits.

A feature of a node that writes to the residual stream adds its direction to the stream. What later blocks make of it is left out:
the direction goes through the final norm and the unembedding only. The norm's scale is held fixed. It is that of a stream as
large as the direction (root mean square 1), so effects order tokens, and their sizes compare with those of other features only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...errors import CircuitryError
from ...paths.values import Node
from .tokens import readable

if TYPE_CHECKING:
    from ...autoencoders.sae import SAE
    from ...models.model import Model

TOKENS = 10
"""Tokens that are shown at each end."""
Effects = tuple[tuple[str, float], ...]
"""Tokens as text, each with the effect on its logit."""


@dataclass(frozen=True)
class Promoted:
    """The tokens whose logits a feature raises most, the most raised first, and those it lowers most."""

    up: Effects
    down: Effects


def writes(model: Model, node: Node) -> bool:
    """Whether a node's value is the residual stream or is added to it, so that its features have a direct effect on the logits.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:mamba")
    >>> [writes(model, model.graph.node(name)) for name in ("resid[2]", "mixer_out[0]", "ssm_in[0]")]
    [True, True, False]
    """
    family = model.graph.family(node.family)
    return node.port is None and (family.adds or family.role in ("resid", "embed"))


def promoted(model: Model, node: Node | str, sae: SAE, features: Iterable[int], count: int = TOKENS) -> dict[int, Promoted]:
    """The ``count`` tokens that each feature promotes most, and those it suppresses most, by feature.

    Raises CircuitryError for a node that does not write to the stream, and an autoencoder of another width.

    >>> import circuitry as ct
    >>> from circuitry.features.sae import SAE, SAEConfig
    >>> model = ct.load("bundled:mamba")
    >>> found = promoted(model, "resid[4]", SAE(SAEConfig(128, 256)), [17], count=2)
    >>> [len(side) for side in (found[17].up, found[17].down)], found[17].up[0][1] > 0 > found[17].down[0][1]
    ([2, 2], True)
    """
    place = model.graph.node(node)
    if not writes(model, place):
        raise CircuitryError(
            f"{place} does not write to the residual stream, so its features have no direct effect on the logits"
        )
    wanted = sorted({int(feature) for feature in features})
    effects = direct_effects(model, sae.W_dec[wanted])
    read, known = readable(model.tokenizer), effects.shape[1]
    if model.tokenizer is not None:
        known = min(known, len(model.tokenizer))  # the unembedding may have rows that stand for no token
    ends = [(effects[:, :known] * sign).topk(min(count, known)) for sign in (1, -1)]
    by_feature = {}
    for row, feature in enumerate(wanted):
        up, down = (
            tuple(
                (read(int(token)), sign * float(value))
                for value, token in zip(found.values[row], found.indices[row], strict=True)
            )
            for sign, found in zip((1, -1), ends, strict=True)
        )
        by_feature[feature] = Promoted(up, down)
    return by_feature


@torch.no_grad()
def direct_effects(model: Model, directions: Tensor) -> Tensor:
    """The direct effect [direction, vocabulary] of directions [direction, width] in the stream on each logit, in float32.

    Each direction is scaled to a root mean square of 1 first. Raises CircuitryError for directions of another width.

    >>> import circuitry as ct
    >>> tuple(direct_effects(ct.load("bundled:mamba"), torch.ones(3, 128)).shape)
    (3, 2048)
    """
    unembedding = model.hf.get_output_embeddings().weight
    if directions.shape[-1] != unembedding.shape[1]:
        raise CircuitryError(
            f"directions have {directions.shape[-1]} numbers, the stream of {model.name} has {unembedding.shape[1]}"
        )
    end = Node(model.graph.by_role("resid")[0].name, (model.graph.sizes["layer"],))
    norm = model.hf.get_submodule(model.graph.place(end).module)
    size = directions.float().square().mean(-1, keepdim=True).sqrt()
    scaled = (directions.float() / torch.where(size > 0, size, 1)).to(unembedding)
    # Of what a norm returns, its weight and the centring are odd in its input, and its bias is even.
    through = (norm(scaled[None]) - norm(-scaled[None]))[0] / 2
    effects: Tensor = through.float() @ unembedding.float().T
    return effects
