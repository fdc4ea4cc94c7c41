"""RWKV-4 from its parameters: time mixing and channel mixing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

See = Callable[..., Tensor]


def time_mixing(m: Any, hidden: Tensor, layer: int, see: See) -> Tensor:
    """The output of time mixing [batch, pos, d_model]; every value on the way passes through ``see``.

    >>> from transformers import RwkvConfig, RwkvForCausalLM
    >>> model = RwkvForCausalLM(RwkvConfig(vocab_size=9, hidden_size=4, num_hidden_layers=2))
    >>> time_mixing(model.rwkv.blocks[0].attention, torch.zeros(1, 2, 4), 0, lambda key, value, at=None: value).shape
    torch.Size([1, 2, 4])
    """
    at, width = (layer,), hidden.shape[-1]
    x = see(("shift_in", at, ""), hidden)
    mixed = _shift(m, x, layer, see, "shift_tap", ("key", "value", "receptance"))
    c = see(("wkv_in", at, ""), torch.cat([mixed["key"], mixed["value"], mixed["receptance"]], -1))
    k = see(("wkv_in", at, "key"), c[..., :width]) @ m.key.weight.T
    v = see(("wkv_in", at, "value"), c[..., width : 2 * width]) @ m.value.weight.T
    r = see(("wkv_in", at, "receptance"), c[..., 2 * width :]) @ m.receptance.weight.T
    gate = see(("gate", at, ""), 1 / (1 + torch.exp(-r)))
    s = see(("wkv_out", at, ""), _by_token(m, k, v, at, see))
    out: Tensor = (gate * s) @ m.output.weight.T
    return out


def channel_mixing(m: Any, hidden: Tensor, layer: int, see: See) -> Tensor:
    """The output of channel mixing [batch, pos, d_model]; every value on the way passes through ``see``.

    >>> from transformers import RwkvConfig, RwkvForCausalLM
    >>> model = RwkvForCausalLM(RwkvConfig(vocab_size=9, hidden_size=4, num_hidden_layers=2))
    >>> channel_mixing(model.rwkv.blocks[0].feed_forward, torch.zeros(1, 2, 4), 0, lambda key, value, at=None: value).shape
    torch.Size([1, 2, 4])
    """
    at = (layer,)
    mixed = _shift(m, see(("mlp_in", at, ""), hidden), layer, see, "mlp_tap", ("key", "receptance"))
    hidden = see(("mlp_hidden", at, ""), (mixed["key"] @ m.key.weight.T).clamp(min=0) ** 2)
    gate = see(("mlp_gate", at, ""), 1 / (1 + torch.exp(-(mixed["receptance"] @ m.receptance.weight.T))))
    out: Tensor = gate * (hidden @ m.value.weight.T)
    return out


def _shift(m: Any, x: Tensor, layer: int, see: See, family: str, consumers: tuple[str, ...]) -> dict[str, Tensor]:
    """A sum over both lags of what each consumer sees, times its weight."""
    mixed = {consumer: torch.zeros_like(x) for consumer in consumers}
    for lag in (0, 1):
        delayed = torch.zeros_like(x)
        delayed[:, lag:] = x[:, : x.shape[1] - lag]
        delayed = see((family, (layer, lag), ""), delayed)
        for consumer in consumers:
            weight = getattr(m, f"time_mix_{consumer}")
            mixed[consumer] = mixed[consumer] + see((family, (layer, lag), consumer), delayed) * (1 - weight if lag else weight)
    return mixed


def _by_token(m: Any, k: Tensor, v: Tensor, at: tuple[int, ...], see: See) -> Tensor:
    """Each token reads the carried state, with its own value as a bonus, and only then writes its value. In float32 at least: 1e38
    is not finite in float16."""
    dtype, k, v = k.dtype, *(t.to(torch.promote_types(t.dtype, torch.float32)) for t in (k, v))
    decay, out = torch.exp(m.time_decay), []
    read = carry = torch.stack([torch.zeros_like(k[:, 0]), torch.zeros_like(k[:, 0]), torch.full_like(k[:, 0], -1e38)], -1)
    for t in range(k.shape[1]):
        above, below, _ = _with(read, k[:, t] + m.time_first, v[:, t])
        out.append(above / below)
        decayed = torch.stack([carry[..., 0], carry[..., 1], carry[..., 2] - decay], -1)
        h = see(("wkv_state", at, ""), torch.stack(_with(decayed, k[:, t], v[:, t]), -1), t)
        read, carry = see(("wkv_state", at, "read"), h, t), see(("wkv_state", at, "carry"), h, t)
    return torch.stack(out, 1).to(dtype)


def _with(state: Tensor, exponent: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One more value in a weighted sum, and its weight in the sum of weights; both are kept divided by exp of the third."""
    above, below, most = state.unbind(-1)
    top = torch.where(most > exponent, most, exponent)
    old, new = (most - top).exp(), (exponent - top).exp()
    return above * old + value * new, below * old + new, top
