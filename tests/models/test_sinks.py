"""Attention with sinks: what a pattern is, both engines on every kind of path, and discovery's softmaxes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry.discovery.rows import Point, Rows
from circuitry.discovery.secant import Secant
from circuitry.discovery.softmax import averaged
from circuitry.executing.activations import read
from circuitry.models.attention import AttentionTap, Softmax, _allowed, _attend
from support import tiny
from support.agreement import both, model, ragged
from support.paths_by_kind import ATTENTION, SEQUENTIAL

EXACT = 1e-10
PROMPTS = ragged()
ROWS = Rows(1, (Point(0.0, 1.0),))
SINKS = torch.tensor([0.7, -0.4], dtype=torch.float64)


@pytest.mark.parametrize("kind", ["gpt_oss", "flint", "granite_swa"])
def test_what_a_sink_takes_is_missing_from_the_pattern(kind: str) -> None:
    ours = model(kind)
    node = ours.graph.node("head[1,2].pattern")
    pattern, query, key = (
        read(ours, [each], PROMPTS.clean)[each] for each in (node, *map(ours.graph.node, ("head[1,2].q", "head[1,2].k")))
    )
    attention = ours.hf.model.layers[1].self_attn
    scores = (query @ key.mT * attention.scaling).masked_fill(torch.ones(10, 10).triu(1).bool(), -torch.inf).exp()
    assert torch.allclose(pattern, scores / (scores.sum(-1, keepdim=True) + attention.sinks[2].exp()))
    assert pattern.sum(-1).max() < 0.999


@pytest.mark.parametrize("path", ATTENTION + SEQUENTIAL)
def test_both_engines_agree(path: str) -> None:
    found = both(model("gpt_oss"), path, PROMPTS)
    assert max(cell.error for cell in found) < EXACT
    assert max(cell.effect for cell in found) > 1e-5, "a path without an effect tests nothing"


def test_a_sink_that_the_engine_leaves_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("circuitry.models.attention._attend", lambda *args, s_aux, **more: _attend(*args, **more))
    with pytest.raises(ct.ModelError, match="instrumented logits differ"):
        ct.load(tiny.stock("gpt_oss", dtype=torch.float32))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_the_same_bits(dtype: torch.dtype) -> None:
    hf, ids = tiny.stock("gpt_oss", dtype=dtype), torch.from_numpy(PROMPTS.clean)
    hf.set_attn_implementation("eager")
    with torch.no_grad():
        stock = hf(ids, use_cache=False).logits
        assert torch.equal(ct.load(hf, dtype=dtype).hf(ids, use_cache=False).logits, stock)


# --- discovery -------------------------------------------------------------------------------------------------------------


def rows(changed: str, key: int | None = None) -> dict[str, Tensor]:
    """Queries and keys [row, head, pos, d_head] of a clean and a corrupted run and one in between, which is the clean one; only one of
    both changes, and of the keys perhaps only one."""
    torch.manual_seed(0)
    values = {name: torch.randn(1, 2, 4, 3, dtype=torch.float64) for name in ("q", "k")}
    change = 2 * torch.randn(1, 2, 4, 3, dtype=torch.float64)
    if key is not None:
        change = change * (torch.arange(4) == key)[:, None]
    return {name: torch.cat([v, v + change * (name == changed), v]).requires_grad_() for name, v in values.items()}


def pattern(softmax: Softmax, q: Tensor, k: Tensor) -> Tensor:
    tap = AttentionTap(shifted=True)
    tap.softmax = softmax
    mask = torch.full((4, 4), torch.finfo(torch.float64).min, dtype=torch.float64).triu(1)
    return _attend(SimpleNamespace(circuitry=tap), q, k, torch.zeros(3, 2, 4, 5).double(), mask, 1.0, s_aux=SINKS)[1]


@pytest.mark.parametrize(
    ("softmax", "changed", "key"),
    [(averaged(ROWS), "q", None), (Secant(ROWS, exact=True), "q", None), *((Secant(ROWS, exact=True), "k", n) for n in range(4))],
)
def test_the_gradient_times_the_change_is_the_exact_change_of_the_pattern(softmax: Any, changed: str, key: int | None) -> None:
    values = rows(changed, key)
    weights = torch.randn(2, 4, 4, dtype=torch.float64)
    found = pattern(softmax, **values)
    assert found.shape == (3, 2, 4, 4) and (found.sum(-1) < 1).all()
    (grad,) = torch.autograd.grad((found[2] * weights).sum(), [values[changed]])
    estimate = (grad[2] * (values[changed][1] - values[changed][0])).sum()
    wanted = ((found[1] - found[0]) * weights).sum()
    assert wanted.abs() > 1e-3
    torch.testing.assert_close(estimate, wanted.detach(), rtol=1e-6, atol=1e-9)


def test_only_what_rounds_otherwise_may_differ_from_the_stock_model() -> None:
    """Flint has the stock bits in float32, so a difference there is a fault."""
    flint, granite = (block(kind) for kind in ("flint", "granite_swa"))
    for dtype, allowed in ((torch.float32, (False, True)), (torch.bfloat16, (True, True))):
        logits = torch.ones(1, dtype=dtype)
        assert tuple(_allowed(logits, [layer]) > 0 for layer in (flint, granite)) == allowed


def block(kind: str) -> Any:
    return tiny.stock(kind, dtype=torch.float32).model.layers[0].self_attn
