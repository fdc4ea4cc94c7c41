"""Norms whose scale is held constant in the backward pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CircuitryError


@dataclass(frozen=True)
class Form:
    """What a norm computes: gain * (x - mean) * scale + bias, each by groups of ``size`` numbers; without a mean unless ``centred``."""

    eps: float
    centred: bool
    size: int
    gain: Tensor
    bias: Tensor | None

    def scale(self, x: Tensor) -> Tensor:
        """The factor by which each number of ``x`` [..., d] is multiplied, in the precision in which norms are computed.

        >>> Form(0.0, False, 2, torch.ones(2), None).scale(torch.tensor([1.0, 1.0, 2.0, 2.0])).tolist()
        [1.0, 1.0, 0.5, 0.5]
        """
        groups = self.without_mean(x.to(torch.promote_types(x.dtype, torch.float32))).unflatten(-1, (-1, self.size))  # type: ignore[no-untyped-call]
        scale = torch.rsqrt(groups.square().mean(-1, keepdim=True) + self.eps)
        return scale.expand_as(groups).flatten(-2)

    def without_mean(self, x: Tensor) -> Tensor:
        """``x`` [..., d] as it is scaled.

        >>> Form(0.0, True, 2, torch.ones(4), None).without_mean(torch.tensor([1.0, 3.0, 5.0, 5.0])).tolist()
        [-1.0, 1.0, 0.0, 0.0]
        """
        if not self.centred:
            return x
        groups: Tensor = x.unflatten(-1, (-1, self.size))  # type: ignore[no-untyped-call]
        return (groups - groups.mean(-1, keepdim=True)).flatten(-2)

    def value(self, x: Tensor) -> Tensor:
        """What the norm gives [..., d].

        >>> Form(0.0, True, 2, torch.ones(2), None).value(torch.tensor([1.0, 3.0])).tolist()
        [-1.0, 1.0]
        """
        out = self.gain * (self.without_mean(x) * self.scale(x))
        return out if self.bias is None else out + self.bias


class _Frozen(torch.autograd.Function):
    """A norm's ``value`` with the gradient that its input has if the scale is constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, form: Form) -> Tensor:
        ctx.form = form
        ctx.save_for_backward(form.scale(x))
        return value.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        form: Form = ctx.form
        return form.without_mean(grads[0] * form.gain * ctx.saved_tensors[0]).to(grads[0].dtype), None, None


def frozen(norm: nn.Module) -> Callable[..., Tensor]:
    """A forward hook: the gradient of a norm is that of a linear map, as if its scale were a constant of each token.

    Raises CircuitryError for a norm of another kind than LayerNorm or RMSNorm.

    >>> norm, x = nn.LayerNorm(2), torch.tensor([0.0, 2.0], requires_grad=True)
    >>> handle = norm.register_forward_hook(frozen(norm))
    >>> norm(x)[1].backward()
    >>> x.grad
    tensor([-0.5000,  0.5000])
    """
    form = form_of(norm)

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], value: Tensor) -> Tensor:
        return _Frozen.apply(inputs[0], value, form)  # type: ignore[no-untyped-call,no-any-return]

    return hook


@torch.no_grad()
def form_of(norm: Any) -> Form:
    """How a norm computes, found by comparing values. Raises CircuitryError for a norm of another kind than LayerNorm or RMSNorm.

    >>> form_of(nn.RMSNorm(4, eps=1e-3)).centred
    False
    """
    weight, shape = getattr(norm, "weight", None), getattr(norm, "normalized_shape", None)
    width = len(weight) if weight is not None else shape[-1] if shape else 0
    if width:
        like = torch.ones(1) if weight is None else weight
        x = torch.linspace(-1, 2, 2 * width, dtype=like.dtype, device=like.device).square().view(1, 2, width)
        x[:, 0] *= 0.01  # so small that the term in the root can be seen
        wanted, near = norm(x), max(1e-3, 4 * torch.finfo(like.dtype).eps)
        for form in _candidates(norm, weight, width):
            value = form.value(x)
            if (value - wanted).abs().max() <= near * value.abs().max():
                return form
    raise CircuitryError(
        f"relevance cannot pass through {type(norm).__name__}: it is neither a LayerNorm nor an RMSNorm; use method='block-ig'"
    )


def _candidates(norm: Any, weight: Tensor | None, width: int) -> Iterator[Form]:
    named = [float(getattr(norm, name)) for name in ("eps", "variance_epsilon") if getattr(norm, name, None) is not None]
    size, bias = getattr(norm, "group_size", width // getattr(norm, "n_groups", 1)), getattr(norm, "bias", None)
    gains = (torch.ones(()),) if weight is None else (weight, 1 + weight)
    for eps, gain, centred in itertools.product(named or (1e-5, 1e-6), gains, (False, True)):
        yield Form(eps, centred, size, gain, bias)
