"""The gated delta rule: the same bits as stock, states that are what the recurrence says, and stable for any decay and step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import circuitry as ct
from circuitry.models import delta_rule, linear_state, mixers
from circuitry.models.delta_rule import Written
from circuitry.models.mixers import exact
from support import tiny
from support.agreement import both, disagreement, model, ragged

KINDS = ("qwen3_next", "qwen3_5_text", "olmo_hybrid", "kimi_linear")
EXACT = 1e-10


def logits(hf: Any, ids: Tensor, **more: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = hf(ids, use_cache=False, **more).logits
    return found


def tokens(rows: int = 3, length: int = 20, seed: int = 0) -> Tensor:
    return torch.randint(1, 61, (rows, length), generator=torch.Generator().manual_seed(seed))


@contextmanager
def chunks(size: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(delta_rule, "CHUNK", size)
        patched.setattr(delta_rule, "CHUNK_BY_CHANNEL", size)
        yield


# --- the rule --------------------------------------------------------------------------------------------------------------


def inputs(seed: int, length: int, decays: int, half_life: float, dtype: torch.dtype = torch.float64) -> tuple[Written, Tensor]:
    """Two rows of three heads; step sizes up to 2, other keys that erase than those that write, and others that find what is erased."""
    drawn = torch.Generator().manual_seed(seed)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(2, length, 3, *sizes, generator=drawn, dtype=torch.float64)

    key, erase, other = (value / value.norm(dim=-1, keepdim=True) for value in (normal(5), normal(5), normal(5)))
    rate = 2 * torch.rand(2, length, 3, 1, generator=drawn, dtype=torch.float64)
    probe = rate * (0.8 * erase + 0.2 * other)
    decay = -math.log(2) / half_life * normal(decays).abs()
    return Written(*(value.to(dtype) for value in (key, normal(4), erase, probe, decay))), normal(5).to(dtype)


def by_token(written: Written, query: Tensor, stops: Sequence[int] = ()) -> Tensor:
    """At a stop the state that is read is another than the one that is carried on."""
    key, value, erase, probe, decay = (part.double() for part in written.parts())
    h, y = torch.zeros(2, 3, 5, 4, dtype=torch.float64), []
    for t in range(query.shape[1]):
        h = decay[:, t, :, :, None].exp() * h
        found = torch.einsum("bhk,bhkv->bhv", probe[:, t], h)
        h = h + torch.einsum("bhk,bhv->bhkv", key[:, t], value[:, t]) - torch.einsum("bhk,bhv->bhkv", erase[:, t], found)
        seen, h = changed(h) if t in stops else (h, h)
        y.append(torch.einsum("bhk,bhkv->bhv", query[:, t].double(), seen))
    return torch.stack(y, 1)


def changed(h: Tensor) -> tuple[Tensor, Tensor]:
    return 2 * h, h - 1


@given(
    seed=st.integers(0, 10**6),
    length=st.integers(1, 23),
    chunk=st.integers(1, 9),
    decays=st.sampled_from((1, 5)),
    stops=st.sets(st.integers(0, 25), max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_chunks_give_what_the_recurrence_gives(seed: int, length: int, chunk: int, decays: int, stops: set[int]) -> None:
    written, query = inputs(seed, length, decays, half_life=3.0)
    with chunks(chunk):
        found = delta_rule.delta_rule(written, query, tuple(stops), changed)
    wanted = by_token(written, query, tuple(stops))
    assert (found - wanted).abs().max() < EXACT * wanted.abs().max()


@pytest.mark.parametrize("decays", (1, 5))
@pytest.mark.parametrize("half_life", (1e-2, 1.0, 30.0, 1e6))
def test_no_decay_makes_it_inexact(decays: int, half_life: float) -> None:
    """A state that is gone in a token, and one that hardly shrinks in 300: only float32's rounding is left of the difference."""
    written, query = inputs(0, 300, decays, half_life, torch.float32)
    if half_life > 1e3:  # steps of 2 reflect the state, and different keys would make it grow for ever
        rate = written.probe.norm(dim=-1, keepdim=True)
        written = Written(written.key, written.value, written.key, rate * written.key, written.decay)
    found, wanted = delta_rule.delta_rule(written, query).double(), by_token(written, query)
    assert (found - wanted).norm() < 1e-5 * wanted.norm()


