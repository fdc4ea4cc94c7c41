"""Mamba-2, and the Mamba-2 layers of hybrids, from the mixer's parameters, one head after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

See = Callable[..., Tensor]


def mixer(m: Any, hidden: Tensor, layer: int, see: See) -> Tensor:
    """The mixer's output [batch, pos, d_model]; every value on the way passes through ``see``.

    >>> from transformers import Mamba2Config
    >>> from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
    >>> module = Mamba2Mixer(Mamba2Config(hidden_size=4, num_heads=2, head_dim=4, n_groups=1, state_size=2), 0)
    >>> mixer(module, torch.zeros(1, 2, 4), 0, lambda key, value, at=None: value).shape
    torch.Size([1, 2, 4])
    """
    heads, width, size, groups = m.num_heads, m.head_dim, m.ssm_state_size, m.n_groups
    inner, at = heads * width, (layer,)
    into, multipliers = (m.ssm_in_multiplier, m.mup_vector) if hasattr(m, "mup_vector") else (1, 1)  # Falcon-H1
    projected = m.in_proj(into * hidden) * multipliers
    gate, x, step = projected[..., :inner], projected[..., inner:-heads], projected[..., -heads:]
    c = _convolution(m, see(("conv_in", at, ""), x), layer, see)
    parts = {"value": c[..., :inner], "B": c[..., inner : inner + groups * size], "C": c[..., inner + groups * size :]}
    by_port = {port: see(("ssm_in", at, port), part) for port, part in (*parts.items(), ("skip", parts["value"]))}
    low, high = m.time_step_limit
    outs = []
    for head in range(heads):
        columns, group = slice(head * width, (head + 1) * width), head * groups // heads
        shared = slice(group * size, (group + 1) * size)
        delta = F.softplus(step[..., head] + m.dt_bias[head]).clip(low, high)
        delta = see(("delta", (layer, head), ""), delta)
        B, C = by_port["B"][..., shared], by_port["C"][..., shared]
        y = _by_token((layer, head), see, by_port["value"][..., columns], delta, -torch.exp(m.A_log[head]), B, C)
        outs.append(see(("ssm_out", (layer, head), ""), y + m.D[head] * by_port["skip"][..., columns]))
    s, g = torch.cat(outs, -1), see(("gate", at, ""), gate * torch.sigmoid(gate))
    if getattr(m, "mamba_rms_norm", True) is False:
        return m.out_proj(s * g)  # type: ignore[no-any-return]
    if getattr(m.norm, "norm_before_gate", False):
        return m.out_proj(_normed(m, s) * g)  # type: ignore[no-any-return]
    return m.out_proj(_normed(m, s * g))  # type: ignore[no-any-return]


def _normed(m: Any, value: Tensor) -> Tensor:
    """Every group of heads over its own length."""
    pieces = value.chunk(m.n_groups, -1)
    normed = torch.cat([p / (p.square().mean(-1, keepdim=True) + m.norm.variance_epsilon).sqrt() for p in pieces], -1)
    return m.norm.weight * normed  # type: ignore[no-any-return]


def _convolution(m: Any, x: Tensor, layer: int, see: See) -> Tensor:
    """x, B and C together: a sum over what each position sees of those before it, then SiLU."""
    total, width = torch.zeros_like(x), m.conv1d.weight.shape[-1]
    for k in range(width):
        delayed = torch.zeros_like(x)
        delayed[:, k:] = x[:, : x.shape[1] - k]
        total = total + see(("conv_tap", (layer, k), ""), delayed) * m.conv1d.weight[:, 0, width - 1 - k]
    return see(("ssm_in", (layer,), ""), F.silu(total + (0 if m.conv1d.bias is None else m.conv1d.bias)))


def _by_token(at: tuple[int, ...], see: See, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The recurrence of one head, one token after the other."""
    carry, y = x.new_zeros(x.shape[0], x.shape[2], B.shape[2]), []
    for t in range(x.shape[1]):
        step = delta[:, t, None, None]
        h = torch.exp(step * A) * carry + step * x[:, t, :, None] * B[:, t, None, :]
        h = see(("ssm_state", at, ""), h, t)
        y.append((see(("ssm_state", at, "read"), h, t) * C[:, t, None, :]).sum(-1))
        carry = see(("ssm_state", at, "carry"), h, t)
    return torch.stack(y, 1)
