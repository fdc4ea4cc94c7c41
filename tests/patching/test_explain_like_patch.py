"""``explain`` takes what ``patch`` takes, with the same defaults, refuses what it refuses, and says what will run."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from typing import Any

import pytest

import circuitry as ct
from circuitry.cli import experiments
from circuitry.patching.experiment import Settings

PATH = "h[{layer}] @ B+1 -> logits"


def parameters(function: Any) -> dict[str, tuple[Any, Any, Any]]:
    """Kind, default and annotation of each parameter."""
    return {name: (p.kind, p.default, p.annotation) for name, p in inspect.signature(function).parameters.items()}


def test_both_have_the_same_parameters() -> None:
    assert parameters(ct.explain) == parameters(ct.patch)


def test_the_settings_are_all_the_options() -> None:
    options = {n: default for n, (kind, default, _) in parameters(ct.patch).items() if kind is inspect.Parameter.KEYWORD_ONLY}
    assert {field.name: field.default for field in fields(Settings)} == options
    assert MISSING not in options.values()


def test_the_commands_have_the_same_options() -> None:
    patch, explain = parameters(experiments.patch), parameters(experiments.explain)
    assert patch.keys() - explain.keys() == {"out", "style"}, "explain has nothing to write"
    assert {name: patch[name] for name in explain} == explain


OPTIONS: dict[str, Any] = {
    "axes": {"layer": [2, 3]},
    "metric": ["logit", "kl"],
    "intervention": "zero",
    "direction": "denoising",
    "baseline": 4,
    "executor": ct.executor("rows", memory="64MiB"),
    "lint": False,
}


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_every_option_is_taken_and_seen(name: str) -> None:
    model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4)
    usual, with_option = ct.explain(model, task, PATH), ct.explain(model, task, PATH, **{name: OPTIONS[name]})
    assert (usual != with_option) == (name not in ("metric", "lint")), "every option that changes what runs is in the text"
    ct.patch(model, task, PATH, **{"lint": False, name: OPTIONS[name]})


@pytest.mark.parametrize(
    "how",
    [
        {"executor": "reference", "intervention": "zero"},
        {"executor": ct.executor(verify=1), "intervention": "zero"},
        {"metric": "kll"},
        {"axes": {"layer": [9]}},
        {"baseline": -1},
        {"executor": "suffx"},
    ],
    ids=str,
)
def test_what_patch_refuses_explain_refuses(how: dict[str, Any]) -> None:
    model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    said = []
    for function in (ct.patch, ct.explain):
        with pytest.raises(ct.CircuitryError) as error:
            function(model, task, PATH, **how)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_explain_says_what_is_verified() -> None:
    model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    how = ct.executor(verify=3)
    assert "verified   3 of 4 cells again with the reference, on 2 examples" in ct.explain(model, task, PATH, executor=how)
    assert ct.patch(model, task, PATH, executor=how, lint=False).provenance["verified"].startswith("3 of 4 cells")