# --- parity with the stock model -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16))
@pytest.mark.parametrize("padded", (False, True))
def test_instrumented_layers_give_the_same_bits(kind: str, dtype: torch.dtype, padded: bool) -> None:
    """Seventy tokens are more than one chunk of the stock models. The fast scan is about as far from float64 as they are."""
    hf, ids = tiny.stock(kind, dtype=dtype), tokens(length=70)
    hf.set_attn_implementation("eager")
    mask = torch.ones_like(ids)
    for row in range(len(ids)):
        mask[row, : 2 * row] = 0
    more = {"attention_mask": mask} if padded else {}
    stock = logits(hf, ids, **more)
    ours = ct.load(hf, dtype=dtype)
    with exact(ours.mixers):
        assert torch.equal(logits(ours.hf, ids, **more), stock)
    with ct.load(tiny.stock(kind, dtype=dtype), dtype="float64") as model:
        true = logits(model.hf, ids, **more)
    fast, theirs = ((values.double() - true).norm() for values in (logits(ours.hf, ids, **more), stock))
    assert 0 < fast < 2 * theirs < 0.2 * true.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_float64_is_not_rounded_in_the_layers(kind: str) -> None:
    """Against the reference's equations, with values of every part moved."""
    for path in ("embed -> ssm_out[0,1] @ END", "beta[0,1].erase @ B -> ssm_state[0,1] @ END", "ssm_in[2].query @ END -> logits"):
        (cell,) = both(model(kind), path, ragged())
        assert cell.error < EXACT < cell.effect, path


@pytest.mark.parametrize(
    "path",
    (
        "embed @ B -> logits",
        "ssm_state[0] @ B -> logits freezing ssm_state",
        "ssm_state[0,2].carry @ B -> logits",
        "decay[0,1] @ A -> ssm_state[2,0] @ END",
        "ssm_in[0].erase @ B -> logits freezing gate",
        "beta[0,1].write @ B -> ssm_out[0,1] @ END freezing attn",
    ),
)
@pytest.mark.parametrize("kind", KINDS)
def test_both_engines_agree_beyond_the_chunk(kind: str, path: str) -> None:
    with chunks(4):
        (cell,) = both(model(kind), path, ragged(length=13))
    assert cell.error < EXACT < cell.effect


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_the_one_in_the_stock_cache(kind: str) -> None:
    hf, ids = tiny.stock(kind, dtype=torch.float32), tokens()
    with torch.no_grad():
        cached = hf(ids, use_cache=True).past_key_values.layers[2].recurrent_states
    found: list[Tensor] = []
    ours = ct.load(hf)
    point = ours.mixers[1].circuitry
    point.state.register_forward_hook(lambda _, __, h: found.append(h))
    point.stops = (19,)
    logits(ours.hf, ids)
    assert (found[0] - cached[0]).abs().max() < 1e-5 < found[0].abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_state_stays_what_it_was(kind: str) -> None:
    """What writes it is held, so what reaches it from before changes nothing; and without one of these it would."""
    ours, path = model(kind), "embed @ A -> ssm_state[0,1] @ END freezing ssm_in[0].value, ssm_in[0].key, ssm_in[0].erase, beta"
    (cell,) = both(ours, path, ragged())
    assert cell.error < EXACT < cell.effect, "the decay is live"
    with pytest.raises(ct.CircuitryError, match="effect"):
        both(ours, f"{path}, decay", ragged())
    assert disagreement(ours, "embed @ A -> logits freezing ssm_state", ragged()) < EXACT


def test_a_layer_that_is_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixers, "_stock_logits", lambda hf, ids: 1.01 * logits(hf, ids))
    with pytest.raises(ct.ModelError, match=r"gated delta rule: instrumented logits differ from the stock model's by"):
        tiny.model("qwen3_next")
    monkeypatch.undo()
    monkeypatch.setattr(linear_state, "delta_rule", lambda *args: 1 + delta_rule.delta_rule(*args))
    with pytest.raises(ct.ModelError, match="the fast scan differs from the exact one by"):
        tiny.model("qwen3_next")


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_cache_the_stock_method_runs(kind: str) -> None:
    hf, ids = tiny.stock(kind, dtype=torch.float32), tokens()
    hf.set_attn_implementation("eager")
    wanted = logits(hf, ids)
    with torch.no_grad(), ct.load(hf) as ours:
        out = ours.hf(ids, use_cache=True)
    assert torch.equal(out.logits, wanted) and out.past_key_values is not None
