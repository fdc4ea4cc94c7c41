"""Mamba with every node of its graph as a module that executors can address, over the stock model's own parameters."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .gates import stock_forward
from .mixers import convolve, instrument, masked, packed_of
from .scan import scan, scan_packed


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
    x, gate = self.in_proj(masked(hidden_states, mask)).chunk(2, -1)
    c = points.ssm_in(masked(convolve(self, points.conv_in(x)), mask))
    u, skip = points.value(c), points.skip(c)
    delta, B, C = _selection(self, c)
    A = -torch.exp(self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32)))

    def at_stop(h: Tensor) -> tuple[Tensor, Tensor]:
        h = points.state(h)
        return points.state_read(h), points.state_carry(h)

    written = points.write_value(u), points.write_delta(delta), A, points.write_B(B)
    if inside is not None:
        y = scan_packed(*written, C, inside, at_stop)
    else:
        y = scan(*written, C, points.stops, at_stop, exact=points.exact)
    s = points.ssm_out(y + skip * self.D.to(A.dtype))
    return self.out_proj((s * points.gate(points.silu(gate))).to(x.dtype))  # type: ignore[no-any-return]


def _selection(mixer: Any, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """delta, B and C, each from the value at its own port of ssm_in; one projection serves all ports that were not patched."""
    points, sizes = mixer.circuitry, [mixer.time_step_rank, mixer.ssm_state_size, mixer.ssm_state_size]
    shared = torch.split(mixer.x_proj(c), sizes, -1)

    def part(index: int, seen: Tensor) -> Tensor:
        return shared[index] if seen is c else torch.split(mixer.x_proj(seen), sizes, -1)[index]

    low, B, C = part(0, points.delta(c)), part(1, points.B(c)), part(2, points.C(c))
    if hasattr(mixer, "dt_layernorm"):  # FalconMamba and Jamba
        norms = mixer.dt_layernorm, mixer.b_layernorm, mixer.c_layernorm
        low, B, C = (_normed(value, norm) for value, norm in zip((low, B, C), norms, strict=True))
    if (inside := packed_of(mixer)) is None:
        step = (mixer.dt_proj.weight @ low.transpose(1, 2)).transpose(1, 2)
        return F.softplus(step + mixer.dt_proj.bias.to(step.dtype)), B, C
    step = F.linear(low[:, inside.scanning], mixer.dt_proj.weight)
    delta = step.new_zeros(*low.shape[:2], step.shape[2])  # a token that only reads a state needs no step size
    delta[:, inside.scanning] = F.softplus(step + mixer.dt_proj.bias.to(step.dtype))
    return delta, B, C


def _normed(value: Tensor, norm: Any) -> Tensor:
    """The stock RMS norm, but without rounding float64 to float32; FalconMamba's has no weights."""
    wide = value.to(torch.promote_types(value.dtype, torch.float32))
    eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    scaled = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).type_as(value)
    return norm.weight * scaled if isinstance(norm.weight, nn.Parameter) else scaled


def values(config: Any, length: int) -> int:
    """How many numbers a row of ``length`` tokens has in one mixer: values as wide as its channels, and a few states.

    >>> from transformers import MambaConfig
    >>> values(MambaConfig(), 64) > 64 * 1536
    True
    """
    if hasattr(config, "mamba_expand"):  # a hybrid's names; its intermediate_size is the MLP's
        inner, states = config.mamba_expand * config.hidden_size, config.mamba_d_state
    else:
        inner, states = config.intermediate_size, config.state_size
    return int(12 * length * inner + 4 * inner * states)


@torch.no_grad()
def attach(model: Any, mixers: list[Any]) -> None:
    """Instrument a Mamba and check it: exact mode gives the stock logits bit for bit, fast mode up to rounding.

    ``mixers`` are its MambaMixer modules. If mamba-ssm or causal-conv1d is installed, stock Mamba would call its compiled
    kernels, so the fast mode is compared with the exact mode only. Raises ModelError if they differ.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:mamba")
    >>> model.hf.backbone.layers[0].mixer.circuitry.state
    Identity()
    """
    instrument(model, mixers, _forward, "Mamba")
