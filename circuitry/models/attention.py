"""One tap for all attention models: q, k, v, pattern and z of every query head as modules that engines can address.

Registered with transformers' attention interface, so no modelling code is copied. Keys and values are repeated per query head
before their taps: that is what lets one head of a group be patched (grouped-query attention).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .spread import input_device

NAME = "circuitry"


class AttentionTap(nn.Module):
    """The identity modules one attention layer passes its values through.

    q, k, v: [batch, head, pos, d_head], after rotary embedding. pattern: [batch, head, query pos, key pos].
    z: [batch, pos, head, d_head].
    """

    def __init__(self) -> None:
        super().__init__()
        for port in ("q", "k", "v", "pattern", "z"):
            setattr(self, port, nn.Identity())
        self.calls = 0


def _tapped(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Eager attention, bit for bit, with every value passed through its tap."""
    tap: Any = module.circuitry
    tap.calls += 1
    group = query.shape[1] // key.shape[1]
    q, k, v = tap.q(query), tap.k(key.repeat_interleave(group, 1)), tap.v(value.repeat_interleave(group, 1))
    scores = q @ k.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is not None:
        scores = scores + attention_mask
    wide = torch.promote_types(q.dtype, torch.float32)
    pattern = tap.pattern(torch.softmax(scores, -1, dtype=wide).to(q.dtype))
    z = tap.z((pattern @ v).transpose(1, 2).contiguous())
    return z, pattern


def values(config: Any, length: int) -> int:
    """How many numbers a row of ``length`` tokens has in one layer: stream and MLP, heads, scores and patterns.

    >>> from transformers import GPT2Config
    >>> values(GPT2Config(), 64) > 64 * 768
    True
    """
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return int(length * (4 * inner + 12 * config.hidden_size) + 4 * config.num_attention_heads * length**2)


def most_positions(config: Any) -> int | None:
    """How many positions the model was made for, as its configuration says; None where it does not.

    >>> from transformers import GPT2Config
    >>> most_positions(GPT2Config(n_positions=8))
    8
    """
    most: int | None = getattr(config, "max_position_embeddings", None)
    return most


@torch.no_grad()
def attach(model: Any, layers: list[Any]) -> None:
    """Put the taps into a model and check them: called once a layer, logits equal to the stock eager ones.

    ``layers`` are the attention modules. Raises ModelError where the model does not use transformers' attention interface or
    computes something else.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:gpt_neox")
    >>> model.hf.gpt_neox.layers[0].attention.circuitry.z
    Identity()
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register(NAME, _tapped)
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["eager"])
    length = min(10, most_positions(model.config) or 10)  # learned positions may be fewer
    ids = torch.arange(length, device=input_device(model))[None] % model.config.vocab_size
    model.set_attn_implementation("eager")
    stock = model(ids, use_cache=False).logits
    for layer in layers:
        layer.circuitry = AttentionTap()
    model.set_attn_implementation(NAME)
    tapped = model(ids, use_cache=False).logits
    calls = [layer.circuitry.calls for layer in layers]
    if calls != [1] * len(layers):
        raise ModelError(
            f"{model.config.model_type}: the attention tap was called {sum(calls)} times in {len(layers)} layers, not once each"
        )
    error = (stock - tapped).abs().max().item()
    # Wider than float32, stock models still take their softmax in float32; narrower or equal, the same bits must come out.
    if error > (1e-4 if tapped.dtype == torch.float64 else 0.0):
        raise ModelError(
            f"{model.config.model_type}: tapped logits differ from the stock model's by {error:.2g}; this attention is not supported"
        )
