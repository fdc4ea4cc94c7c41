"""RecurrentGemma's recurrent block with every node of its graph as a module that executors can address."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .decaying import decaying, decaying_packed
from .gates import stock_forward
from .mixers import HookPoints, convolved, instrument, packed_of

_NAMES = (
    "conv_in", "ssm_in", "to_value", "to_input_gate", "to_recurrent_gate", "input_gate", "recurrent_gate",
    "write_value", "write_decay", "state", "state_read", "state_carry", "ssm_out", "gate",
)  # fmt: skip


def _forward(
    self: Any, input_states: Tensor, position_ids: Tensor, attention_mask: Any = None, use_cache: bool = True, **options: Any
) -> tuple[Tensor, None]:
    """The block's forward with its values passed through the hook points. It takes the stock forward's place (``gates.replace_forward``).

    With a cache, as in ``generate``, the stock method runs: no node is visited then. Like the stock block it does not heed a mask.
    """
    if use_cache:
        return stock_forward(self)(input_states, position_ids, attention_mask, use_cache, **options)  # type: ignore[no-any-return]
    points, inside = self.circuitry, packed_of(self)
    gate = points.gate(self.act_fn(self.linear_y(input_states)))
    c = points.ssm_in(convolved(self, self.conv_1d, points.conv_in(self.linear_x(input_states))))
    written = _written(self, c, position_ids[:, :, None] == 0)

    def at_stop(h: Tensor) -> tuple[Tensor, Tensor]:
        h = points.state(h)
        return points.state_read(h), points.state_carry(h)

    y = decaying(*written, points.stops, at_stop) if inside is None else decaying_packed(*written, inside, at_stop)
    if points.exact:  # as the stock model lays it out: in half precision a linear layer rounds by the strides
        y = torch.empty_like(c).copy_(y)
    return self.linear_out(points.ssm_out(y) * gate), None


def _written(block: Any, c: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """What each token writes to the state, and the factor by which it shrinks the state before it; ``first`` [batch, pos, 1] says which
    tokens begin a text: they write all of their value and keep nothing."""
    from transformers.models.recurrent_gemma.modeling_recurrent_gemma import SqrtBoundDerivative

    points, unit = block.circuitry, block.rg_lru
    opening = points.input_gate(_gate(points.to_input_gate(c), unit.input_gate_weight, unit.input_gate_bias))
    decay = points.recurrent_gate(_gate(points.to_recurrent_gate(c), unit.recurrent_gate_weight, unit.recurrent_gate_bias))
    logarithm = -8.0 * decay * F.softplus(unit.recurrent_param)
    # The stock square root has a bounded gradient, which would be infinite where nothing decays. A gate that an intervention moves
    # below 0 would make the state grow, and the root that of a negative number.
    kept = SqrtBoundDerivative.apply((1 - torch.exp(2 * logarithm)).clamp(min=0))
    value = points.to_value(c) * opening * torch.where(first, 1, kept)
    return points.write_value(value), points.write_decay(torch.exp(logarithm) * ~first)


def _gate(c: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The sigmoid of a linear map of each block of channels; ``weight`` is [block, channel, channel]."""
    blocks = c.reshape(-1, *bias.shape).transpose(0, 1)
    return torch.sigmoid(torch.baddbmm(bias[:, None], blocks, weight).transpose(0, 1).reshape(c.shape))


def values(config: Any, length: int) -> int:
    """How many numbers a row of ``length`` tokens has in one block, or in the layer's MLP, which is wider.

    >>> from transformers import RecurrentGemmaConfig
    >>> values(RecurrentGemmaConfig(), 64) > 64 * 3 * 2560
    True
    """
    return int(length * (16 * config.lru_width + 4 * config.hidden_size + 2 * config.intermediate_size))


@torch.no_grad()
def attach(model: Any, blocks: list[Any]) -> None:
    """Instrument the recurrent blocks of a RecurrentGemma and check them: exact mode gives the stock logits bit for bit, fast mode up to
    rounding.

    Raises ModelError if they differ.

    >>> from transformers import RecurrentGemmaConfig, RecurrentGemmaForCausalLM
    >>> config = RecurrentGemmaConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_attention_heads=2, num_hidden_layers=1)
    >>> hf = RecurrentGemmaForCausalLM(config).eval()
    >>> attach(hf, [hf.model.layers[0].temporal_block])
    >>> hf.model.layers[0].temporal_block.circuitry.state
    Identity()
    """
    instrument(model, blocks, _forward, "RecurrentGemma", lambda block: HookPoints(block.conv1d_width, _NAMES))
