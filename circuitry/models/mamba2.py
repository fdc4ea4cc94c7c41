"""Mamba-2 with every node of its graph as a module that executors can address, over the stock model's own parameters.

The mixers of hybrids have the same parameters under the same names. What else differs is asked of the mixer: Falcon-H1 multiplies what
goes in, and has a norm before the gate, after it, or none.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .gates import replace_forward, stock_forward
from .mixers import convolve, instrument, masked, packed_of
from .ssd import CHUNK, ssd, ssd_packed


def _forward(
    self: Any, hidden_states: Tensor, cache_params: Any = None, attention_mask: Tensor | None = None, **options: Any
) -> Tensor:
    """The mixer's forward with its values passed through the hook points. It takes the stock forward's place (``gates.replace_forward``).

    With a cache, as in ``generate``, the stock method runs: no node is visited then.
    """
    if cache_params is not None:
        return stock_forward(self)(hidden_states, cache_params, attention_mask, **options)  # type: ignore[no-any-return]
    points, inside = self.circuitry, packed_of(self)
    mask = None if attention_mask is None else attention_mask[:, :, None]
    projected = _projected(self, masked(hidden_states, mask))
    gate, x, step = torch.split(projected, [self.intermediate_size, self.conv_dim, self.num_heads], -1)
    delta = points.delta(F.softplus(step + self.dt_bias.to(step.dtype)).clamp(*self.time_step_limit))
    c = points.ssm_in(masked(convolve(self, points.conv_in(x)), mask))
    size = self.n_groups * self.ssm_state_size
    u, B, C = c.split([self.intermediate_size, size, size], -1)
    value, skip = (point(u).unflatten(-1, (self.num_heads, -1)) for point in (points.value, points.skip))
    B, C = _by_head(self, points.B(B)), _by_head(self, points.C(C))
    A = -torch.exp(self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32)))

    def at_stop(h: Tensor) -> tuple[Tensor, Tensor]:
        h = points.state(h)
        return points.state_read(h), points.state_carry(h)

    written = points.write_value(value), points.write_delta(delta), A, points.write_B(B)
    if inside is not None:
        y = ssd_packed(*written, C, inside, at_stop)
    else:
        y = ssd(*written, C, points.stops, at_stop, exact=self.chunk_size if points.exact else 0)
    s = points.ssm_out(y + self.D[:, None] * skip.to(A.dtype)).flatten(2)
    return self.out_proj(_gated(self, s, gate).to(x.dtype))  # type: ignore[no-any-return]


def _projected(mixer: Any, x: Tensor) -> Tensor:
    """What the input projection gives; Falcon-H1 multiplies its input by a number and its output by a vector."""
    if not hasattr(mixer, "mup_vector"):
        return mixer.in_proj(x)  # type: ignore[no-any-return]
    return mixer.in_proj(x * mixer.ssm_in_multiplier) * mixer.mup_vector  # type: ignore[no-any-return]


def _gated(mixer: Any, s: Tensor, gate: Tensor) -> Tensor:
    """The product of the scan's output and the gate, normalised after it, or before it, or not at all."""
    points = mixer.circuitry
    if isinstance(mixer.norm, nn.Identity):
        return s * points.gate(points.silu(gate))  # type: ignore[no-any-return]
    g = points.gate(points.silu(gate.to(s.dtype)))
    return mixer.norm(s) * g if getattr(mixer.norm, "norm_before_gate", False) else mixer.norm(s * g)  # type: ignore[no-any-return]


def _by_head(mixer: Any, value: Tensor) -> Tensor:
    """B or C of every group, [batch, pos, groups * d_state], repeated for each head of the group."""
    heads, groups = mixer.num_heads, mixer.n_groups
    return value.reshape(*value.shape[:2], groups, -1).repeat_interleave(heads // groups, dim=2)


def _norm(self: Any, value: Tensor, gate: Tensor | None = None) -> Tensor:
    """The gated norm's forward: without a gate, the norm alone, but without rounding float64 to float32."""
    if gate is not None:
        return stock_forward(self)(value, gate)  # type: ignore[no-any-return]
    groups = getattr(self, "n_groups", None) or value.shape[-1] // self.group_size
    grouped = value.reshape(*value.shape[:-1], groups, -1)
    scale = torch.rsqrt(grouped.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
    return self.weight * (grouped * scale).flatten(-2)  # type: ignore[no-any-return]


_SIZES = (
    ("mamba_n_heads", "n_mamba_heads", "mamba_num_heads", "num_heads"),
    ("mamba_d_head", "mamba_headdim", "mamba_head_dim", "head_dim"),
    ("mamba_d_state", "ssm_state_size", "state_size"),
)
"""What configs call the number of heads, a head's width and the width of its keys. Names that say Mamba come first: others may be
attention's."""


def values(config: Any, length: int) -> int:
    """How many numbers a row of ``length`` tokens has in one mixer: values as wide as its channels, B and C of every head,
    the products of a chunk's tokens, and a few states.

    >>> from transformers import Mamba2Config
    >>> values(Mamba2Config(), 64) > 64 * 128 * 64
    True
    """
    heads, width, state = (next(getattr(config, name) for name in names if hasattr(config, name)) for names in _SIZES)
    by_token = 12 * heads * width + 4 * heads * state
    return int(length * by_token + 4 * heads * min(length, CHUNK) ** 2 + 4 * heads * width * state)


@torch.no_grad()
def attach(model: Any, mixers: list[Any]) -> None:
    """Instrument a Mamba-2 or the Mamba-2 layers of a hybrid and check them: exact mode gives the stock logits bit for bit, fast mode up
    to rounding.

    ``mixers`` are its Mamba2Mixer modules, or a hybrid's own. If mamba-ssm or causal-conv1d is installed, stock Mamba-2 would call its
    compiled kernels, so the fast mode is compared with the exact mode only. Raises ModelError if they differ.

    >>> from transformers import Mamba2Config, Mamba2ForCausalLM
    >>> config = Mamba2Config(vocab_size=9, hidden_size=4, num_heads=2, head_dim=4, n_groups=1, state_size=2, num_hidden_layers=1)
    >>> hf = Mamba2ForCausalLM(config).eval()
    >>> attach(hf, [hf.backbone.layers[0].mixer])
    >>> hf.backbone.layers[0].mixer.circuitry.state
    Identity()
    """
    for mixer in mixers:
        if not isinstance(mixer.norm, nn.Identity):
            replace_forward(mixer.norm, _norm)
    instrument(model, mixers, _forward, "Mamba-2")
