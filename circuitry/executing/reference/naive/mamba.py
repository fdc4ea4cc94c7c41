"""Mamba, FalconMamba and the Mamba layers of Jamba, from the mixer's parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

See = Callable[..., Tensor]


def mixer(m: Any, hidden: Tensor, layer: int, see: See) -> Tensor:
    """The mixer's output [batch, pos, d_model]; every value on the way passes through ``see``.

    >>> import circuitry as ct
    >>> mixer_module = ct.load("bundled:mamba").mixers[0]
    >>> mixer(mixer_module, torch.zeros(1, 2, 128), 0, lambda key, value, at=None: value).shape
    torch.Size([1, 2, 128])
    """
    x, gate = m.in_proj(hidden).chunk(2, -1)
    at, width = (layer,), m.conv_kernel_size
    x = see(("conv_in", at, ""), x)
    conv = torch.zeros_like(x)
    for k in range(width):
        delayed = torch.zeros_like(x)
        delayed[:, k:] = x[:, : x.shape[1] - k]
        conv = conv + see(("conv_tap", (layer, k), ""), delayed) * m.conv1d.weight[:, 0, width - 1 - k]
    c = see(("ssm_in", at, ""), F.silu(conv + (0 if m.conv1d.bias is None else m.conv1d.bias)))
    by_port = {port: see(("ssm_in", at, port), c) for port in ("value", "delta", "B", "C", "skip")}
    rank, size = m.time_step_rank, m.ssm_state_size
    low, B, C = m.x_proj(by_port["delta"]), m.x_proj(by_port["B"]), m.x_proj(by_port["C"])
    low, B, C = low[..., :rank], B[..., rank : rank + size], C[..., rank + size :]
    if hasattr(m, "rms_eps"):  # FalconMamba: each over its own length, without weights
        low, B, C = (v * (v.pow(2).mean(-1, keepdim=True) + m.rms_eps).rsqrt() for v in (low, B, C))
    elif hasattr(m, "dt_layernorm"):  # Jamba: each with weights of its own
        low, B, C = (_weighted(n, v) for n, v in ((m.dt_layernorm, low), (m.b_layernorm, B), (m.c_layernorm, C)))
    delta = F.softplus(low @ m.dt_proj.weight.T + m.dt_proj.bias)
    y = _by_token(at, see, by_port["value"], delta, -torch.exp(m.A_log), B, C)
    s = see(("ssm_out", at, ""), y + m.D * by_port["skip"])
    out: Tensor = m.out_proj(s * see(("gate", at, ""), F.silu(gate)))
    return out


def _weighted(norm: Any, value: Tensor) -> Tensor:
    mean = (value * value).sum(-1, keepdim=True) / value.shape[-1]
    out: Tensor = value / (mean + norm.variance_epsilon).sqrt() * norm.weight
    return out


def _by_token(at: tuple[int, ...], see: See, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The recurrence, one token after the other."""
    carry, y = u.new_zeros(u.shape[0], u.shape[2], A.shape[1]), []
    for t in range(u.shape[1]):
        h = torch.exp(delta[:, t, :, None] * A) * carry + (delta[:, t] * u[:, t])[:, :, None] * B[:, t, None, :]
        h = see(("ssm_state", at, ""), h, t)
        y.append((see(("ssm_state", at, "read"), h, t) * C[:, t, None, :]).sum(-1))
        carry = see(("ssm_state", at, "carry"), h, t)
    return torch.stack(y, 1)
