"""RWKV-7 with every node of its graph as a module that executors can address, over the parameters of circuitry's own plain model."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ModelError
from ..native.first_value import FirstValue
from .delta_rule import CHUNK_BY_CHANNEL, Written, delta_rule, delta_rule_packed
from .gates import replace_forward
from .mixers import instrument, packed_of
from .spread import input_device
from .token_shift import ShiftHookPoints, shifted

MIXES = {"receptance": "x_r", "decay": "x_w", "key": "x_k", "value": "x_v", "rate": "x_a", "gate": "x_g"}
"""The consumers of the token shift in time mixing, and their weights."""
_NODES = (
    "shift_in", "wkv_in", *(f"in_{name}" for name in MIXES),
    "receptance", "decay", "key", "key_write", "key_erase", "first_value", "amount", "value", "value_write", "rate", "rate_write", "rate_erase",
    "query", "write_value", "write_key", "write_probe", "write_erase", "write_decay",
    "state", "state_read", "state_carry", "wkv_out", "strength", "bonus", "gate",
)  # fmt: skip


class TimeHookPoints(ShiftHookPoints):
    """The identity modules of one time mixing; see ``graphs/rwkv7.py`` for what passes through each.

    shift_in, those of the shift, in_key and the like, gate, and amount (how much of layer 0's values a layer mixes in) are [batch, pos,
    d_model], wkv_in [batch, pos, 6 * d_model]. The three of the state are [batch, head, d_key, d_value] and are called once for every
    position in ``stops``. strength, of the bonus, is [batch, pos, head, 1]. All others are [batch, pos, head, d_head]. ``exact`` uses
    the plain model's recurrence.
    """

    def __init__(self) -> None:
        super().__init__(_NODES, tuple(MIXES))
        self.stops: tuple[int, ...] = ()
        self.exact = False


class ChannelHookPoints(ShiftHookPoints):
    """The identity modules of one channel mixing: all [batch, pos, d_model], but hidden, [batch, pos, d_ff]."""

    def __init__(self) -> None:
        super().__init__(("mlp_in", "hidden"), ("key",))


def _time_mixing(self: Any, x: Tensor, first: FirstValue) -> Tensor:
    """Time mixing with its values passed through the hook points, in place of the plain forward (``gates.replace_forward``)."""
    points: Any = self.circuitry
    mixed = _mixed(self, points.shift_in(x), MIXES)
    # Contiguous, since a matrix product may round differently on a slice of a wider tensor.
    parts = (part.contiguous() for part in points.wkv_in(torch.cat(mixed, -1)).chunk(6, -1))
    xr, xw, xk, xv, xa, xg = (getattr(points, f"in_{name}")(part) for name, part in zip(MIXES, parts, strict=True))
    value = _value(self, xv, first)
    query = points.receptance(_by_head(self, self.receptance(xr)))
    decay = points.decay(_decay(self, xw))
    key = points.key(_by_head(self, self.key(xk)))
    rate = points.rate(_by_head(self, torch.sigmoid(self.a0 + (xa @ self.a1) @ self.a2)))
    gate = points.gate(torch.sigmoid(xg @ self.g1) @ self.g2)
    y, bonus = _read(self, query.to(decay.dtype), decay, key, value, rate)
    y, bonus = points.wkv_out(y.to(x.dtype)), points.bonus(bonus.to(x.dtype))
    return self.output((self.ln_x(y.flatten(2)) + bonus.flatten(2)) * gate)  # type: ignore[no-any-return]


def _value(block: Any, x: Tensor, first: FirstValue) -> Tensor:
    """The values by head. Layer 0 leaves its own for all later layers, each of which mixes them into its own."""
    points, inside = block.circuitry, packed_of(block)
    value = _by_head(block, block.value(x))
    if block.layer == 0:
        value = points.value(value)
        first.value, first.tokens = value.flatten(2), None if inside is None else inside.tokens
        return value  # type: ignore[no-any-return]
    assert first.value is not None
    earlier = first.value.to(value.device)
    if inside is not None:
        # Layer 0 has other tokens. Where a run has none there, its value is that of its base run.
        tokens = inside.tokens
        earlier = earlier[:, tokens.index(first.tokens.of(tokens.row, tokens.position))]
    earlier = points.first_value(_by_head(block, earlier))
    amount = points.amount(torch.sigmoid(block.v0 + (x @ block.v1) @ block.v2))
    return points.value(value + (earlier - value) * _by_head(block, amount))  # type: ignore[no-any-return]


def _decay(block: Any, x: Tensor) -> Tensor:
    """The logarithms of the decays, in at least float32."""
    from ..native.rwkv7_model import SLOWEST

    raw = _by_head(block, block.w0 + torch.tanh(x @ block.w1) @ block.w2)
    return SLOWEST * torch.sigmoid(raw.to(torch.promote_types(raw.dtype, torch.float32)))


def _read(block: Any, query: Tensor, decay: Tensor, key: Tensor, value: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """What every token reads from the state of each head, and its bonus [batch, pos, head, d_head], in the dtype of ``decay``."""
    points, wide = block.circuitry, decay.dtype
    k_k, k_a = (_by_head(block, weight.to(wide)) for weight in (block.k_k, block.k_a))
    v, k = points.value_write(value).to(wide), points.key_write(key).to(wide)
    k = k * (1 + (points.rate_write(rate).to(wide) - 1) * k_a)
    probe = F.normalize(points.key_erase(key).to(wide) * k_k, dim=-1)
    erase = points.write_erase(probe * points.rate_erase(rate).to(wide))
    strength, query = points.strength((query * k * block.r_k.to(wide)).sum(-1, keepdim=True)), points.query(query)
    held, k, probe, decay = points.write_value(v), points.write_key(k), points.write_probe(probe), points.write_decay(decay)
    return _recurrence(block, query, decay, k, held, probe, erase), strength * v


def _recurrence(block: Any, query: Tensor, decay: Tensor, key: Tensor, value: Tensor, probe: Tensor, erase: Tensor) -> Tensor:
    points, inside = block.circuitry, packed_of(block)

    def at_stop(h: Tensor) -> tuple[Tensor, Tensor]:
        h = points.state(h)
        return points.state_read(h), points.state_carry(h)

    if points.exact and inside is None and not points.stops:
        from ..native.rwkv7_model import recurrence

        return recurrence(query, decay, key, value, probe, erase)
    # The rule shrinks the state before it looks for what to erase, this model after that.
    written = Written(key, value, erase, probe * (-decay).exp(), decay)
    if inside is not None:
        return delta_rule_packed(written, query, inside, at_stop)
    return delta_rule(written, query, points.stops, at_stop)


def _by_head(block: Any, value: Tensor) -> Tensor:
    return value.unflatten(-1, (-1, block.head_dim))  # type: ignore[no-untyped-call,no-any-return]


def _channel_mixing(self: Any, x: Tensor) -> Tensor:
    """Channel mixing with its values passed through the hook points, in place of the plain forward (``gates.replace_forward``)."""
    points: Any = self.circuitry
    (mixed,) = _mixed(self, points.mlp_in(x), {"key": "x_k"})
    return self.value(points.hidden(torch.square(torch.relu(self.key(mixed)))))  # type: ignore[no-any-return]


def _mixed(block: Any, x: Tensor, consumers: dict[str, str]) -> list[Tensor]:
    """Each consumer's input: this token and the one before it, mixed by the consumer's own weights."""
    (now, before), mixed = shifted(block, x), []
    for consumer, weight in consumers.items():
        taps = getattr(block.circuitry, f"tap_{consumer}")
        own = taps[0](now)
        mixed.append(own + (taps[1](before) - own) * getattr(block, weight))
    return mixed


def values(config: Any, length: int) -> int:
    """How many numbers a row of ``length`` tokens has in one layer: the values of time mixing and channel mixing, the products of a
    chunk's tokens, and a few states.

    >>> from circuitry.native.rwkv7_model import Rwkv7Config
    >>> values(Rwkv7Config(), 64) > 64 * 768
    True
    """
    by_token = 40 * config.hidden_size + 3 * config.intermediate_size
    return int(length * by_token + config.hidden_size * (6 * min(length, CHUNK_BY_CHANNEL) ** 2 + 4 * config.head_dim))


@torch.no_grad()
def attach(model: Any, blocks: list[Any]) -> None:
    """Instrument an RWKV-7 and check it: exact mode gives the plain model's logits bit for bit, fast mode up to rounding.

    ``blocks`` are its modules of time mixing; those of channel mixing are instrumented as well. Raises ModelError if logits differ.

    >>> from circuitry.native.rwkv7_model import Rwkv7Config, Rwkv7ForCausalLM
    >>> import circuitry as ct
    >>> config = Rwkv7Config(vocab_size=9, hidden_size=4, head_dim=2, num_hidden_layers=2, intermediate_size=8)
    >>> ct.load(Rwkv7ForCausalLM(config)).hf.blocks[0].att.circuitry.state
    Identity()
    """
    ids = torch.arange(12, device=input_device(model))[None] % model.config.vocab_size
    plain = model(ids).logits
    for block in model.blocks:
        block.ffn.circuitry = ChannelHookPoints()
        replace_forward(block.ffn, _channel_mixing)
    if (error := (model(ids).logits - plain).abs().max().item()) > 0:
        raise ModelError(f"instrumented channel mixing differs from the plain model's by {error:.2g}")
    instrument(model, blocks, _time_mixing, "RWKV-7", lambda _: TimeHookPoints())
