"""LFM2's gated short convolution with every node of its graph as a module that executors can address."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .gates import stock_forward
from .mixers import HookPoints, convolved, instrument, masked

_NAMES = ("conv_value", "input_gate", "conv_in", "conv_out", "gate")


def _forward(
    self: Any, hidden_states: Tensor, past_key_values: Any = None, attention_mask: Tensor | None = None, **options: Any
) -> Tensor:
    """The block's forward with its values passed through the hook points. It takes the stock forward's place (``gates.replace_forward``).

    With a cache, as in ``generate``, the stock method runs: no node is visited then.
    """
    if past_key_values is not None:
        return stock_forward(self)(hidden_states, past_key_values, attention_mask, **options)  # type: ignore[no-any-return]
    points = self.circuitry
    mask = None if attention_mask is None else attention_mask[:, :, None]
    opening, gate, x = self.in_proj(masked(hidden_states, mask)).chunk(3, -1)
    out = points.conv_out(convolved(self, self.conv, points.conv_in(points.input_gate(opening) * points.conv_value(x))))
    return self.out_proj(points.gate(gate) * out)  # type: ignore[no-any-return]


def values(config: Any, length: int) -> int:
    """How many numbers a row of ``length`` tokens has in one block, or in the layer's MLP, which is wider.

    >>> from transformers import Lfm2Config
    >>> values(Lfm2Config(), 64) > 64 * 3 * 2560
    True
    """
    return int(length * (10 * config.hidden_size + 4 * config.intermediate_size))


@torch.no_grad()
def attach(model: Any, blocks: list[Any]) -> None:
    """Instrument the short convolutions of an LFM2 and check them: exact mode gives the stock logits bit for bit, fast mode up to rounding.

    Raises ModelError if they differ.

    >>> from transformers import Lfm2Config, Lfm2ForCausalLM
    >>> sizes = {"vocab_size": 9, "hidden_size": 4, "intermediate_size": 8, "num_attention_heads": 1, "num_key_value_heads": 1}
    >>> hf = Lfm2ForCausalLM(Lfm2Config(**sizes, num_hidden_layers=1, layer_types=["conv"])).eval()
    >>> attach(hf, [hf.model.layers[0].conv])
    >>> hf.model.layers[0].conv.circuitry.gate
    Identity()
    """
    instrument(model, blocks, _forward, "LFM2", lambda block: HookPoints(block.conv_kernel_size, _NAMES))
