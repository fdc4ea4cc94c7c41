"""The averaged derivative of a softmax: times the change of the scores it is the change of the pattern."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry.discovery.gradient import Gradients
from circuitry.discovery.rows import Rows, legendre
from circuitry.discovery.schemes import OfInput
from circuitry.discovery.softmax import averaged, using
from support import asking, tiny

LENGTH = 6
DTYPES = [torch.float32, torch.float64]


def scores(size: float, dtype: torch.dtype, seed: int = 0, masked: float | None = None) -> Tensor:
    """Random scores [row, head, query, key] of two examples, at clean, corrupted and two points between."""
    generator = torch.Generator().manual_seed(seed)
    clean, corrupted = (size * torch.randn(2, 3, LENGTH, LENGTH, generator=generator, dtype=dtype) for _ in range(2))
    rows = torch.cat([clean, corrupted, clean + 0.3 * (corrupted - clean), clean + 0.8 * (corrupted - clean)])
    if masked is not None:
        rows += torch.full((LENGTH, LENGTH), masked, dtype=dtype).triu(1)
    return rows


def grad_of(value: Tensor) -> Tensor:
    assert value.grad is not None
    return value.grad


def derivative_times_change(rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """For each example and row of scores, the sum over keys of derivative times change, and the change of the weighted pattern."""
    asked = Rows(2, legendre(2))
    rows = rows.clone().requires_grad_()
    pattern = averaged(asked)(rows, rows, lambda q, k: q)
    torch.autograd.backward((pattern[4:] * weight.repeat(2, 1, 1, 1)).sum())
    change = (rows[2:4] - rows[:2]).detach().nan_to_num()
    got = torch.stack([(grad * change).sum(-1) for grad in grad_of(rows)[4:].reshape(2, 2, *rows.shape[1:])])
    ends = torch.softmax(rows.detach()[:4], -1)
    return got, ((ends[2:] - ends[:2]) * weight).sum(-1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0.01, 1.0, 30.0, 300.0])
@pytest.mark.parametrize("masked", [None, "least", -torch.inf])
def test_derivative_times_change_is_the_change_of_the_pattern(size: float, masked: object, dtype: torch.dtype) -> None:
    value = torch.finfo(dtype).min if masked == "least" else masked
    rows = scores(size, dtype, masked=value)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(2, 3, LENGTH, LENGTH, generator=generator, dtype=dtype)
    got, wanted = derivative_times_change(rows, weight)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    for point in got:
        torch.testing.assert_close(point, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("masked", ["least", -torch.inf])
def test_masked_keys_have_no_derivative(masked: object) -> None:
    value = torch.finfo(torch.float32).min if masked == "least" else masked
    rows = scores(3.0, torch.float32, masked=value).requires_grad_()  # type: ignore[arg-type]
    torch.autograd.backward(averaged(Rows(2, legendre(2)))(rows, rows, lambda q, k: q)[4:].square().sum())
    assert rows.grad is not None and torch.isfinite(rows.grad).all()
    above = torch.ones(LENGTH, LENGTH).triu(1).bool()
    assert (rows.grad[..., above] == 0).all() and rows.grad[4:][..., ~above].abs().max() > 1e-3


def test_equal_scores_have_the_usual_derivative() -> None:
    rows = scores(1.0, torch.float64)
    rows[2:] = rows[:2].repeat(3, 1, 1, 1)
    ours, usual = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    weight = torch.linspace(-1, 1, LENGTH, dtype=torch.float64)
    torch.autograd.backward((averaged(Rows(2, legendre(2)))(ours, ours, lambda q, k: q)[4:] * weight).sum())
    torch.autograd.backward((torch.softmax(usual, -1)[4:] * weight).sum())
    torch.testing.assert_close(ours.grad, usual.grad, rtol=1e-10, atol=1e-12)


def test_a_small_step_has_the_mean_derivative() -> None:
    """By a quadrature of many points."""
    rows = scores(0.7, torch.float64)
    ours = rows.clone().requires_grad_()
    weight = torch.linspace(-1, 1, LENGTH, dtype=torch.float64)
    torch.autograd.backward((averaged(Rows(2, legendre(2)))(ours, ours, lambda q, k: q)[4:6] * weight).sum())
    wanted = torch.zeros_like(rows[:2])
    for share in (torch.arange(400) + 0.5) / 400:
        at = (rows[:2] + share.double() * (rows[2:4] - rows[:2])).requires_grad_()
        wanted += torch.autograd.grad((torch.softmax(at, -1) * weight).sum(), at)[0] / 400
    torch.testing.assert_close(grad_of(ours)[4:6], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forward_values_are_the_same_bits(dtype: str) -> None:
    model = ct.load(tiny.stock("llama", 2, getattr(torch, dtype)), dtype=dtype)
    question, logits = asking.about(model), []
    rows = Rows(len(question.prompts), legendre(2))
    for softmax in (None, averaged(rows)):
        with using(model, softmax):
            passed = Gradients(model, question.wiring, question.prompts, question.metric, OfInput(legendre(2)))
        logits.append([passed.change(node) for node in question.wiring.nodes] + [torch.from_numpy(end) for end in passed.ends])
    for former, latter in zip(*logits, strict=True):
        assert torch.equal(former, latter)
    layer = model.hf.model.layers[0].self_attn.circuitry
    assert layer.softmax.__name__ == "_softmax"


def test_using_puts_back_what_was_there_after_an_error() -> None:
    model = asking.small("gpt2")
    before = model.hf.transformer.h[0].attn.circuitry.softmax
    with pytest.raises(KeyError), using(model, averaged(Rows(1, legendre(1)))):
        assert model.hf.transformer.h[1].attn.circuitry.softmax is not before
        raise KeyError
    assert model.hf.transformer.h[0].attn.circuitry.softmax is before
