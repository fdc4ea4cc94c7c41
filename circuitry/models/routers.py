"""Routers of mixtures of experts: one hook point for how much of each expert a token takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .gates import put_before, replace_forward, stock_forward

if TYPE_CHECKING:
    from ..architecture.graph import Graph


class Routing(nn.Module):
    """The hook point ``router`` of an MLP with experts; ``tokens`` is the shape [row, position] of what the MLP is given."""

    tokens: tuple[int, int]

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Identity()

    def forward(self, weights: Tensor, indices: Tensor, experts: int) -> tuple[Tensor, Tensor]:
        """The experts of each token and their weights [token, k], as they are after the hook point [row, position, expert].

        Where no expert that was not chosen has a weight now, the experts are the stock model's, in its order. Else they are those
        that have a weight; there may be more of them than before.

        >>> routing = Routing()
        >>> routing.tokens = 1, 1
        >>> _ = routing.router.register_forward_hook(lambda _, __, out: out.flip(-1))
        >>> routing(torch.tensor([[0.7, 0.3]]), torch.tensor([[2, 0]]), 4)
        (tensor([[0.7000, 0.3000]]), tensor([[1, 3]]))
        """
        rank = torch.arange(indices.shape[1], 0, -1).to(weights).expand_as(weights)
        chosen = torch.zeros(len(weights), experts).to(weights).scatter(1, indices, rank)
        dense = torch.zeros_like(chosen).scatter(1, indices, weights)
        seen = self.router(dense.view(*self.tokens, experts)).reshape(-1, experts)
        weighted = seen != 0
        others = (weighted & (chosen == 0)).any(1, keepdim=True)
        count = max([indices.shape[1], *weighted.sum(1).unique().tolist()])
        indices = torch.where(others, seen.abs(), chosen).topk(count).indices
        return seen.gather(1, indices), indices


class Routed:
    """A base class put before that of an MLP with experts, whose router knows tokens only."""

    circuitry: Routing

    def forward(self, *args: Any, **options: Any) -> Any:
        """The stock forward."""
        x = args[0] if args else next(iter(options.values()))
        self.circuitry.tokens = x.shape[:2]
        return super().forward(*args, **options)  # type: ignore[misc]


def router_of(block: Any) -> Any:
    """The router of an MLP: the module that chooses experts for each token; None if it has none.

    >>> router_of(nn.Linear(2, 2))
    """
    parts = [getattr(block, name, None) for name in ("gate", "router")] if hasattr(block, "experts") else []
    return next((part for part in parts if hasattr(part, "top_k")), None)


def routed(graph: Graph, hf: Any) -> Graph:
    """The graph of a module, with a router in each layer that has one.

    >>> import circuitry as ct
    >>> graph = ct.graph("gpt2", layer=1)
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> routed(graph, GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=12, n_layer=1))) is graph
    True
    """
    families = graph.by_role("mlp")
    # Where experts and another MLP stand side by side (Granite 4), a layer has two nodes, and no router yet.
    mlps = graph.nodes(families[0].name) if len(families) == 1 else []
    layers = [int(str(node.indices[0])) for node in mlps if router_of(hf.get_submodule(graph.block(node))) is not None]
    return graph.routed(layers) if layers else graph


def attach(blocks: Iterable[Any]) -> None:
    """Add the hook point to those of the MLPs ``blocks`` that have experts.

    >>> from transformers import MixtralConfig, MixtralForCausalLM
    >>> sizes = {"hidden_size": 4, "intermediate_size": 8, "num_attention_heads": 1, "num_key_value_heads": 1}
    >>> hf = MixtralForCausalLM(MixtralConfig(vocab_size=9, num_hidden_layers=1, **sizes))
    >>> attach([hf.model.layers[0].mlp])
    >>> hf.model.layers[0].mlp.circuitry.router
    Identity()
    """
    for block in blocks:
        router = router_of(block)
        if router is None or hasattr(block, "circuitry"):  # an earlier load of the same module has attached it
            continue
        block.circuitry = Routing()
        vars(router)["circuitry_routing"] = block.circuitry  # not a submodule: it would have two names
        put_before(block, Routed)
        replace_forward(router, _choose)


def _choose(self: Any, *args: Any, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    logits, weights, indices = stock_forward(self)(*args, **options)
    return logits, *self.circuitry_routing(weights, indices, logits.shape[-1])
