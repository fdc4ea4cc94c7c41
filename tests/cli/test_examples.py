"""The example that the help of every command begins with: it is there, the command takes it, and the files that it reads are made."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from circuitry.cli.examples import EXAMPLES, Example, example_of
from support.checkpoints import written
from support.command import called, circuitry, every_command

MADE = ("runs", "features", "saes", "saes-mamba", "matches", "corpus.safetensors", "mamba-130m")
"""What an example may read, by the first folder of its path."""


COMMANDS = every_command()


def words(line: str) -> list[str]:
    """The words after ``circuitry``."""
    first, *rest = shlex.split(line)
    assert first == "circuitry", line
    return rest


def chain(name: str) -> list[str]:
    """All lines up to an example's own: those of the examples before it, and its own."""
    example = EXAMPLES[name]
    return [*(chain(example.after) if example.after else []), *example.lines]


def test_every_command_has_an_example_of_itself() -> None:
    assert set(EXAMPLES) == set(COMMANDS)
    assert all(words(example.lines[-1])[: len(name.split())] == name.split() for name, example in EXAMPLES.items())


@pytest.mark.parametrize("name", ["", "sae", "benchmark", *EXAMPLES])
def test_help_begins_with_the_example_on_whole_lines(name: str) -> None:
    example = example_of(name)
    assert example is not None and circuitry(*name.split(), "--help").startswith(example.text() + "\n")


@pytest.mark.parametrize(
    "line", [line for example in EXAMPLES.values() for line in example.lines if line.startswith("circuitry ")]
)
def test_the_command_takes_its_example(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the parser that the command line uses, which refuses unknown options and words that are too many or of another type."""
    monkeypatch.chdir(tmp_path)
    name = next(name for name in sorted(COMMANDS, key=len, reverse=True) if f"{line} ".startswith(f"circuitry {name} "))
    COMMANDS[name].make_context(name, words(line)[len(name.split()) :])


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_an_example_reads_is_made_by_those_before_it(name: str) -> None:
    made: set[str] = set()
    for line in chain(name):
        given = shlex.split(line)
        outs = {given[at + 1] for at, word in enumerate(given[:-1]) if word in ("--out", "--local-dir")}
        if "encode" in given or given[1] == "convert":
            outs |= {"corpus.safetensors", given[-1]}
        for word in given[2:]:  # after the command's name, which may be a folder's too
            if word.split("/")[0] in MADE and word not in outs:
                assert any(word == out or word.startswith(f"{out}/") for out in made), f"{line} reads {word}, which nothing made"
        made |= outs


def test_an_example_after_another_says_so() -> None:
    shown = Example(("circuitry report runs/mine",), after="run").text()
    assert shown == "Example, after that of 'circuitry run':\n  circuitry report runs/mine"


@pytest.mark.parametrize("name", ["models", "graph", "explain"])
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that take seconds; what the others do is tested with fewer prompts elsewhere."""
    monkeypatch.chdir(tmp_path)
    for line in chain(name):
        circuitry(*words(line))


def test_the_example_of_convert_runs_on_what_its_download_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written("mamba", tmp_path / "mamba-130m", ".bin")
    code, out, err = called(*words(EXAMPLES["convert"].lines[-1]))
    assert code == 0 and Path("mamba-130m-safe/model.safetensors").is_file(), out + err
