"""What instrumented logits may differ from stock ones by: nothing in float32, and in float64 what rounding moves them by, whatever their size."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

import circuitry as ct
from circuitry.models import attention, mixers, rwkv
from support import tiny

KINDS = ("gpt2", "gpt_neox", "mamba", "mamba2", "rwkv", "qwen3_next")
"""Of each kind of check at attaching."""


def large(kind: str, factor: float, dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    """A model whose logits are ``factor`` times as large."""
    hf = tiny.stock(kind, dtype=dtype, tie_word_embeddings=False, **changes)
    with torch.no_grad():
        hf.get_output_embeddings().weight.mul_(factor)
    return hf


@pytest.mark.parametrize("factor", (1e-4, 1e4))
@pytest.mark.parametrize("kind", KINDS)
def test_in_float64_the_size_of_the_logits_does_not_matter(kind: str, factor: float) -> None:
    assert ct.load(large(kind, factor)).graph.sizes["layer"] == 3


@pytest.mark.parametrize("kind", ("mamba", "mamba2"))
def test_a_deep_model_of_large_logits_is_loaded_in_float64(kind: str) -> None:
    """An absolute bound of 1e-4 refused it."""
    hf = large(kind, 100, layers=64)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        stock = hf(ids, use_cache=False).logits
        ours = ct.load(hf).hf(ids, use_cache=False).logits
    assert 1e-4 < (ours - stock).abs().max() < 1e-4 * stock.abs().max()


def off(real: Callable[..., Any], much: float) -> Callable[..., Any]:
    """The stock logits, off by a part of the largest one."""

    def wrong(*given: Any) -> Any:
        logits = real(*given)
        return logits + much * logits.abs().max()

    return wrong


@pytest.mark.parametrize("factor", (1e-4, 1.0, 1e4))
@pytest.mark.parametrize(("module", "kind"), [(mixers, "mamba"), (rwkv, "rwkv")])
def test_a_thousandth_of_the_logits_is_refused_in_float64(
    module: Any, kind: str, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_stock_logits", off(module._stock_logits, 1e-3))
    name = {"mamba": "Mamba"}.get(kind, "RWKV")
    with pytest.raises(ct.ModelError) as caught:
        ct.load(large(kind, factor))
    number = r"[\d.e+-]+"
    assert re.fullmatch(
        rf"{name}: instrumented logits differ from the stock model's by {number}, and rounding explains {number} \(the largest logit is "
        rf"{number}\); the hook points do not compute what this model computes \(transformers {number}\)",
        str(caught.value),
    )


@pytest.mark.parametrize("factor", (1e-4, 1e4))
def test_another_scaling_of_attention_is_refused_in_float64(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    real = attention._attend
    monkeypatch.setattr(attention, "_attend", lambda *given, scaling, **more: real(*given, **{**more, "scaling": 1.01 * scaling}))
    with pytest.raises(ct.ModelError, match=r"^gpt2: instrumented logits differ .* rounding explains"):
        ct.load(large("gpt2", factor))
    monkeypatch.undo()
    tiny.model("gpt2")  # registers the real one again, which is the same for all models


def test_in_float32_one_bit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixers, "_stock_logits", off(mixers._stock_logits, 1e-6))
    with pytest.raises(ct.ModelError, match=r"^Mamba: instrumented .* and in torch\.float32 none may differ; "):
        ct.load(tiny.stock("mamba", dtype=torch.float32))
