"""Attention whose heads have gates: its query projection gives a query and a gate side by side, and the gate is a node of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from . import attention
from .gates import replace_forward, stock_forward


class GatePoint(nn.Module):
    """The identity module through which the gates of one layer pass [batch, pos, head, d_head], before the sigmoid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.width = nn.Identity(), width


def _projected(self: Any, x: Tensor) -> Tensor:
    """The query projection's forward."""
    out: Tensor = stock_forward(self)(x)
    by_head = out.unflatten(-1, (-1, 2 * self.circuitry.width))  # type: ignore[no-untyped-call]
    query, gate = by_head.chunk(2, -1)
    seen = self.circuitry.gate(gate)
    return out if seen is gate else torch.cat([query, seen], -1).flatten(-2)


@torch.no_grad()
def attach(model: Any, layers: list[Any]) -> None:
    """Like ``attention.attach``, with the gates.

    >>> from transformers import Qwen3NextConfig, Qwen3NextForCausalLM
    >>> sizes = dict(vocab_size=9, hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8, head_dim=4)
    >>> config = Qwen3NextConfig(**sizes, layer_types=["full_attention"], num_experts=0)
    >>> hf = Qwen3NextForCausalLM(config).eval()
    >>> attach(hf, [hf.model.layers[0].self_attn])
    >>> hf.model.layers[0].self_attn.q_proj.circuitry.gate
    Identity()
    """
    for layer in layers:
        layer.q_proj.circuitry = GatePoint(layer.head_dim)
        replace_forward(layer.q_proj, _projected)
    attention.attach(model, layers)
