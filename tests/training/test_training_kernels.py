"""The compiled scans that stand in for transformers' while a model trains: same values, same gradients."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from circuitry.training.scan import _library, fast_delta_training, fast_mamba_training, fast_rwkv_training, fast_training
from support import tiny

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="training needs a C compiler")

Gradients = dict[str, Tensor]


def trained(hf: Any, kernel: AbstractContextManager[None] | None = None) -> tuple[Tensor, Gradients]:
    """Logits in training mode, and the gradient of a loss by parameter."""
    ids = torch.randint(1, 61, (3, 21), generator=torch.Generator().manual_seed(1))
    hf.train().zero_grad()
    with kernel or fast_training("none"):
        logits = hf(ids, use_cache=False).logits
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
    return logits.detach(), {name: p.grad.clone() for name, p in hf.named_parameters() if p.grad is not None}


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, in parts of the largest value."""
    return ((one - other).abs().max() / other.abs().max()).item()


@pytest.mark.parametrize(
    ("kind", "kernel", "most"),
    [("mamba", fast_mamba_training, 1e-4), ("rwkv", fast_rwkv_training, 1e-5), ("qwen3_next", fast_delta_training, 1e-5)],
)
def test_a_faster_scan_has_the_stock_values_and_gradients(
    kind: str, kernel: Callable[[], AbstractContextManager[None]], most: float
) -> None:
    """Both in float32. Mamba's gradients cancel more, so that what either of them rounds shows more."""
    hf = tiny.stock(kind, dtype=torch.float32, hidden_size=48, **({"attention_hidden_size": 40} if kind == "rwkv" else {}))
    (wanted, slow), (found, fast) = trained(hf), trained(hf, kernel())
    assert apart(found, wanted) < 1e-5
    assert slow.keys() == fast.keys() == dict(hf.named_parameters()).keys()
    assert max(apart(fast[name], slow[name]) for name in slow) < most


def kernels(*given: Tensor) -> list[list[Tensor]]:
    """Value and gradients of WKV by the stock loop and by the compiled one."""
    from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu as stock

    from circuitry.training.scan import _linear_attention

    made = []
    for function in (stock, _linear_attention):
        inputs = [t.clone().requires_grad_() for t in given]
        out = function(inputs[0], inputs[1], inputs[2], inputs[3])[0]
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
        made.append([out.detach(), *torch.autograd.grad((out * weights).sum(), inputs)])
    return made


@pytest.mark.parametrize("scale", (0.1, 3.0, 30.0))
@pytest.mark.parametrize("channels", (1, 32, 70))
def test_wkv_for_keys_small_and_large(scale: float, channels: int) -> None:
    """Exponents far out of float32's range: sums are kept divided by the largest. Channels are more and less than a chunk's."""
    make = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(2, 40, channels, generator=make) for _ in range(2))
    decay, first = (torch.randn(channels, generator=make) for _ in range(2))
    wanted, found = kernels(decay, first, scale * keys, values)
    assert all(t.isfinite().all() for t in found)
    assert max(apart(one, other) for one, other in zip(found, wanted, strict=True)) < 1e-5


def test_stock_functions_come_back() -> None:
    from transformers.models.mamba import modeling_mamba
    from transformers.models.qwen3_next import modeling_qwen3_next
    from transformers.models.rwkv import modeling_rwkv

    def stock() -> tuple[Any, ...]:
        scan, delta = modeling_mamba.mamba_selective_scan, modeling_qwen3_next.torch_chunk_gated_delta_rule
        return modeling_rwkv.rwkv_linear_attention, scan, delta

    before = stock()
    with fast_training("rwkv"), fast_training("mamba"), fast_training("qwen3_next"):
        assert all(new is not old for new, old in zip(stock(), before, strict=True))
    assert stock() == before


def test_a_compiled_wkv_keeps_no_state() -> None:
    hf = tiny.stock("rwkv", dtype=torch.float32, attention_hidden_size=16)
    with fast_training("rwkv"), pytest.raises(ValueError, match="keeps no state; call the model with use_cache=False"):
        hf(torch.arange(4)[None], use_cache=True)


def test_numbers_next_to_zero_stay_what_they_are() -> None:
    """A library linked with -ffast-math would have them flushed to 0 in the whole process, wherever they come from."""
    _library()
    smallest = np.float64(5e-324)
    assert smallest * np.float64(1) > 0 and np.float32(1e-45) / np.float32(1) > 0
