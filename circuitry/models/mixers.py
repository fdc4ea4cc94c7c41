"""What the mixers of Mamba, Mamba-2 and LFM2 share: the convolution, and how hook points are put in place and checked."""

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
from .spread import check_together, input_device
from .stock import check_stock

_HOOK_POINTS = (
    "conv_in", "ssm_in", "value", "delta", "B", "C", "skip", "write_value", "write_delta", "write_B",
    "state", "state_read", "state_carry", "ssm_out", "gate",
)  # fmt: skip


class HookPoints(nn.Module):
    """The identity modules of one mixer; ``graphs/mamba.py`` and ``graphs/mamba2.py`` say what passes through each.

    In Mamba all are [batch, pos, d_inner] but write_B, [batch, pos, d_state], and the three of the state, [batch, d_inner, d_state].

    In Mamba-2 conv_in, the hook points of the convolution and ssm_in are [batch, pos, d_inner + 2 groups d_state]; value, skip, B, C
    slices of it; delta [batch, pos, head]; gate [batch, pos, d_inner]; ssm_out and write_value [batch, pos, head, d_head]; write_B
    [batch, pos, head, d_state]; the three of the state [batch, head, d_head, d_state].

    Of the gated delta rule see ``linear_state.py``. ``silu`` is the gate's activation, None for another. Those of the state are called once for every position in ``stops``. ``exact`` uses the stock operations in the stock order.
    """

    def __init__(self, width: int, names: tuple[str, ...] = _HOOK_POINTS) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, nn.Identity())
        self.silu: nn.Module | None = nn.SiLU()
        self.conv_tap = nn.ModuleList(nn.Identity() for _ in range(width))
        self.stops: tuple[int, ...] = ()
        self.exact = False


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
    """Mamba's convolution and SiLU.

    >>> import circuitry as ct
    >>> convolve(ct.load("bundled:mamba").mixers[0], torch.zeros(1, 3, 256)).shape
    torch.Size([1, 3, 256])
    """
    return mixer.act(convolved(mixer, mixer.conv1d, x))  # type: ignore[no-any-return]


def convolved(mixer: Any, conv: Any, x: Tensor) -> Tensor:
    """Causal depthwise convolution as a sum over taps. Tap k is what a position sees of the token k positions back.

    >>> import circuitry as ct
    >>> mixer = ct.load("bundled:mamba").mixers[0]
    >>> convolved(mixer, mixer.conv1d, torch.zeros(1, 3, 256)).shape
    torch.Size([1, 3, 256])
    """
    points, width, length = mixer.circuitry, conv.kernel_size[0], x.shape[1]
    if points.exact:
        out = F.conv1d(x.transpose(1, 2), conv.weight, conv.bias, padding=width - 1, groups=x.shape[2])[:, :, :length]
        return out.transpose(1, 2)
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
    return total.to(x.dtype)  # type: ignore[no-any-return]


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


def instrument(
    model: Any,
    mixers: list[Any],
    forward: Any,
    name: str,
    points: Callable[[Any], nn.Module] = lambda mixer: HookPoints(mixer.conv_kernel_size),
) -> None:
    """Give every mixer its hook points and our forward, and check the result like ``attach``.

    ``points`` makes the hook points of a mixer, by default those of Mamba and Mamba-2.

    >>> from transformers import MambaConfig, MambaForCausalLM
    >>> from circuitry.models.mamba import _forward
    >>> hf = MambaForCausalLM(MambaConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1)).eval()
    >>> instrument(hf, [hf.backbone.layers[0].mixer], _forward, "Mamba")
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
        mixer.circuitry = points(mixer)
        replace_forward(mixer, forward)
    with exact(mixers):
        ours = model(ids, use_cache=False).logits
    if model.dtype == torch.float64 != ours.dtype:
        replace_forward(model, _unrounded)
    if stock is not None:
        check_stock(model, stock, ours, ids, len(mixers), name)
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
    return None if any(map(find_spec, ("mamba_ssm", "causal_conv1d", "fla"))) else model(ids, use_cache=False).logits
