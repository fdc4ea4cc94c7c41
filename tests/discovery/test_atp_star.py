"""AtP*: the effect of a query or a key on its head's output is exact, however saturated the softmax is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import circuitry as ct
from circuitry.discovery.methods import METHODS
from circuitry.discovery.question import Level, Question
from circuitry.discovery.search import asked
from circuitry.discovery.secant import key_derivative
from circuitry.discovery.softmax import mean_derivative
from support import tiny

EXACT = 1e-10


def question(hf: Any, level: Level = "node") -> Question:
    return asked(ct.load(hf, dtype="float64"), ct.task("induction", distance=4, examples=3), level=level)


def linear_after_the_last_head(sharpness: float) -> Any:
    """A model of two parallel layers without a final norm, so that logits are linear in what the last heads give."""
    hf = tiny.stock("gpt_neox", layers=2)
    hf.gpt_neox.final_layer_norm = nn.Identity()
    with torch.no_grad():
        for layer in hf.gpt_neox.layers:
            layer.attention.query_key_value.weight *= sharpness
    return hf


def of(scores: NDArray[Any], asked: Question, port: str) -> NDArray[Any]:
    """The scores of the last layer's heads at one port."""
    named = [str(node) for node in asked.items]
    return scores[:, np.array([name.startswith("head[1,") and name.endswith(f".{port}") for name in named])]


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("port", ["q", "k", "v"])
def test_queries_keys_and_values_are_exact_if_all_after_them_is_linear(port: str, sharpness: float) -> None:
    about = question(linear_after_the_last_head(sharpness))
    wanted = of(METHODS["exact"].scores(about), about, port)
    found = of(METHODS["atp-star"].scores(about), about, port)
    assert np.abs(wanted).max() > 1e-6 or (port, sharpness) == ("q", 8.0)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7 * float(np.abs(wanted).max()) + 1e-12)


def test_scores_with_a_cap_are_refused() -> None:
    with pytest.raises(ct.CircuitryError, match=r"they have a cap \(2\.0\); use method='block-ig'"):
        METHODS["atp-star"].scores(question(tiny.stock("gemma2", 2)))


@pytest.mark.parametrize("size", [1.0, 30.0, 800.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_key_alone_has_its_exact_effect(size: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    grad, scores, change = (factor * torch.randn(9, 5, 6, dtype=dtype) for factor in (1, size, size))
    scores.masked_fill_(torch.ones(5, 6).triu(1).bool(), torch.finfo(dtype).min)
    change = change.tril()
    found = key_derivative(grad, scores, change) * change
    for key in range(6):
        changed = scores.clone()
        changed[..., key] += change[..., key]
        wanted = (grad * (torch.softmax(changed, -1) - torch.softmax(scores, -1))).sum(-1)
        torch.testing.assert_close(found[..., key], wanted, rtol=1e-5, atol=1e-6)
    assert found.abs().max() > 0.1


def test_a_key_that_has_all_attention_loses_it_to_the_next_best() -> None:
    """Its share is 1 in every digit, so what the others have is not in the pattern."""
    grad, scores, change = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([500.0, 300.0, 0.0]), torch.tensor([-400.0, 0.0, 0.0])
    assert torch.allclose(key_derivative(grad, scores, change) * change, torch.tensor([1.0, 0.0, 0.0]))


@pytest.mark.parametrize("size", [1.0, 1e2, 1e4])
def test_the_mean_derivative_times_the_change_is_the_change_of_the_pattern(size: float) -> None:
    """Steps so steep that they lie between two points of the mean."""
    torch.manual_seed(0)
    grad, start, change = (factor * torch.randn(9, 5, dtype=torch.float64) for factor in (1, 1, size))
    wanted = (grad * (torch.softmax(start + change, -1) - torch.softmax(start, -1))).sum(-1)
    assert ((mean_derivative(grad, start, change) * change).sum(-1) - wanted).abs().max() < EXACT


@pytest.mark.parametrize("derivative", [mean_derivative, key_derivative])
def test_where_nothing_changes_the_derivative_is_the_usual_one(derivative: Any) -> None:
    torch.manual_seed(0)
    scores, grad = torch.randn(4, 5, dtype=torch.float64, requires_grad=True), torch.randn(4, 5, dtype=torch.float64)
    (wanted,) = torch.autograd.grad(torch.softmax(scores, -1), scores, grad)
    found = derivative(grad, scores.detach(), torch.zeros_like(grad))
    assert (found - wanted).abs().max() < EXACT


@pytest.mark.parametrize("level", ["node", "edge"])
def test_every_method_is_exact_in_a_linear_model(level: Level) -> None:
    hf = tiny.stock("gpt_neox", layers=1, hidden_act="linear")
    hf.gpt_neox.final_layer_norm = nn.Identity()
    for block in hf.gpt_neox.layers:
        block.input_layernorm = block.post_attention_layernorm = nn.Identity()
        with torch.no_grad():  # no queries and no keys, so all patterns are uniform
            weight, bias = (p.view(2, 3, 8, -1) for p in block.attention.query_key_value.parameters())
            weight[:, :2] = bias[:, :2] = 0
    about = question(hf, level)
    wanted = METHODS["exact"].scores(about)
    assert np.abs(wanted).max() > 1e-3
    for name, method in METHODS.items():
        if name not in ("exact", "random"):
            np.testing.assert_allclose(method.scores(about), wanted, rtol=1e-4, atol=1e-6, err_msg=name)
