"""LFM2's gated short convolution, from the block's parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

See = Callable[..., Tensor]


def block(m: Any, hidden: Tensor, layer: int, see: See) -> Tensor:
    """The block's output [batch, pos, d_model]; every value on the way passes through ``see``.

    >>> from transformers import Lfm2Config
    >>> from transformers.models.lfm2.modeling_lfm2 import Lfm2ShortConv
    >>> module = Lfm2ShortConv(Lfm2Config(hidden_size=4, num_hidden_layers=1, layer_types=["conv"]), 0)
    >>> block(module, torch.zeros(1, 2, 4), 0, lambda key, value: value).shape
    torch.Size([1, 2, 4])
    """
    at, size = (layer,), hidden.shape[-1]
    projected = m.in_proj(hidden)
    opening, gate = see(("input_gate", at, ""), projected[..., :size]), see(("gate", at, ""), projected[..., size : 2 * size])
    x = see(("conv_in", at, ""), opening * see(("conv_value", at, ""), projected[..., 2 * size :]))
    total = torch.zeros_like(x) if m.conv.bias is None else m.conv.bias.expand_as(x)
    for k in range(width := m.conv.weight.shape[-1]):
        delayed = torch.zeros_like(x)
        delayed[:, k:] = x[:, : x.shape[1] - k]
        total = total + see(("conv_tap", (layer, k), ""), delayed) * m.conv.weight[:, 0, width - 1 - k]
    out: Tensor = m.out_proj(gate * see(("conv_out", at, ""), total))
    return out
