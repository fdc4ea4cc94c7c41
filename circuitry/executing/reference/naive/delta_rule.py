"""The gated delta rule from the mixer's parameters, one head after the other and one token after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

See = Callable[..., Tensor]


def mixer(m: Any, hidden: Tensor, layer: int, see: See) -> Tensor:
    """The mixer's output [batch, pos, d_model]; every value on the way passes through ``see``.

    >>> from transformers import OlmoHybridConfig
    >>> from transformers.models.olmo_hybrid.modeling_olmo_hybrid import OlmoHybridGatedDeltaNet
    >>> config = OlmoHybridConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, pad_token_id=0)
    >>> mixer(OlmoHybridGatedDeltaNet(config, 0), torch.zeros(1, 2, 8), 0, lambda key, value, at=None: value).shape
    torch.Size([1, 2, 8])
    """
    parts, kimi = _read_weights(m, hidden), hasattr(m, "forget_gate")
    key_heads, heads = (m.num_heads, m.num_heads) if kimi else (m.num_k_heads, m.num_v_heads)
    width, value_width = (m.head_dim, m.head_dim) if kimi else (m.head_k_dim, m.head_v_dim)
    c = _convolution(m, see(("conv_in", (layer,), ""), torch.cat([parts[name] for name in "qkv"], -1)), layer, see)
    keys = key_heads * width
    q, k, v = c[..., :keys], c[..., keys : 2 * keys], c[..., 2 * keys :]
    seen = {port: see(("ssm_in", (layer,), port), x) for port, x in (("query", q), ("key", k), ("erase", k), ("value", v))}
    gate, out = see(("gate", (layer,), ""), torch.sigmoid(parts["gate"]) * (1 if kimi else parts["gate"])), []
    for head in range(heads):
        shared, at = head * key_heads // heads, (layer, head)
        vectors = {port: seen[port][..., shared * width : (shared + 1) * width] for port in ("query", "key", "erase")}
        vectors = {port: x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt() for port, x in vectors.items()}
        beta = see(("beta", at, ""), torch.sigmoid(parts["b"][..., head]) * (2 if getattr(m, "allow_neg_eigval", False) else 1))
        betas = see(("beta", at, "write"), beta), see(("beta", at, "erase"), beta)
        decay = see(("decay", at, ""), _decay(m, parts["a"], head))
        columns = slice(head * value_width, (head + 1) * value_width)
        y = _by_token(at, see, vectors, seen["value"][..., columns], betas, decay)
        y = see(("ssm_out", at, ""), y / width**0.5)
        norm = m.norm if hasattr(m, "norm") else m.o_norm
        y = y / (y.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt() * norm.weight
        out.append(y * gate[..., columns])
    result: Tensor = (m.out_proj if hasattr(m, "out_proj") else m.o_proj)(torch.cat(out, -1))
    return result


def _decay(m: Any, a: Tensor, head: int) -> Tensor:
    """[batch, pos], or for Kimi [batch, pos, d_key]."""
    if not hasattr(m, "forget_gate"):
        return -m.A_log[head].exp() * torch.log1p(torch.exp(a[..., head] + m.dt_bias[head]))  # type: ignore[no-any-return]
    columns = slice(head * m.head_dim, (head + 1) * m.head_dim)
    biased = a[..., columns] + m.forget_gate.dt_bias[columns]
    return -m.forget_gate.A_log.flatten()[head].exp() * torch.log1p(torch.exp(biased))  # type: ignore[no-any-return]


def _read_weights(m: Any, x: Tensor) -> dict[str, Tensor]:
    """q, k, v, gate, b and a, each with its heads side by side."""
    if hasattr(m, "forget_gate"):
        names = {"q": m.q_proj, "k": m.k_proj, "v": m.v_proj, "b": m.b_proj}
        parts = {name: projection(x) for name, projection in names.items()}
        return parts | {"gate": m.g_b_proj(m.g_a_proj(x)), "a": m.forget_gate.f_b_proj(m.forget_gate.f_a_proj(x))}
    if hasattr(m, "q_proj"):
        names = {"q": m.q_proj, "k": m.k_proj, "v": m.v_proj, "gate": m.g_proj, "b": m.b_proj, "a": m.a_proj}
        return {name: projection(x) for name, projection in names.items()}
    if hasattr(m, "in_proj_qkv"):
        mixed, keys = m.in_proj_qkv(x), m.num_k_heads * m.head_k_dim
        parts = {"q": mixed[..., :keys], "k": mixed[..., keys : 2 * keys], "v": mixed[..., 2 * keys :]}
        return parts | {"gate": m.in_proj_z(x), "b": m.in_proj_b(x), "a": m.in_proj_a(x)}
    shared = m.num_v_heads // m.num_k_heads
    sizes = {"q": m.head_k_dim, "k": m.head_k_dim, "v": shared * m.head_v_dim, "gate": shared * m.head_v_dim}
    by_name: dict[str, list[Tensor]] = {name: [] for name in (*sizes, "b", "a")}
    for projection, widths in ((m.in_proj_qkvz, sizes), (m.in_proj_ba, {"b": shared, "a": shared})):
        rows = projection.weight.split(list(widths.values()) * m.num_k_heads)
        for number, weight in enumerate(rows):
            by_name[list(widths)[number % len(widths)]].append(x @ weight.T)
    return {name: torch.cat(values, -1) for name, values in by_name.items()}


def _convolution(m: Any, x: Tensor, layer: int, see: See) -> Tensor:
    """q, k and v together: a sum over what each position sees of those before it, then SiLU."""
    total, width = torch.zeros_like(x), m.conv1d.weight.shape[-1]
    for k in range(width):
        delayed = torch.zeros_like(x)
        delayed[:, k:] = x[:, : x.shape[1] - k]
        total = total + see(("conv_tap", (layer, k), ""), delayed) * m.conv1d.weight[:, 0, width - 1 - k]
    return see(("ssm_in", (layer,), ""), total * torch.sigmoid(total))


def _by_token(
    at: tuple[int, int], see: See, vectors: dict[str, Tensor], value: Tensor, betas: tuple[Tensor, Tensor], decay: Tensor
) -> Tensor:
    """The recurrence of one head. The state shrinks first; what is erased is what the key finds in the state after that."""
    query, key, erase = (vectors[port] for port in ("query", "key", "erase"))
    state, y = value.new_zeros(len(value), key.shape[-1], value.shape[-1]), []
    for t in range(value.shape[1]):
        state = state * decay[:, t].exp().reshape(len(value), -1, 1)
        found = torch.einsum("bk,bkv->bv", erase[:, t], state)
        state = state - betas[1][:, t, None, None] * torch.einsum("bk,bv->bkv", erase[:, t], found)
        state = state + betas[0][:, t, None, None] * torch.einsum("bk,bv->bkv", key[:, t], value[:, t])
        state = see(("ssm_state", at, ""), state, t)
        y.append(torch.einsum("bk,bkv->bv", query[:, t], see(("ssm_state", at, "read"), state, t)))
        state = see(("ssm_state", at, "carry"), state, t)
    return torch.stack(y, 1)
