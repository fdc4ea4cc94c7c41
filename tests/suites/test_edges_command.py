"""The command that finds the edges of a suite's model and task: it has all that decides about the numbers, and nothing else."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

import circuitry as ct
from circuitry.cli import options as read
from circuitry.suites.edges import edges_command
from circuitry.suites.halves import columns
from support import tiny
from support.command import every_command
from support.own_task import OWN
from support.prompt_tables import written


@pytest.fixture(scope="module")
def model() -> ct.Model:
    return ct.load("bundled:gpt_neox")


def parsed(command: str) -> dict[str, Any]:
    """What the parser of the command line makes of a command."""
    first, name, *words = shlex.split(command)
    assert (first, name) == ("circuitry", "discover")
    made: dict[str, Any] = every_command()["discover"].make_context("discover", words).params
    return made


def test_a_file_with_spaces_and_options_comes_back_as_the_same_task(model: ct.Model, tmp_path: Path) -> None:
    name = str(written(tmp_path / "my prompts.csv"))
    task = ct.task(name, begin="no", examples=2, seed=3)
    told = parsed(edges_command(model, name, task, {"metric": "probability", "direction": "denoising", "baseline": 4}))
    assert read.task(told["task"], told["option"], told["examples"], told["seed"]).record == task.record
    assert (told["model"], told["metric"], told["direction"]) == ("bundled:gpt_neox", "probability", "denoising")


def test_what_is_usual_is_left_out(model: ct.Model, tmp_path: Path) -> None:
    name = str(written(tmp_path / "p.csv"))
    told = edges_command(model, name, ct.task(name), {"metric": "logit_difference", "direction": "noising"})
    assert told == f"circuitry discover bundled:gpt_neox --task {name}"
    (tmp_path / "mine.py").write_text(OWN)
    mine = str(tmp_path / "mine.py")
    assert edges_command(model, mine, ct.task(mine, gap=5), {}).endswith(f"--task {mine} -o gap=5")


def test_the_model_is_loaded_as_it_was_typed(model: ct.Model) -> None:
    """A result calls a GGUF file by its name alone."""
    typed = "circuitry run ioi --model /far/away/m.gguf --dtype=float64 --revision main --out runs --seed 9"
    told = parsed(edges_command(model, "ioi", ct.task("ioi"), {}, typed))
    assert (told["model"], told["dtype"], told["revision"], told["seed"]) == ("/far/away/m.gguf", "float64", "main", 0)
    alone = parsed(edges_command(ct.load("bundled:mamba", dtype="float64"), "ioi", ct.task("ioi"), {}))
    assert (alone["model"], alone["dtype"]) == ("bundled:mamba", "float64")


def test_a_model_without_a_name_gets_code() -> None:
    told = edges_command(tiny.model("gpt2"), "induction", ct.task("induction", distance=8, examples=4, seed=1), {})
    assert told == "ct.discover(model, ct.task('induction', distance=8, examples=4, seed=1))"
    made = eval(told.removeprefix("ct.discover(model, ").removesuffix(")"), {"ct": ct})
    assert made.record == ct.task("induction", distance=8, examples=4, seed=1).record


def test_code_has_the_options_too() -> None:
    model = ct.load(tiny.stock("gpt2"), dtype="float64")
    code = edges_command(model, "induction", ct.task("induction", distance=8), {"direction": "denoising", "metric": "kl"})
    assert code.endswith("distance=8), metric='kl', direction='denoising')")


def test_a_description_of_what_ran_need_not_be_a_command(model: ct.Model) -> None:
    task = ct.task("induction", distance=8)
    assert edges_command(model, "induction", task, {}, "my notebook's run") == edges_command(model, "induction", task, {})


def test_columns_of_circuits_that_disagree_stay_in_the_order_in_which_they_came() -> None:
    assert columns([("S1", "IO", "END"), ("IO", "S1", "END")]) == ("S1", "IO", "END")
