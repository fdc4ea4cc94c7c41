"""What cannot be written is refused by every command before it does anything: one line and exit code 2."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from circuitry.cli.examples import EXAMPLES
from circuitry.errors import FileError
from circuitry.store.files import check_folder, check_writable
from support.command import called, every_command

COMMANDS = every_command()
WRITE = [
    name
    for name, command in COMMANDS.items()
    if any(one.name in ("out", "target") and one.name != "nodes" for one in command.params)
]
FILES = ("patch", "sensitivity", "offsets", "graph", "sae latents", "sae evaluate", "claims")
"""Commands whose --out is a file; that of the others is a folder."""


def example(name: str, out: str) -> list[str]:
    """The example of a command with another place for its results."""
    words = shlex.split(EXAMPLES[name].lines[-1])[1:]
    if name == "convert":
        return [*words[:-1], out]
    if "--out" in words:
        words[words.index("--out") + 1] = out
        return words
    return [*words, "--out", out]


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder with a file in the way; whatever loads a model fails the test."""

    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("circuitry.models.loading.load", load)
    Path("taken").write_text("in the way")


def test_these_commands_write() -> None:
    """So that none is left out below: what writes nothing, or only into the folder that it reads."""
    assert set(COMMANDS) - set(WRITE) == {"report", "models", "doctor", "explain", "view", "check"}


@pytest.mark.parametrize("name", WRITE)
def test_a_file_in_the_way(name: str) -> None:
    file = (
        "/results" + ("." + EXAMPLES[name].lines[-1].rpartition(".")[2] if name in FILES[:4] else ".csv") if name in FILES else ""
    )
    code, out, err = called(*example(name, f"taken{file}"))
    assert (code, out) == (2, "") and err.count("\n") == 1, out + err
    assert err.startswith(f"taken{file} cannot be written: ") and "taken is a file, not a folder" in err
    assert [path.name for path in Path().iterdir()] == ["taken"], "nothing is left of the attempt"


@pytest.mark.parametrize("name", FILES)
def test_a_folder_where_a_file_belongs(name: str) -> None:
    Path("folder.csv").mkdir()
    code, _, err = called(*example(name, "folder.csv"))
    assert code == 2 and err.startswith("folder.csv cannot be written: it is a folder")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="/proc is a place where nobody can write, on Linux only")
@pytest.mark.parametrize("name", WRITE)
def test_a_folder_that_cannot_be_made(name: str) -> None:
    code, _, err = called(*example(name, "/proc/none/results.csv"))
    assert code == 2 and err.startswith("/proc/none/results.csv cannot be written: ") and err.count("\n") == 1


@pytest.mark.parametrize("words", [("discover", "bundled:mamba"), ("demo",), ("run", "induction")])
def test_a_default_folder_is_checked_too(words: tuple[str, ...]) -> None:
    Path("runs").write_text("in the way")
    code, _, err = called(*words)
    assert code == 2 and err.startswith("runs cannot be written: runs is a file, not a folder")


def test_a_check_makes_no_folder(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    check_writable(tmp_path / "a" / "b.csv")
    assert not (tmp_path / "a").exists()


def test_a_link_to_nothing_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "none")
    with pytest.raises(FileError, match="link is a file, not a folder"):
        check_folder(tmp_path / "link" / "below")


@pytest.mark.parametrize("words", [("run", "inductoin"), ("circuits", "inductoin", "bundled:mamba", "bundled:gpt_neox")])
def test_a_misspelt_suite_is_refused_before_a_model_is_loaded(words: tuple[str, ...]) -> None:
    code, out, err = called(*words)
    assert (code, out) == (2, "") and err.startswith("no suite 'inductoin'; did you mean 'induction'?")


@pytest.mark.parametrize(
    ("option", "message"),
    [("distanze=8", "suite 'induction' has no option 'distanze'"), ("distance=3", None), ("distances=x", "expected int")],
)
def test_so_is_an_option_that_the_suite_does_not_have(option: str, message: str | None) -> None:
    """A value that only the task can judge is refused when the prompts are made, which takes a model."""
    if message is None:
        with pytest.raises(AssertionError, match="a model was loaded"):
            called("run", "induction", "-o", option)
        return
    code, _, err = called("run", "induction", "-o", option)
    assert code == 2 and message in err
