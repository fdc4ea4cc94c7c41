"""Mamba-2: the same bits as stock, a state per head that is what the recurrence says, and engines that agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import circuitry as ct
from circuitry.executing.copies import Copy
from circuitry.executing.rows import driver
from circuitry.executing.rows.schedule import _Layout, schedule
from circuitry.models import mamba2, mixers, ssd
from circuitry.models.mixers import exact
from circuitry.planning import plan
from support import agreement, tiny
from support.agreement import both, disagreement, model, ragged
from support.breaking import drop_freezing_place
from support.drawn_paths import drawn
from support.rounding import only_rounded
from support.stub_kernels import STUB, logits_beside

KINDS = ("mamba2", "mamba2-single")
EXACT = 1e-10
PROMPTS = ragged()


def tokens(rows: int = 3, length: int = 20, seed: int = 0) -> Tensor:
    return torch.randint(1, 61, (rows, length), generator=torch.Generator().manual_seed(seed))


def logits(hf: Any, ids: Tensor, **more: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = hf(ids, use_cache=False, **more).logits
    return found


@contextmanager
def seen(module: Any, change: Callable[[Tensor], Tensor] = lambda value: value) -> Iterator[list[Tensor]]:
    """What comes out of a module each time, and what takes its place."""
    found: list[Tensor] = []

    def hook(_: Any, __: Any, out: Tensor) -> Tensor:
        found.append(out.clone())
        return change(out)

    handle = module.register_forward_hook(hook)
    try:
        yield found
    finally:
        handle.remove()


# --- parity with the stock model -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16))
@pytest.mark.parametrize("padded", (False, True))
def test_instrumented_mamba2_gives_the_same_bits(kind: str, dtype: torch.dtype, padded: bool) -> None:
    """Twenty tokens are five chunks of one tiny model, and less than one of the other."""
    hf, ids = tiny.stock(kind, dtype=dtype), tokens()
    mask = torch.ones_like(ids)
    for row in range(len(ids)):
        mask[row, : 2 * row] = 0
    more = {"attention_mask": mask} if padded else {}
    stock = logits(hf, ids, **more)
    ours = ct.load(hf, dtype=dtype)
    with exact(ours.mixers):
        assert torch.equal(logits(ours.hf, ids, **more), stock)
    assert only_rounded(logits(ours.hf, ids, **more), stock, tiny.stock(kind, dtype=dtype), ids, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_float64_is_not_rounded_on_the_way(kind: str) -> None:
    """Against the reference's equations; the stock model computes its scan, its norms and its residual in float32."""
    ours = model(kind)
    (cell,) = both(ours, "embed -> resid[3] @ END", PROMPTS)
    assert cell.error < EXACT < cell.effect
    stock = logits(tiny.stock(kind), tokens())
    assert EXACT < (logits(ours.hf, tokens()) - stock).abs().max() < 1e-4
    same = [logits(tiny.model(kind, residual_in_fp32=wide).hf, tokens()) for wide in (False, True)]
    assert torch.equal(*same), "the residual is float64 whatever the config says of float32"


def test_a_mamba2_that_is_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixers, "_stock_logits", lambda hf, ids: 1.01 * logits(hf, ids))
    with pytest.raises(ct.ModelError, match=r"Mamba-2: instrumented logits differ from the stock model's by"):
        tiny.model("mamba2")
    monkeypatch.undo()
    monkeypatch.setattr(mamba2, "ssd", lambda *args, **options: ssd.ssd(*args, **options) * (1 if options["exact"] else 1.5))
    with pytest.raises(ct.ModelError, match="the fast scan differs from the exact one by"):
        tiny.model("mamba2")


def test_with_a_cache_the_stock_method_runs() -> None:
    hf, ids = tiny.stock("mamba2", dtype=torch.float32), tokens()
    kept = state_in_cache(hf, ids, layer=1)[1].clone()
    with torch.no_grad(), ct.load(hf) as ours:
        out = ours.hf(ids, use_cache=True)
    assert torch.equal(out.logits, logits(hf, ids)) and torch.equal(out.cache_params.layers[1].recurrent_states[0], kept)


