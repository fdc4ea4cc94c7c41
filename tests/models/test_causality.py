"""A model in which a token moves the logits before it is refused when it is loaded, also where that shows only in long prompts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import circuitry as ct
from circuitry.models import adapters, checks, stock
from circuitry.models.ssd import CHUNK
from support import tiny

LATER = ("embedding_norm", "final_norm")
NOT_CAUSAL = "this model is not causal: changing token"
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
WIDENED = {
    *(kind for kind in tiny.OTHERS if kind.split("-")[0] in adapters._ADAPTERS),
    *("flint", "gpt_oss", "granite_swa", "mimo_v2_flash"),  # scores or sinks
    *("cohere", "deepseek_v2", "ernie4_5"),  # rotations
    *("deepseek_v3", "hunyuan_v1_moe", "hy_v3", "kolibri1", "minimax_m2", "phimoe"),  # routers and sums of experts
}
"""Types whose attention has methods of ours, or which compute parts in float32 that no type of ``tiny.CONFIGS`` does. In half precision they
round in their own way, and loading demands the stock model's bits."""


class Leak(nn.Module):
    """A norm after which the tokens before ``start`` see a little of those from it on."""

    def __init__(self, norm: nn.Module, start: int, much: float = 0.1) -> None:
        super().__init__()
        self.norm, self.start, self.much = norm, start, much
        self.weight = norm.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x)
        if out.shape[1] > self.start:
            out = torch.cat(
                [out[:, : self.start] + self.much * out[:, self.start :].mean(1, keepdim=True), out[:, self.start :]], 1
            )
        return out


def leaking(kind: str, start: int, dtype: torch.dtype = torch.float32, much: float = 0.1, **changes: Any) -> Any:
    """A stock model whose last norm leaks; it does so with taps and without, so that no comparison of the two finds it."""
    hf = tiny.stock(kind, dtype=dtype, **changes)
    whole = hf.base_model
    name = next(
        n for n in ("norm_f", "norm", "ln_f", "final_layer_norm", "final_layernorm", "ln_out", *LATER) if hasattr(whole, n)
    )
    setattr(whole, name, Leak(getattr(whole, name), start, much))
    return hf


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_a_token_that_sees_the_next_ones_is_refused(kind: str) -> None:
    with pytest.raises(ct.ModelError, match=NOT_CAUSAL):
        ct.load(leaking(kind, start=4))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "start"), [("gpt2", 8), ("mamba2", CHUNK + 12), ("rwkv", 8)])
def test_and_in_every_dtype(kind: str, start: int, dtype: torch.dtype) -> None:
    with pytest.raises(ct.ModelError, match=NOT_CAUSAL):
        ct.load(leaking(kind, start, dtype=dtype, much=5.0))


@pytest.mark.parametrize(
    ("kind", "chunk"), [("mamba", 16), ("jamba", 16), ("mamba2", CHUNK), ("mamba2-single", CHUNK), ("zamba2", CHUNK)]
)
def test_a_leak_from_one_chunk_into_the_one_before_is_found(kind: str, chunk: int) -> None:
    """A shorter prompt shows nothing of it."""
    hf = leaking(kind, start=chunk)
    with pytest.raises(ct.ModelError, match=NOT_CAUSAL):
        ct.load(hf)
    hf.eval()
    checks.check_causality(hf, 3, chunk=chunk - 16)


@pytest.mark.parametrize("window", (5, 4096))
def test_a_leak_beyond_the_window_is_found(window: int) -> None:
    with pytest.raises(ct.ModelError, match=NOT_CAUSAL):
        ct.load(leaking("mistral", start=9, sliding_window=window))


@pytest.mark.parametrize(
    ("kind", "function"), [("llama", "create_causal_mask"), ("mistral", "create_sliding_window_causal_mask")]
)
def test_a_mask_that_shows_later_tokens_is_found(kind: str, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a version of transformers with the fault: stock and tapped attention both have it."""

    def open_mask(inputs_embeds: Tensor, **_: Any) -> Tensor:
        return inputs_embeds.new_zeros(1, 1, inputs_embeds.shape[1], inputs_embeds.shape[1])

    monkeypatch.setattr(f"transformers.models.{kind}.modeling_{kind}.{function}", open_mask)
    with pytest.raises(ct.ModelError, match=NOT_CAUSAL):
        tiny.model(kind)
    monkeypatch.undo()
    tiny.model(kind)


def test_a_convolution_that_looks_ahead_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the fast scan's convolution and in the exact one, which is the stock model's."""
    from circuitry.models import mamba, mixers

    real = mixers.convolve
    monkeypatch.setattr(mamba, "convolve", lambda mixer, x: real(mixer, x.flip(1)).flip(1))
    monkeypatch.setattr(mixers, "_stock_logits", lambda *_: None)
    with pytest.raises(ct.ModelError, match=NOT_CAUSAL):
        tiny.model("mamba")


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (kind, dtype)
        for kind in (*tiny.CONFIGS, *tiny.OTHERS)
        for dtype in DTYPES
        if dtype == torch.float32 or kind in tiny.CONFIGS or (kind in WIDENED and dtype.itemsize == 2)
    ],
)
def test_models_that_are_causal_are_far_from_being_refused(
    kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of a batch may be rounded differently; that much is a hundredth of what is refused. Every type runs in float32, one type of
    each kind of block in every dtype (``tiny.CONFIGS``), and in half precision those that round in their own way."""
    monkeypatch.setattr(checks, "SAFETY", stock.SAFETY / 100)
    ct.load(tiny.stock(kind, dtype=dtype))


@pytest.mark.parametrize(
    ("kind", "changes", "longest"),
    [
        ("mistral", {"sliding_window": 4096}, 16),
        ("cwm", {"sliding_window": 8192}, 16),
        ("mamba2-single", {"chunk_size": 256}, CHUNK + 16),
        ("jamba", {}, 32),
    ],
)
def test_the_check_is_short_whatever_the_window_and_the_chunk(kind: str, changes: dict[str, Any], longest: int) -> None:
    hf, lengths, windows = tiny.stock(kind, dtype=torch.float32, **changes), [0], set[Any]()

    def hook(_: Any, args: Any, kwargs: Any) -> None:
        lengths.append((args[0] if args else kwargs["input_ids"]).shape[1])
        windows.add(getattr(hf.config, "sliding_window", None))

    hf.register_forward_pre_hook(hook, with_kwargs=True)
    ct.load(hf)
    assert max(lengths) <= longest
    if "sliding_window" in changes:
        assert windows == {changes["sliding_window"], 8} and hf.config.sliding_window == changes["sliding_window"]


def test_a_model_of_few_positions() -> None:
    ct.load(tiny.stock("gpt2", dtype=torch.float32, n_positions=10))


def test_logits_that_are_not_numbers_are_refused() -> None:
    hf = tiny.stock("gpt2", dtype=torch.float16)
    with torch.no_grad():
        hf.transformer.h[1].mlp.c_proj.weight.fill_(6e4)
    with pytest.raises(ct.ModelError, match=r"logits are not numbers in torch.float16; load it in another dtype"):
        ct.load(hf)
