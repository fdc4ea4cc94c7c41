"""RWKV-4 with every node of its graph as a module that executors can address, over the stock model's own parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from .gates import PACKED, replace_forward, stock_forward
from .packed import Inside
from .spread import input_device
from .stock import check_stock
from .token_shift import ShiftHookPoints, shifted
from .wkv import wkv, wkv_packed


class TimeHookPoints(ShiftHookPoints):
    """The identity modules of one time mixing; see ``graphs/rwkv.py`` for what passes through each.

    shift_in, those of the shift, key, value and receptance are [batch, pos, d_model], wkv_in [batch, pos, 3 * d_model];
    write_key, write_value, wkv_out and gate are [batch, pos, d_attn]. The three of the state are [batch, d_attn, 3] and are
    called once for every position in ``stops``.
    """

    def __init__(self) -> None:
        inputs = ("key", "value", "receptance")
        written = ("write_key", "write_value", "state", "state_read", "state_carry")
        super().__init__(("shift_in", "wkv_in", *inputs, *written, "wkv_out", "gate"), inputs)
        self.stops: tuple[int, ...] = ()


class ChannelHookPoints(ShiftHookPoints):
    """The identity modules of one channel mixing: all [batch, pos, d_model], but hidden, [batch, pos, d_ff]."""

    def __init__(self) -> None:
        super().__init__(("mlp_in", "hidden", "gate"), ("key", "receptance"))


def _time_mixing(self: Any, hidden: Tensor, state: Any = None, use_cache: bool = False) -> tuple[Tensor, Any]:
    """Time mixing with its values passed through the hook points. It takes the stock forward's place (``gates.replace_forward``).

    If a state is given or asked for, as in ``generate``, the stock method runs: no node is visited then.
    """
    if state is not None or use_cache:
        return stock_forward(self)(hidden, state, use_cache)  # type: ignore[no-any-return]
    points: Any = self.circuitry
    mixed = _mixed(self, points.shift_in(hidden), ("key", "value", "receptance"))
    # Contiguous, since a matrix product may round differently on a slice of a wider tensor.
    parts = [part.contiguous() for part in points.wkv_in(torch.cat(mixed, -1)).chunk(3, -1)]
    key, value = self.key(points.key(parts[0])), self.value(points.value(parts[1]))
    gate = points.gate(torch.sigmoid(self.receptance(points.receptance(parts[2]))))

    def at_stop(h: Tensor) -> tuple[Tensor, Tensor]:
        h = points.state(h)
        return points.state_read(h), points.state_carry(h)

    written = points.write_key(key), points.write_value(value)
    inside: Inside | None = getattr(self, PACKED, None)
    inputs = written, (key, value), -torch.exp(self.time_decay), self.time_first
    out = wkv(*inputs, points.stops, at_stop) if inside is None else wkv_packed(*inputs, inside, at_stop)
    return self.output(gate * points.wkv_out(out)), None


def _channel_mixing(self: Any, hidden: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """Channel mixing with its values passed through the hook points, in place of the stock forward (``gates.replace_forward``)."""
    if state is not None:
        return stock_forward(self)(hidden, state)  # type: ignore[no-any-return]
    points: Any = self.circuitry
    key, receptance = _mixed(self, points.mlp_in(hidden), ("key", "receptance"))
    value = self.value(points.hidden(torch.square(torch.relu(self.key(key)))))
    return points.gate(torch.sigmoid(self.receptance(receptance))) * value, None


def _mixed(block: Any, x: Tensor, consumers: tuple[str, ...]) -> list[Tensor]:
    """Each consumer's input: this token and the one before it, mixed by the consumer's own weights."""
    points, (now, before) = block.circuitry, shifted(block, x)
    mixed = []
    for consumer in consumers:
        taps, weight = getattr(points, f"tap_{consumer}"), getattr(block, f"time_mix_{consumer}")
        mixed.append(taps[0](now) * weight + taps[1](before) * (1 - weight))
    return mixed


def values(config: Any, length: int) -> int:
    """How many numbers a row of ``length`` tokens has in one layer: the values of time mixing and channel mixing, and a few states.

    >>> from transformers import RwkvConfig
    >>> values(RwkvConfig(hidden_size=768), 64) > 64 * 768
    True
    """
    by_token = 16 * config.hidden_size + 8 * config.attention_hidden_size + 3 * config.intermediate_size
    return int(length * by_token + 16 * config.attention_hidden_size)


@torch.no_grad()
def attach(model: Any, blocks: list[Any]) -> None:
    """Instrument an RWKV and check it: the logits are those of the stock model, bit for bit in float32 and below.

    ``blocks`` are its modules of time mixing; those of channel mixing are instrumented as well. Rescaling is turned off.
    Raises ModelError if the logits differ, or if the model has already rescaled its weights.

    >>> from transformers import RwkvConfig, RwkvForCausalLM
    >>> import circuitry as ct
    >>> model = ct.load(RwkvForCausalLM(RwkvConfig(vocab_size=9, hidden_size=4, num_hidden_layers=2)))
    >>> model.hf.rwkv.blocks[0].attention.circuitry.state
    Identity()
    """
    _stop_rescaling(model)
    ids = torch.arange(12, device=input_device(model))[None] % model.config.vocab_size
    stock = _stock_logits(model, ids)
    for block in model.rwkv.blocks:
        for part, points, forward in (
            (block.attention, TimeHookPoints(), _time_mixing),
            (block.feed_forward, ChannelHookPoints(), _channel_mixing),
        ):
            part.circuitry = points
            replace_forward(part, forward)
    ours = model(ids, use_cache=False).logits
    check_stock(model, stock, ours, ids, len(blocks), "RWKV")


def _stock_logits(model: Any, ids: Tensor) -> Tensor:
    """The logits of the stock loop. The compiled kernel, which stock RWKV may have loaded on a GPU, rounds differently."""
    from transformers.models.rwkv import modeling_rwkv as stock

    kernel, stock.rwkv_cuda_kernel = stock.rwkv_cuda_kernel, None
    try:
        return model(ids, use_cache=False).logits  # type: ignore[no-any-return]
    finally:
        stock.rwkv_cuda_kernel = kernel


def _stop_rescaling(model: Any) -> None:
    """Turn off rescaling, or refuse a model that has already done it."""
    # For float16, the stock model divides the output weights of layer i by 2^(i // rescale_every), in place, in its first forward
    # pass in eval mode, and halves the stream as often. That is another function, since the norms' epsilon is not scaled.
    interval = model.config.rescale_every
    if model.rwkv.layers_are_rescaled and 0 < interval < model.config.num_hidden_layers:
        raise ModelError(
            f"this RWKV has run with config.rescale_every={interval}, which divided its weights in place; "
            "set it to 0 before the first forward pass, or load the model again"
        )
    model.config.rescale_every = 0