def test_compiled_kernels_that_cannot_run_here_are_not_needed(tmp_path: Path) -> None:
    """Where mamba-ssm is importable without a GPU, transformers calls its kernels and fails; circuitry never does."""
    folders = ("mamba_ssm", "mamba_ssm/ops", "mamba_ssm/ops/triton")
    kernel = {"mamba_ssm/ops/triton/ssd_combined.py": STUB.format(function="mamba_chunk_scan_combined")}
    ours = logits_beside(tmp_path, "mamba2", {f"{folder}/__init__.py": "" for folder in folders} | kernel)
    wanted = logits(tiny.stock("mamba2", dtype=torch.float32), torch.arange(20)[None] + 3)
    assert torch.equal(ours, wanted)


def test_gradients_are_those_of_the_stock_model() -> None:
    grads = []
    for hf in (tiny.stock("mamba2", dtype=torch.float32), ct.load(tiny.stock("mamba2", dtype=torch.float32)).hf):
        hf(tokens(), use_cache=False).logits.square().sum().backward()
        grads.append({name: p.grad for name, p in hf.named_parameters()})
    for name, wanted in grads[0].items():
        assert (grads[1][name] - wanted).abs().max() < 1e-4 * wanted.abs().max() and wanted.abs().max() > 0, name


# --- the scan --------------------------------------------------------------------------------------------------------------


