"""RecurrentGemma's recurrent block from its parameters, token by token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

See = Callable[..., Tensor]


def block(m: Any, hidden: Tensor, layer: int, see: See) -> Tensor:
    """The block's output [batch, pos, d_model]; every value on the way passes through ``see``.

    >>> from transformers import RecurrentGemmaConfig
    >>> from transformers.models.recurrent_gemma.modeling_recurrent_gemma import RecurrentGemmaRecurrentBlock
    >>> module = RecurrentGemmaRecurrentBlock(RecurrentGemmaConfig(hidden_size=4, num_attention_heads=2), 0)
    >>> block(module, torch.zeros(1, 2, 4), 0, lambda key, value, at=None: value).shape
    torch.Size([1, 2, 4])
    """
    at, unit, length = (layer,), m.rg_lru, hidden.shape[1]
    x = see(("conv_in", at, ""), m.linear_x(hidden))
    total = m.conv_1d.bias.expand_as(x)
    for k in range(width := m.conv_1d.weight.shape[-1]):
        delayed = torch.zeros_like(x)
        delayed[:, k:] = x[:, : length - k]
        total = total + see(("conv_tap", (layer, k), ""), delayed) * m.conv_1d.weight[:, 0, width - 1 - k]
    c = see(("ssm_in", at, ""), total)
    value, to_input, to_recurrent = (see(("ssm_in", at, port), c) for port in ("value", "input_gate", "recurrent_gate"))
    i = see(("input_gate", at, ""), _gate(to_input, unit.input_gate_weight, unit.input_gate_bias))
    r = see(("recurrent_gate", at, ""), _gate(to_recurrent, unit.recurrent_gate_weight, unit.recurrent_gate_bias))
    a = torch.exp(-8 * torch.log1p(unit.recurrent_param.exp()) * r)
    h, y = torch.zeros_like(c[:, 0]), []
    for t in range(length):
        written = i[:, t] * value[:, t]
        h = a[:, t] * h + (1 - a[:, t] ** 2).sqrt() * written if t else written
        h = see(("ssm_state", at, ""), h, t)
        y.append(see(("ssm_state", at, "read"), h, t))
        h = see(("ssm_state", at, "carry"), h, t)
    gate = see(("gate", at, ""), m.act_fn(m.linear_y(hidden)))
    out: Tensor = m.linear_out(gate * see(("ssm_out", at, ""), torch.stack(y, 1)))
    return out


def _gate(c: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One block of channels after the other."""
    width, parts = bias.shape[1], []
    for number in range(len(bias)):
        part = c[..., number * width : (number + 1) * width] @ weight[number] + bias[number]
        parts.append(1 / (1 + torch.exp(-part)))
    return torch.cat(parts, -1)
