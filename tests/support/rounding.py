"""How far rounding can move a logit, from the arithmetic: whatever machine adds up in whatever order.

One rounding moves a number by eps at most. Roundings are as good as independent, so a sum of n terms is off by about
sqrt(n) eps sum|terms| (Higham and Mary 2019), and what many of them do to one logit adds up in squares. For every linear layer and
every scan of a model the bound is taken at its output in float64, and carried on to the logit by the gradient there.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import circuitry as ct
from circuitry.models import mamba, mamba2

FLOAT32 = torch.finfo(torch.float32).eps
Seen = list[tuple[Tensor, Tensor]]
"""Outputs, and how far rounding may have moved each number of them."""


def only_rounded(one: Tensor, other: Tensor, hf: Any, ids: Tensor, **more: Any) -> bool:
    """Whether logits of a model computed in two ways are apart by no more than rounding, where they differ most."""
    apart = (one.double() - other.double()).abs()
    at = tuple(int(i) for i in torch.unravel_index(apart.argmax(), apart.shape))
    return apart[at].item() <= reach(hf, ids, at, **more)


def reach(hf: Any, ids: Tensor, at: tuple[int, ...], **more: Any) -> float:
    """How far two ways to compute one model can be apart in the logit ``at`` [row, pos, token]; ``hf`` is not changed."""
    eps, seen = torch.finfo(hf.dtype).eps, Seen()
    with pytest.MonkeyPatch.context() as patched, ct.load(copy.deepcopy(hf), dtype="float64") as model:
        for module, name in ((mamba, "scan"), (mamba2, "ssd")):
            patched.setattr(module, name, _watched(getattr(module, name), seen))
        for layer in model.hf.modules():
            if isinstance(layer, nn.Linear):
                layer.register_forward_hook(lambda m, args, out: _linear(m, args[0], out, eps, seen))
        model.hf(ids, use_cache=False, **more).logits[at].backward()
        squares = [((out.grad * moved) ** 2).sum().item() for out, moved in seen if out.grad is not None]
    return float(2 * sum(squares) ** 0.5)  # either of the two ways may be off


def _linear(layer: nn.Linear, x: Tensor, out: Tensor, eps: float, seen: Seen) -> None:
    """In half precision products are added up in float32, and what goes in and comes out is rounded."""
    out.retain_grad()
    terms = x.detach().abs() @ layer.weight.detach().abs().T
    seen.append((out, (2 * eps + layer.in_features**0.5 * FLOAT32) * terms))


def _watched(scan: Any, seen: Seen) -> Any:
    def watched(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *rest: Any, **options: Any) -> Tensor:
        y: Tensor = scan(u, delta, A, B, C, *rest, **options)
        y.retain_grad()
        with torch.no_grad():
            sizes = u.abs(), delta, B.abs(), C.abs()
            kept, written = (scan(sizes[0], sizes[1], rate, *sizes[2:], exact=options["exact"]) for rate in (A, 0 * A))
        # An exponent is a sum over tokens, moved by sqrt(length) eps of itself; of a term it leaves e^-x, and x e^-x is less than 1.
        length, states = u.shape[1], B.shape[-1]
        seen.append((y, FLOAT32 * ((length + states + 8) ** 0.5 * kept + length**0.5 * written)))
        return y

    return watched
