"""RWKV-7 from its parameters: time mixing one head and one token after the other, and channel mixing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

See = Callable[..., Tensor]
_MIXES = {"receptance": "r", "decay": "w", "key": "k", "value": "v", "rate": "a", "gate": "g"}


def time_mixing(m: Any, hidden: Tensor, layer: int, see: See, first: Any) -> Tensor:
    """The output of time mixing [batch, pos, d_model]; every value on the way passes through ``see``.

    ``first.value`` is what layer 0 leaves for the others: its values.

    >>> from circuitry.native.rwkv7_model import Rwkv7Config, Rwkv7ForCausalLM
    >>> config = Rwkv7Config(vocab_size=9, hidden_size=4, head_dim=2, num_hidden_layers=2, intermediate_size=8)
    >>> from circuitry.native.first_value import FirstValue
    >>> block = Rwkv7ForCausalLM(config).blocks[0].att
    >>> time_mixing(block, torch.zeros(1, 2, 4), 0, lambda key, value, at=None: value, FirstValue()).shape
    torch.Size([1, 2, 4])
    """
    width, heads = hidden.shape[-1], m.r_k.shape[0]
    mixed = _shift(m, see(("shift_in", (layer,), ""), hidden), layer, see, "shift_tap", _MIXES)
    c = see(("wkv_in", (layer,), ""), torch.cat(list(mixed.values()), -1))
    x = {name: see(("wkv_in", (layer,), name), c[..., i * width : (i + 1) * width]) for i, name in enumerate(_MIXES)}
    parts = {name: x[name] @ getattr(m, name).weight.T for name in ("receptance", "key", "value")}
    parts["decay"] = -_sigmoid(m.w0[0, 0] + torch.tanh(x["decay"] @ m.w1) @ m.w2) / math.sqrt(math.e)
    parts["rate"] = _sigmoid(m.a0[0, 0] + x["rate"] @ m.a1 @ m.a2)
    gate = see(("gate", (layer,), ""), _sigmoid(x["gate"] @ m.g1) @ m.g2)
    share = _sigmoid(m.v0[0, 0] + x["value"] @ m.v1 @ m.v2) if layer else None
    values, out, size = [], [], width // heads
    for head in range(heads):
        columns = slice(head * size, (head + 1) * size)
        of_head = {name: part[..., columns] for name, part in parts.items()}
        if share is not None:
            earlier = see(("first_value", (layer, head), ""), first.value[..., columns])
            of_head["value"] = share[..., columns] * earlier + (1 - share[..., columns]) * of_head["value"]
        of_head = {name: see((name, (layer, head), ""), part) for name, part in of_head.items()}
        values.append(of_head["value"])
        out.append(_head(m, of_head, (layer, head), columns, see))
    if share is None:
        first.value = torch.cat(values, -1)
    result: Tensor = (torch.cat(out, -1) * gate) @ m.output.weight.T
    return result


def _head(m: Any, parts: dict[str, Tensor], at: tuple[int, int], columns: slice, see: See) -> Tensor:
    """What one head gives [batch, pos, d_head]: what it reads from its state, normed, and the bonus."""
    receptance, key, rate = (parts[name] for name in ("receptance", "key", "rate"))
    rates = {port: see(("rate", at, port), rate) for port in ("write", "erase")}
    keys = {port: see(("key", at, port), key) for port in ("write", "erase")}
    value = see(("value", at, "write"), parts["value"])
    write = keys["write"] * (1 - m.k_a[0, 0, columns] + rates["write"] * m.k_a[0, 0, columns])
    erase = keys["erase"] * m.k_k[0, 0, columns]
    erase = erase / erase.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-12)
    vectors = receptance, write, value, erase, rates["erase"] * erase, parts["decay"].exp()
    y = see(("wkv_out", at, ""), _by_token(vectors, at, see))
    bonus = see(("bonus", at, ""), (receptance * m.r_k[at[1]] * write).sum(-1, keepdim=True) * value)
    y = y - y.mean(-1, keepdim=True)
    y = y / (y.square().mean(-1, keepdim=True) + m.ln_x.eps).sqrt()
    result: Tensor = y * m.ln_x.weight[columns] + m.ln_x.bias[columns] + bonus
    return result


def _by_token(vectors: tuple[Tensor, ...], at: tuple[int, int], see: See) -> Tensor:
    """What is erased is what the erase key finds in the state before it shrinks. A token reads what it has written."""
    state, y = vectors[2].new_zeros(len(vectors[1]), vectors[1].shape[-1], vectors[2].shape[-1]), []
    for t in range(vectors[0].shape[1]):
        receptance, write, value, erase, lost, shrunk = (vector[:, t] for vector in vectors)
        found = torch.einsum("bk,bkv->bv", erase, state)
        state = torch.einsum("bk,bkv->bkv", shrunk, state) - torch.einsum("bk,bv->bkv", lost, found)
        state = see(("wkv_state", at, ""), state + torch.einsum("bk,bv->bkv", write, value), t)
        y.append(torch.einsum("bk,bkv->bv", receptance, see(("wkv_state", at, "read"), state, t)))
        state = see(("wkv_state", at, "carry"), state, t)
    return torch.stack(y, 1)


def channel_mixing(m: Any, hidden: Tensor, layer: int, see: See) -> Tensor:
    """The output of channel mixing [batch, pos, d_model]; every value on the way passes through ``see``.

    >>> from circuitry.native.rwkv7_model import Rwkv7Config, Rwkv7ForCausalLM
    >>> config = Rwkv7Config(vocab_size=9, hidden_size=4, head_dim=2, num_hidden_layers=2, intermediate_size=8)
    >>> block = Rwkv7ForCausalLM(config).blocks[0].ffn
    >>> channel_mixing(block, torch.zeros(1, 2, 4), 0, lambda key, value, at=None: value).shape
    torch.Size([1, 2, 4])
    """
    mixed = _shift(m, see(("mlp_in", (layer,), ""), hidden), layer, see, "mlp_tap", {"key": "k"})
    inner = see(("mlp_hidden", (layer,), ""), (mixed["key"] @ m.key.weight.T).clamp(min=0) ** 2)
    out: Tensor = inner @ m.value.weight.T
    return out


def _shift(m: Any, x: Tensor, layer: int, see: See, family: str, consumers: dict[str, str]) -> dict[str, Tensor]:
    """A sum over both lags of what each consumer sees, times its weight."""
    mixed = {consumer: torch.zeros_like(x) for consumer in consumers}
    for lag in (0, 1):
        delayed = torch.zeros_like(x)
        delayed[:, lag:] = x[:, : x.shape[1] - lag]
        delayed = see((family, (layer, lag), ""), delayed)
        for consumer, letter in consumers.items():
            weight = getattr(m, f"x_{letter}")
            mixed[consumer] = mixed[consumer] + see((family, (layer, lag), consumer), delayed) * (weight if lag else 1 - weight)
    return mixed


def _sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))
