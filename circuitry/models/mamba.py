"""Mamba with every node of its graph as a module that executors can address, over the stock model's own parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError
from .gates import PACKED, replace_forward, stock_forward
from .packed import Inside
from .scan import scan, scan_packed
from .spread import check_together, input_device

_HOOK_POINTS = (
    "conv_in", "ssm_in", "value", "delta", "B", "C", "skip", "write_value", "write_delta", "write_B",
    "state", "state_read", "state_carry", "ssm_out", "gate",
)  # fmt: skip


class MambaHookPoints(nn.Module):
    """The identity modules of one mixer; see ``graphs/mamba.py`` for what passes through each.

    All are [batch, pos, d_inner] but write_B, [batch, pos, d_state], and the three of the state, [batch, d_inner, d_state],
    which are called once for every position in ``stops``. ``exact`` uses the stock operations in the stock order.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        for name in _HOOK_POINTS:
            setattr(self, name, nn.Identity())
        self.conv_tap = nn.ModuleList(nn.Identity() for _ in range(width))
        self.stops: tuple[int, ...] = ()
        self.exact = False


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
        exact = points.exact or torch.is_grad_enabled()  # the fast scan works in place, which gradients cannot follow
        y = scan(*written, C, points.stops, at_stop, exact=exact)
    s = points.ssm_out(y + skip * self.D.to(A.dtype))
    return self.out_proj((s * points.gate(F.silu(gate))).to(x.dtype))  # type: ignore[no-any-return]


def packed_of(block: Any) -> Inside | None:
    """The packed tokens that a block computes in this run; None if tokens are not packed.

    >>> import circuitry as ct
    >>> packed_of(ct.load("bundled:mamba").mixers[0]) is None
    True
    """
    return getattr(block, PACKED, None)


def masked(value: Tensor, mask: Tensor | None) -> Tensor:
    """A value with its padding set to zero, as in the stock mixers.

    >>> masked(torch.ones(1, 2), torch.tensor([[0, 1]])).tolist()
    [[0.0, 1.0]]
    """
    return value if mask is None else (value * mask).to(value.dtype)


def convolve(mixer: Any, x: Tensor) -> Tensor:
    """Causal depthwise convolution and SiLU, as a sum over taps. Tap k is what a position sees of the token k positions back.

    >>> import circuitry as ct
    >>> convolve(ct.load("bundled:mamba").mixers[0], torch.zeros(1, 3, 256)).shape
    torch.Size([1, 3, 256])
    """
    points, conv = mixer.circuitry, mixer.conv1d
    width, length = mixer.conv_kernel_size, x.shape[1]
    if points.exact:
        out = F.conv1d(x.transpose(1, 2), conv.weight, conv.bias, padding=width - 1, groups=x.shape[2])[:, :, :length]
        return mixer.act(out).transpose(1, 2)  # type: ignore[no-any-return]
    inside = packed_of(mixer)
    padded = F.pad(x, (0, 0, width - 1, 0)) if inside is None else x
    wide = torch.promote_types(x.dtype, torch.float32)  # in half precision a convolution adds up in float32
    total: Any = 0.0 if conv.bias is None else conv.bias.to(wide)
    weight = conv.weight[:, 0].to(wide)
    for k in range(width):
        back = padded[:, width - 1 - k : width - 1 - k + length] if inside is None else inside.lagged(x, k)
        seen = points.conv_tap[k](back).to(wide)
        tap = weight[:, width - 1 - k]
        # Later taps are added in place, which gradients cannot follow; the first must not write into the bias.
        if k == 0 or torch.is_grad_enabled():
            total = torch.addcmul(total, seen, tap) if torch.is_tensor(total) else seen * tap
        else:
            total.addcmul_(seen, tap)
    return mixer.act(total.to(x.dtype))  # type: ignore[no-any-return]


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


@contextmanager
def exact(mixers: list[Any]) -> Iterator[None]:
    """Use the stock model's operations in its order, so that logits have the same bits.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:mamba")
    >>> with exact(model.mixers):
    ...     model.mixers[0].circuitry.exact
    True
    """
    for mixer in mixers:
        mixer.circuitry.exact = True
    try:
        yield
    finally:
        for mixer in mixers:
            mixer.circuitry.exact = False


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
    instrument(model, mixers, MambaHookPoints, _forward, "Mamba")


def instrument(model: Any, mixers: list[Any], points: Callable[[int], nn.Module], forward: Any, name: str) -> None:
    """Give every mixer its hook points and our forward, and check the result like ``attach``. For Mamba and Mamba-2.

    >>> from transformers import MambaConfig, MambaForCausalLM
    >>> hf = MambaForCausalLM(MambaConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1)).eval()
    >>> instrument(hf, [hf.backbone.layers[0].mixer], MambaHookPoints, _forward, "Mamba")
    >>> hf.backbone.layers[0].mixer.circuitry.gate
    Identity()
    """
    check_together(mixers)
    for block in model.modules():
        # Otherwise float64 runs would be rounded to float32 at every residual addition.
        if hasattr(block, "residual_in_fp32"):
            block.residual_in_fp32 = block.residual_in_fp32 and model.dtype != torch.float64
    ids = torch.arange(12, device=input_device(model))[None] % model.config.vocab_size
    stock = _stock_logits(model, ids)
    for mixer in mixers:
        mixer.circuitry = points(mixer.conv_kernel_size)
        replace_forward(mixer, forward)
    with exact(mixers):
        ours = model(ids, use_cache=False).logits
    if model.dtype == torch.float64 != ours.dtype:
        replace_forward(model, _unrounded)
    error = 0.0 if stock is None else (stock - ours).abs().max().item()
    # In float64 the stock model still computes its scan in float32, and we do not; in float32 and below the bits must be the same.
    if error > (1e-4 if ours.dtype == torch.float64 or model.dtype == torch.float64 else 0.0):
        raise ModelError(
            f"instrumented {name} differs from the stock model by {error:.2g}; this version of transformers is not supported"
        )
    fast = model(ids, use_cache=False).logits
    error = ((fast - ours).abs().max() / ours.abs().max()).item()
    if error > max(1e-2, 8 * torch.finfo(model.dtype).eps):
        raise ModelError(f"the fast scan differs from the exact one by {error:.2g} of the largest logit")


def _unrounded(self: Any, *args: Any, **options: Any) -> Any:
    """The forward of a complete Mamba in float64. Stock Mamba rounds its logits to float32 at the very end."""
    seen: list[Tensor] = []
    handle = self.get_output_embeddings().register_forward_hook(lambda _, __, out: seen.append(out))
    try:
        out = stock_forward(self)(*args, **options)
    finally:
        handle.remove()
    out.logits = seen[0]
    return out


def _stock_logits(model: Any, ids: Tensor) -> Tensor | None:
    """The stock model's logits, or None if it would call compiled kernels: these fail on a CPU and round differently on a GPU."""
    return None if any(map(find_spec, ("mamba_ssm", "causal_conv1d"))) else model(ids, use_cache=False).logits
