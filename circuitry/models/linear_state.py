"""Layers with a linear state and the gated delta rule, with every node of their graph as a module that executors can address."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .delta_projections import is_kimi, norm_of, normed, output_of, project, scale_of, sizes_of
from .delta_rule import CHUNK, CHUNK_BY_CHANNEL, Written, delta_rule, delta_rule_packed
from .delta_stock import stock_rule
from .gates import replace_forward, stock_forward
from .mixers import HookPoints, convolved, instrument, masked, packed_of

POINTS = (
    "conv_in", "ssm_in", "query", "key", "erase", "value", "beta", "beta_write", "beta_erase", "decay",
    "write_value", "write_key", "write_erase", "write_step", "write_rate", "write_decay",
    "state", "state_read", "state_carry", "ssm_out", "gate",
)  # fmt: skip


def _forward(
    self: Any, hidden_states: Tensor, cache_params: Any = None, attention_mask: Tensor | None = None, **options: Any
) -> Tensor:
    """The mixer's forward with its values passed through the hook points. It takes the stock forward's place (``gates.replace_forward``).

    With a cache, as in ``generate``, the stock method runs: no node is visited then.
    """
    if cache_params is not None:
        return stock_forward(self)(hidden_states, cache_params, attention_mask, **options)  # type: ignore[no-any-return]
    points = self.circuitry
    projected = project(self, masked(hidden_states, None if attention_mask is None else attention_mask[:, :, None]))
    beta, decay = points.beta(projected.beta), points.decay(projected.decay)
    c = points.ssm_in(points.act(convolved(self, self.conv1d, points.conv_in(projected.mixed))))
    written, query = _parts(self, c, beta, decay)
    y = points.ssm_out(_read(self, written, query).to(hidden_states.dtype))
    gate = points.gate(projected.gate)
    out = norm_of(self)(y) * gate.unflatten(-1, (y.shape[2], -1))
    return output_of(self)(out.to(hidden_states.dtype).flatten(2))  # type: ignore[no-any-return]


def _parts(mixer: Any, c: Tensor, beta: Tensor, decay: Tensor) -> tuple[Written, Tensor]:
    """What is written and the queries, by head, each seen at its own port, in at least float32."""
    points, wide = mixer.circuitry, decay.dtype
    key_heads, heads, width, _ = sizes_of(mixer)
    q, k, v = c.split([key_heads * width, key_heads * width, c.shape[-1] - 2 * key_heads * width], -1)  # type: ignore[no-untyped-call]

    def by_head(seen: Tensor) -> Tensor:
        seen = seen.unflatten(-1, (key_heads, width))  # type: ignore[no-untyped-call]
        # Not repeated once: a copy has other strides, and so a sum over it other bits.
        return normed(mixer, (seen if heads == key_heads else seen.repeat_interleave(heads // key_heads, 2)).to(wide))

    query, seen, erased = points.query(q), points.key(k), points.erase(k)
    key = by_head(seen)
    erase = key if erased is seen else by_head(erased)
    value = points.value(v).unflatten(-1, (heads, -1)).to(wide)
    step, rate = points.beta_write(beta).to(wide), points.beta_erase(beta).to(wide)
    value, step = points.write_value(value), points.write_step(step)
    key, erase, rate, decay = points.write_key(key), points.write_erase(erase), points.write_rate(rate), points.write_decay(decay)
    decay = decay if decay.dim() == 4 else decay[..., None]
    return Written(key, value * step[..., None], erase, erase * rate[..., None], decay), by_head(query) * scale_of(mixer)


def _read(mixer: Any, written: Written, query: Tensor) -> Tensor:
    """What every token reads from the state of each head [batch, pos, head, d_value]."""
    points, inside = mixer.circuitry, packed_of(mixer)

    def at_stop(h: Tensor) -> tuple[Tensor, Tensor]:
        h = points.state(h)
        return points.state_read(h), points.state_carry(h)

    if inside is not None:
        return delta_rule_packed(written, query, inside, at_stop)
    if points.exact and written.erase is written.key and not points.stops:
        empty = written.empty().expand(len(query), -1, -1, -1)
        return stock_rule(query, written.key, written.value, written.probe, written.decay, empty)[0]
    return delta_rule(written, query, points.stops, at_stop)


def _norm(self: Any, value: Tensor, gate: Tensor | None = None) -> Tensor:
    """The gated norm's forward: without a gate, the part before it, but without rounding float64 to float32."""
    if gate is not None:
        return stock_forward(self)(value, gate)  # type: ignore[no-any-return]
    wide = value.to(torch.promote_types(value.dtype, torch.float32))
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
    # Kimi's gate is a sigmoid, and its norm multiplies by the weights before it rounds.
    return self.weight.to(wide.dtype) * wide if self.activation == "sigmoid" else self.weight * wide.to(value.dtype)  # type: ignore[no-any-return]


def values(config: Any, length: int) -> int:
    """How many numbers a row of ``length`` tokens has in one mixer: values as wide as its channels, the products of a chunk's
    tokens, and a few states.

    >>> from transformers import Qwen3NextConfig
    >>> values(Qwen3NextConfig(), 64) > 64 * 32 * 128
    True
    """
    if hasattr(config, "linear_head_dim"):
        heads, keys, wide = config.linear_num_heads, config.linear_head_dim, config.linear_head_dim
        pairs = keys * min(length, CHUNK_BY_CHANNEL) ** 2
    else:
        heads, keys, wide = config.linear_num_value_heads, config.linear_key_head_dim, config.linear_value_head_dim
        pairs = min(length, CHUNK) ** 2
    return int(heads * (length * 10 * (keys + wide) + 6 * pairs + 4 * keys * wide))


def _points(mixer: Any) -> HookPoints:
    from transformers.activations import ACT2FN

    points = HookPoints(mixer.conv_kernel_size, POINTS)
    points.act = ACT2FN[mixer.activation]
    if is_kimi(mixer):
        points.silu = None  # its gate is a sigmoid
    return points


@torch.no_grad()
def attach(model: Any, mixers: list[Any]) -> None:
    """Instrument layers with the gated delta rule and check them: exact mode gives the stock logits bit for bit, fast mode up to
    rounding.

    ``mixers`` are the modules of these layers. If fla or causal-conv1d is installed, the stock model would call its compiled
    kernels, so the fast mode is compared with the exact mode only. Raises ModelError if they differ.

    >>> from transformers import OlmoHybridConfig, OlmoHybridForCausalLM
    >>> config = OlmoHybridConfig(vocab_size=9, hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=8, pad_token_id=0)
    >>> hf = OlmoHybridForCausalLM(config).eval()
    >>> attach(hf, [hf.model.layers[0].linear_attn])
    >>> hf.model.layers[0].linear_attn.circuitry.state
    Identity()
    """
    for mixer in mixers:
        replace_forward(norm_of(mixer), _norm)
    instrument(model, mixers, _forward, "gated delta rule", _points)
