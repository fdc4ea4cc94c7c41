"""What discovery refuses: sums that do not add up, options without effect, prompts that mean nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import circuitry as ct
from circuitry.cli import app
from circuitry.discovery.circuit import EdgeCircuit
from circuitry.discovery.gradient import Gradients
from circuitry.discovery.methods import METHODS
from circuitry.discovery.rows import Point
from circuitry.discovery.schemes import OfInput
from circuitry.errors import CircuitryError, TaskError
from circuitry.prompting.task import Task
from support import asking

TASK = ct.task("induction", distance=4, examples=8)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("transformer.h.0.attn.c_proj", r"attn\[0\] is not the sum of what its heads add"),
        ("transformer.h.0", r"resid\[1\] is not resid_mid\[0\] plus what its blocks add"),
    ],
)
def test_a_stream_that_does_not_add_up_has_no_edges(part: str, message: str) -> None:
    question = asking.about(asking.small("gpt2"))
    module = question.model.hf.get_submodule(part)
    handle = module.register_forward_hook(lambda _, __, out: (out[0] ** 3, *out[1:]) if isinstance(out, tuple) else out**3)
    try:
        passed = Gradients(question.model, question.wiring, question.prompts, question.metric, OfInput((Point(0.0, 1.0),)))
        with pytest.raises(CircuitryError, match=message):
            passed.linear()
    finally:
        handle.remove()


def test_a_circuit_of_edges_takes_no_option_that_would_do_nothing() -> None:
    circuit = EdgeCircuit("t", ("END",), (), (), "logit", (("mlp[0] -> logits", "END"),))
    with pytest.raises(CircuitryError, match=r"intervention= does not apply to a circuit of edges"):
        ct.score(ct.load("bundled:gpt_neox"), TASK, circuit, intervention="zero")


def test_prompts_that_mean_nothing_are_refused_unless_lint_is_off() -> None:
    definition = TASK.definition

    def without_an_answer(*args: Any, **options: Any) -> Any:
        prompts = definition.make(*args, **options)
        answer = prompts.answer.copy()
        answer[0] = prompts.foil[0]
        return replace(prompts, answer=answer)

    broken: Task = replace(TASK, definition=replace(definition, make=without_an_answer))
    model = ct.load("bundled:mamba")
    with pytest.raises(TaskError, match="example 0: the answer is not in the prompt"):
        ct.discover(model, broken, verify=0)
    assert np.isfinite(ct.discover(model, broken, method="eap", verify=0, lint=False).mean).all()


def test_every_method_is_named_where_users_look() -> None:
    page = (Path(__file__).parents[2] / "docs" / "discovery.md").read_text(encoding="utf-8")
    said = CliRunner().invoke(app, ["discover", "--help"], terminal_width=300).output
    listed = (ct.discover.__doc__, said, page)
    assert [name for name in METHODS for text in listed if name not in text] == []
