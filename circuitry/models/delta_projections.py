"""What layers with the gated delta rule compute of the stream before the rule: each type of model keeps its weights in its own way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_EPS = 1e-6
"""Of the norm of queries and keys; the stock models do not take it from their config."""


@dataclass(frozen=True)
class Projected:
    """``mixed``: queries, keys and values side by side [batch, pos, d_conv]. ``gate`` [batch, pos, d_inner], after its activation.

    ``beta`` [batch, pos, head]; ``decay`` [batch, pos, head], or with d_key for Kimi: the logarithm of the factor by which a token
    shrinks the state. Gate and decay are in at least float32.
    """

    mixed: Tensor
    gate: Tensor
    beta: Tensor
    decay: Tensor


def is_kimi(mixer: Any) -> bool:
    """Whether a layer is Kimi's delta attention, which differs from the others in more than names.

    >>> from types import SimpleNamespace
    >>> is_kimi(SimpleNamespace(num_v_heads=2))
    False
    """
    return hasattr(mixer, "forget_gate")


def project(mixer: Any, x: Tensor) -> Projected:
    """From the normed stream [batch, pos, d_model].

    >>> from types import SimpleNamespace
    >>> one = torch.nn.Linear(1, 1)
    >>> names = dict.fromkeys(("q_proj", "k_proj", "v_proj", "g_proj", "b_proj", "a_proj"), one)
    >>> rest = {"A_log": torch.zeros(1), "dt_bias": torch.zeros(1), "circuitry": SimpleNamespace(silu=torch.nn.SiLU())}
    >>> project(SimpleNamespace(**names, **rest), torch.ones(1, 2, 1)).mixed.shape
    torch.Size([1, 2, 3])
    """
    if is_kimi(mixer):
        return _kimi(mixer, x)
    if hasattr(mixer, "in_proj_qkvz"):
        return _qwen3_next(mixer, x)
    if hasattr(mixer, "in_proj_qkv"):
        return _gated(mixer, mixer.in_proj_qkv(x), mixer.in_proj_z(x), mixer.in_proj_b(x), mixer.in_proj_a(x))
    mixed = torch.cat([mixer.q_proj(x), mixer.k_proj(x), mixer.v_proj(x)], -1)
    return _gated(mixer, mixed, mixer.g_proj(x), mixer.b_proj(x), mixer.a_proj(x))


def _qwen3_next(mixer: Any, x: Tensor) -> Projected:
    """Its projections are stored by key head: query, key, values and gates of that head, then the next head's."""
    shared = mixer.num_v_heads // mixer.num_k_heads
    parts = [mixer.head_k_dim, mixer.head_k_dim, shared * mixer.head_v_dim, shared * mixer.head_v_dim]
    by_head = mixer.in_proj_qkvz(x).unflatten(-1, (mixer.num_k_heads, -1)).split(parts, -1)
    q, k, v, gate = (part.flatten(2) for part in by_head)
    b, a = (part.flatten(2) for part in mixer.in_proj_ba(x).unflatten(-1, (mixer.num_k_heads, -1)).split(shared, -1))
    return _gated(mixer, torch.cat([q, k, v], -1), gate, b, a)


def _gated(mixer: Any, mixed: Tensor, gate: Tensor, b: Tensor, a: Tensor) -> Projected:
    beta = b.sigmoid()
    if getattr(mixer, "allow_neg_eigval", False):
        beta = beta * 2.0
    decay = -_wide(mixer.A_log).exp() * F.softplus(_wide(a) + mixer.dt_bias)
    return Projected(mixed, mixer.circuitry.silu(_wide(gate)), beta, decay)


def _kimi(mixer: Any, x: Tensor) -> Projected:
    mixed, forget = torch.cat([mixer.q_proj(x), mixer.k_proj(x), mixer.v_proj(x)], -1), mixer.forget_gate
    raw = _wide(forget.f_b_proj(forget.f_a_proj(x))) + _wide(forget.dt_bias)
    raw = raw.unflatten(-1, (mixer.num_heads, -1))  # type: ignore[no-untyped-call]
    softplus = torch.where(raw > 20.0, raw, torch.log(1.0 + torch.exp(raw)))
    gate = torch.sigmoid(_wide(mixer.g_b_proj(mixer.g_a_proj(x))))
    return Projected(mixed, gate, mixer.b_proj(x).sigmoid(), -_wide(forget.A_log).exp() * softplus)


def _wide(value: Tensor) -> Tensor:
    return value.to(torch.promote_types(value.dtype, torch.float32))


def sizes_of(mixer: Any) -> tuple[int, int, int, int]:
    """Key heads, heads, and the widths of a key and of a value.

    >>> from types import SimpleNamespace
    >>> sizes_of(SimpleNamespace(num_k_heads=1, num_v_heads=2, head_k_dim=4, head_v_dim=8))
    (1, 2, 4, 8)
    """
    if is_kimi(mixer):
        return mixer.num_heads, mixer.num_heads, mixer.head_dim, mixer.head_dim
    return mixer.num_k_heads, mixer.num_v_heads, mixer.head_k_dim, mixer.head_v_dim


def scale_of(mixer: Any) -> float:
    """The factor of queries. The two ways to compute it may differ in the last bit.

    >>> from types import SimpleNamespace
    >>> scale_of(SimpleNamespace(num_k_heads=1, num_v_heads=2, head_k_dim=4, head_v_dim=8))
    0.5
    """
    width = sizes_of(mixer)[2]
    return float(1 / width**0.5 if is_kimi(mixer) else width**-0.5)


def normed(mixer: Any, x: Tensor) -> Tensor:
    """Queries or keys of length 1.

    >>> from types import SimpleNamespace
    >>> bool((normed(SimpleNamespace(), torch.ones(1, 4)) - 0.5).abs().max() < 1e-6)
    True
    """
    squared = (x * x).sum(-1, keepdim=True) + _EPS
    return x / torch.sqrt(squared) if is_kimi(mixer) else x * torch.rsqrt(squared)


def norm_of(mixer: Any) -> Any:
    """The norm of what is read.

    >>> from types import SimpleNamespace
    >>> norm_of(SimpleNamespace(o_norm="the norm"))
    'the norm'
    """
    return mixer.norm if hasattr(mixer, "norm") else mixer.o_norm


def output_of(mixer: Any) -> Any:
    """The output projection.

    >>> from types import SimpleNamespace
    >>> output_of(SimpleNamespace(o_proj="the projection"))
    'the projection'
    """
    return mixer.out_proj if hasattr(mixer, "out_proj") else mixer.o_proj
