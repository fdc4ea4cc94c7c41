"""Fast CPU scans with gradients, which replace transformers' fallbacks while a recurrent model trains."""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_COMPILE = ["-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fopenmp", "-fPIC", "-c"]
_LINK = ["-fopenmp", "-shared", "-lm"]
"""Without -ffast-math: loading a library linked with it makes the whole process round denormal numbers to 0."""


_CHUNK = 32
"""Tokens of a chunk of the gated delta rule."""


@functools.cache
def _library() -> ctypes.CDLL:
    """Compile ``scan.c`` for this machine; needs a C compiler named ``cc``."""
    with tempfile.TemporaryDirectory() as folder:
        compiled, library = Path(folder) / "scan.o", Path(folder) / "scan.so"
        subprocess.run(["cc", *_COMPILE, str(Path(__file__).with_name("scan.c")), "-o", str(compiled)], check=True)
        subprocess.run(["cc", str(compiled), *_LINK, "-o", str(library)], check=True)
        return ctypes.CDLL(str(library))


def _call(name: str, tensors: list[Tensor], sizes: tuple[int, ...]) -> None:
    getattr(_library(), name)(*(ctypes.c_void_p(t.data_ptr()) for t in tensors), *sizes)


class _Scan(torch.autograd.Function):
    """y_t = C_t h_t with h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t; shapes as in ``scan.c``."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        u, delta, A, B, C = (t.contiguous() for t in inputs)
        y = torch.empty_like(u)
        ctx.sizes = (*u.shape, A.shape[1])
        ctx.save_for_backward(u, delta, A, B, C)
        _call("scan_forward", [u, delta, A, B, C, y], ctx.sizes)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C = ctx.saved_tensors
        dy = gradients[0].contiguous()
        du, ddelta, dB, dC = torch.empty_like(u), torch.empty_like(u), torch.zeros_like(B), torch.zeros_like(C)
        dA = u.new_empty(u.shape[0], *A.shape)
        _call("scan_backward", [u, delta, A, B, C, dy, du, ddelta, dA, dB, dC], ctx.sizes)
        return du, ddelta, dA.sum(0), dB, dC


class _WKV(torch.autograd.Function):
    """The weighted mean of ``scan.c``: w and u are [channels], k and v [batch, length, channels]."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        w, u, k, v = (t.contiguous() for t in inputs)
        y = torch.empty_like(k)
        ctx.save_for_backward(w, u, k, v)
        _call("wkv_forward", [w, u, k, v, y], tuple(k.shape))
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        w, u, k, v = ctx.saved_tensors
        dy, dw = gradients[0].contiguous(), w.new_empty(len(k), len(w))
        du, dk, dv = torch.empty_like(dw), torch.empty_like(k), torch.empty_like(v)
        _call("wkv_backward", [w, u, k, v, dy, dw, du, dk, dv], tuple(k.shape))
        return dw.sum(0), du.sum(0), dk, dv


def _linear_attention(
    time_decay: Tensor, time_first: Tensor, key: Tensor, value: Tensor, state: Any = None, return_state: bool = False
) -> tuple[Tensor, None]:
    """The call that transformers makes in training: with no previous state, and no request for the final one."""
    if state is not None or return_state:
        raise ValueError("the compiled WKV keeps no state; call the model with use_cache=False")
    y: Tensor = _WKV.apply(-torch.exp(time_decay), time_first, key, value)  # type: ignore[no-untyped-call]
    return y, None


def _selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    delta_bias: Tensor,
    **_: Any,
) -> Tensor:
    """The call that transformers makes: u, dt, z are [batch, inner, length]; B, C are [batch, state, length]."""
    delta = F.softplus(dt.transpose(1, 2) + delta_bias)
    y: Tensor = _Scan.apply(u.transpose(1, 2), delta, A, B.transpose(1, 2), C.transpose(1, 2))  # type: ignore[no-untyped-call]
    return (y + u.transpose(1, 2) * D).transpose(1, 2) * F.silu(z)


def _causal_conv(x: Tensor, weight: Tensor, bias: Tensor, activation: str | None = None, **_: Any) -> Tensor:
    """A depthwise causal convolution as shifted sums: its backward is much faster than ``conv1d``'s on a CPU."""
    width, length = weight.shape[1], x.shape[2]
    padded = F.pad(x, (width - 1, 0))
    out = sum(padded[:, :, k : k + length] * weight[:, k, None] for k in range(width)) + bias[:, None]
    return F.silu(out)


@contextmanager
def fast_rwkv_training() -> Iterator[None]:
    """Swap transformers' WKV loop for the compiled one, for float32 training on a CPU without a cache.

    >>> with fast_rwkv_training():
    ...     pass
    """
    from transformers.models.rwkv import modeling_rwkv as stock

    original, stock.rwkv_linear_attention = stock.rwkv_linear_attention, _linear_attention
    try:
        yield
    finally:
        stock.rwkv_linear_attention = original


@contextmanager
def fast_mamba_training() -> Iterator[None]:
    """Swap transformers' Mamba-1 fallbacks for the compiled scan, for float32 training on a CPU.

    >>> with fast_mamba_training():
    ...     pass
    """
    from transformers.models.mamba import modeling_mamba as stock

    originals = stock.mamba_selective_scan, stock.causal_conv1d_fn
    stock.mamba_selective_scan, stock.causal_conv1d_fn = _selective_scan, _causal_conv
    try:
        yield
    finally:
        stock.mamba_selective_scan, stock.causal_conv1d_fn = originals


@contextmanager
def fast_delta_training() -> Iterator[None]:
    """Let transformers' gated delta rule work in chunks no longer than the rows: stock pads rows of 16 tokens to 64.

    >>> with fast_delta_training():
    ...     pass
    """
    from transformers.models.qwen3_next import modeling_qwen3_next as stock

    original = stock.torch_chunk_gated_delta_rule

    def short_chunks(query: Tensor, *rest: Tensor, **options: Any) -> tuple[Tensor, Tensor | None]:
        result: tuple[Tensor, Tensor | None] = original(query, *rest, chunk_size=min(_CHUNK, query.shape[1]), **options)
        return result

    stock.torch_chunk_gated_delta_rule = short_chunks
    try:
        yield
    finally:
        stock.torch_chunk_gated_delta_rule = original


def fast_training(recipe: str) -> AbstractContextManager[None]:
    """Swap in the faster scan for a recipe that has one; do nothing for others.

    >>> with fast_training("rwkv"), fast_training("gpt_neox"):
    ...     pass
    """
    faster = {"mamba": fast_mamba_training, "rwkv": fast_rwkv_training, "qwen3_next": fast_delta_training}
    return faster[recipe]() if recipe in faster else nullcontext()