def inputs(seed: int, batch: int, length: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, delta, A, B, C."""
    make = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=make, dtype=torch.float64)

    delta = scale * F.softplus(draw(batch, length, 3))
    B, C = draw(batch, length, 3, 4), draw(batch, length, 3, 4)
    return draw(batch, length, 3, 5), delta, -draw(3).exp(), B, C


def token_by_token(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, stops: Any, at_stop: Any, h0: Tensor | None
) -> Tensor:
    """The oracle: the recurrence as it is written."""
    h, y = x.new_zeros(len(x), 3, 5, 4) if h0 is None else h0, []
    for t in range(x.shape[1]):
        h = torch.exp(delta[:, t] * A)[..., None, None] * h
        h = h + torch.einsum("bh,bhp,bhn->bhpn", delta[:, t], x[:, t], B[:, t])
        read, h = at_stop(h) if t in stops else (h, h)
        y.append(torch.einsum("bhpn,bhn->bhp", read, C[:, t]))
    return torch.stack(y, 1)


@given(
    st.integers(0, 99), st.integers(1, 3), st.integers(1, 40), st.booleans(), st.sets(st.integers(0, 45), max_size=6),
    st.sampled_from((0, 4, 64)), st.sampled_from((1, 7, 64)),
)  # fmt: skip
@settings(max_examples=80)
def test_scans_are_the_recurrence(
    seed: int, batch: int, length: int, begun: bool, stops: set[int], stock: int, chunk: int
) -> None:
    """With states changed at some positions, read and carried on differently; positions past the end are never reached."""
    h0 = torch.randn(batch, 3, 5, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) if begun else None
    called: list[int] = []

    def at_stop(h: Tensor) -> tuple[Tensor, Tensor]:
        called.append(1)
        return 2 * h + 1, h - 0.5

    given = inputs(seed, batch, length)
    stopped = sorted(stop for stop in stops if stop < length)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ssd, "CHUNK", chunk)
        found = ssd.ssd(*given, stops=stopped, at_stop=at_stop, h0=h0, exact=stock)
    wanted = token_by_token(*given, stops=stopped, at_stop=at_stop, h0=h0)
    assert found.shape == wanted.shape and (found - wanted).abs().max() < EXACT * wanted.abs().max().clamp(min=1)
    assert len(called) == 2 * len(stopped)


@pytest.mark.parametrize("stock", (0, 16))
def test_states_that_are_forgotten_at_once_give_no_overflow(stock: int) -> None:
    """Nor do gradients: no difference of sums is exponentiated where the later token comes first."""
    x, delta, A, B, C = given = [value.float().requires_grad_() for value in inputs(0, 2, 100, scale=200.0)]
    y = ssd.ssd(x, delta, A, B, C, exact=stock)
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert y.isfinite().all() and all(value.grad is not None and value.grad.isfinite().all() for value in given)


# --- nodes -----------------------------------------------------------------------------------------------------------------


def state_in_cache(hf: Any, ids: Tensor, layer: int) -> tuple[Any, Tensor]:
    """The stock model's cache after some tokens, and a layer's states there, [batch, head, d_head, d_state]."""
    with torch.no_grad():
        cache = hf(ids, use_cache=True).cache_params
    return cache, cache.layers[layer].recurrent_states[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_carried_state_is_that_of_the_stock_models_cache(kind: str) -> None:
    """One head's state after B, overwritten in the cache by the other input's; then the rest of the text."""
    hf, at, end = tiny.stock(kind), 4, 9
    clean, other = tokens(2, end + 1), tokens(2, end + 1, seed=1)
    cache, state = state_in_cache(hf, clean[:, : at + 1], layer=1)
    _, theirs = state_in_cache(hf, other[:, : at + 1], layer=1)
    with torch.no_grad():
        state[:, 1] = theirs[:, 1]
        wanted = hf(clean[:, at + 1 :], cache_params=cache, use_cache=True).logits[:, -1]
    before = logits(hf, clean)[:, -1]
    ends = np.full(2, end)
    prompts = ct.prompting.Prompts(clean.numpy(), other.numpy(), ends, ends, {"B": np.full(2, at), "END": ends}, ("B",))
    cells = {p: both(model(kind), p, prompts)[0] for p in ("ssm_state[1,1].carry @ B -> logits", "ssm_state[1,1] @ B -> logits")}
    carried, node = (cell.engine for cell in cells.values())
    assert (carried - wanted).abs().max() < 1e-4 < 1e-2 < (wanted - before).abs().max()
    assert (node - carried).abs().max() > 1e-3, "what this token reads of its state is one thing, what is carried on another"


def test_states_are_those_of_the_stock_models_cache() -> None:
    ours, hf, ids = model("mamba2"), tiny.stock("mamba2"), tokens(2, 10)
    for mixer in ours.mixers:
        mixer.circuitry.stops = (0, 3, 9)
    try:
        with seen(ours.mixers[2].circuitry.state) as found:
            logits(ours.hf, ids)
    finally:
        for mixer in ours.mixers:
            mixer.circuitry.stops = ()
    for one, stop in zip(found, (0, 3, 9), strict=True):
        assert (one - state_in_cache(hf, ids[:, : stop + 1], layer=2)[1]).abs().max() < 1e-5 < 1e-2 < one.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_tap_of_the_convolution_moves_what_its_weights_say(kind: str) -> None:
    """x, B and C of one position, and nothing else."""
    ours, ids, at = model(kind), tokens(2, 10), 5
    mixer = ours.mixers[0]
    change = torch.randn(mixer.conv_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    taps, weight = mixer.circuitry, mixer.conv1d.weight[:, 0]

    moved = torch.zeros(2, 10, mixer.conv_dim, dtype=torch.float64)
    moved[:, at] = change
    with seen(taps.conv_in) as x, seen(taps.ssm_in) as plain:
        logits(ours.hf, ids)
    padded = F.pad(x[0], (0, 0, mixer.conv_kernel_size - 1, 0)).unfold(1, mixer.conv_kernel_size, 1)
    before = (padded * weight).sum(-1) + (0 if mixer.conv1d.bias is None else mixer.conv1d.bias)
    assert (F.silu(before) - plain[0]).abs().max() < EXACT
    rest = [t for t in range(10) if t != at]
    for k in range(mixer.conv_kernel_size):
        with seen(taps.ssm_in) as found, seen(taps.conv_tap[k], lambda x: x + moved):
            logits(ours.hf, ids)
        assert (found[0] - F.silu(before + moved * weight[:, -1 - k])).abs().max() < EXACT
        assert torch.equal(found[0][:, rest], plain[0][:, rest]) and (found[0] - plain[0])[:, at].abs().min() > 0


def test_step_sizes_are_clamped() -> None:
    ours = model("mamba2-single")
    with seen(ours.mixers[0].circuitry.delta) as found:
        logits(ours.hf, tokens())
    assert found[0].min() == 0.1 and found[0].max() == 0.8 and ((found[0] > 0.1) & (found[0] < 0.8)).any()


def test_heads_of_a_group_meet_in_the_norm_by_its_scale_alone() -> None:
    """Head 0 ten times as large makes head 1 smaller by one factor a token; the heads of the other group stay as they are."""
    ours, ids = model("mamba2"), tokens(2, 10)
    mixer, factor = ours.mixers[-1], torch.tensor([10.0, 1, 1, 1], dtype=torch.float64)[:, None]
    normed: list[Tensor] = []
    handle = mixer.out_proj.register_forward_pre_hook(lambda _, args: normed.append(args[0].unflatten(-1, (4, 8))))
    logits(ours.hf, ids)
    with seen(mixer.circuitry.ssm_out, lambda s: s * factor):
        logits(ours.hf, ids)
    handle.remove()
    plain, scaled = normed
    assert torch.equal(plain[:, :, 2:], scaled[:, :, 2:])
    shrunk = (scaled / plain)[:, :, 1]
    assert (shrunk - shrunk[..., :1]).abs().max() < 1e-9 and shrunk.max() < 0.999


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=30)
def test_engines_agree_on_any_path(kind: str, data: st.DataObject) -> None:
    """What the planner accepts, both engines answer alike; what it refuses as without effect has none."""
    path = data.draw(drawn(model(kind).graph))
    try:
        found = both(model(kind), str(path), PROMPTS)
    except ct.PathError as error:
        if len(path.sources) == len(path.legs) == 1 and ("exactly zero" in error.problem or "nothing flows" in error.problem):
            base, _, patched = agreement.by_reference(model(kind), path, PROMPTS)
            assert (patched - base).abs().max() < 1e-12
        return
    assert max(cell.error for cell in found) < EXACT


# --- freezing --------------------------------------------------------------------------------------------------------------


def test_a_frozen_head_has_bitwise_the_same_trajectory() -> None:
    """And only that head: what the others' states do is live."""
    ours = model("mamba2")
    stops = ", ".join(f"ssm_state[2,0] @ {t}" for t in range(2, 8))
    made = plan(f"(embed @ A, {stops}) -> logits freezing ssm_state[1,2]", ours.graph, where=agreement.where(PROMPTS), length=10)
    laid = schedule(made, made.cells, PROMPTS)
    with seen(ours.mixers[1].circuitry.state) as found:
        driver.run(ours, laid, PROMPTS)
    base, patched = (torch.stack(found)[:, rows] for rows in (laid.reading.base, laid.reading.rows[0]))
    assert len(found) == 6 and torch.equal(base[:, :, 2], patched[:, :, 2])
    assert all((base[-1, :, head] - patched[-1, :, head]).abs().max() > 1e-6 for head in (0, 1, 3))


@pytest.mark.parametrize("dropped", range(3))
def test_mutant_that_holds_two_of_three_parts_of_a_state_is_caught(dropped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "embed @ B -> logits freezing ssm_state[1]"
    assert disagreement(model("mamba2"), path, PROMPTS) < EXACT
    drop_freezing_place(monkeypatch, dropped)
    assert disagreement(model("mamba2"), path, PROMPTS) > 1e-6


@pytest.mark.parametrize(
    "path", ("ssm_state[1,2] @ B -> logits", "delta[0,1] @ B -> logits", "embed @ B -> logits freezing h[1,2]")
)
def test_mutant_that_takes_the_next_head_is_caught(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def next_head(copy: Copy) -> Copy:
        return replace(copy, unit=np.where(copy.unit < 0, -1, (copy.unit + 1) % 4))

    put = _Layout._put
    monkeypatch.setattr(_Layout, "_put", lambda self, place, stop, copy: put(self, place, stop, next_head(copy)))
    assert disagreement(model("mamba2"), path, PROMPTS) > 1e-6


# --- whole layers ----------------------------------------------------------------------------------------------------------
