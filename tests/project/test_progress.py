"""Progress bars: they count what ``explain`` counts, move while a batch runs, and leave nothing behind, wherever they are shown."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import circuitry as ct
from circuitry import progress
from circuitry.executing.moving import moving
from circuitry.executing.open import EXECUTORS
from support.notebooks import ROOT

PATH = "head[{layer},{head}] @ END -> logits freezing head"


class Terminal(io.StringIO):
    """What a terminal shows of one line: a carriage return goes back to its beginning."""

    def isatty(self) -> bool:
        return True

    def __enter__(self) -> Terminal:
        # Not in a fixture: pytest puts its own stream in place after it.
        self.redirected = contextlib.redirect_stderr(self)
        self.redirected.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.redirected.__exit__(*error)

    def line(self) -> str:
        shown: list[str] = []
        for part in self.getvalue().split("\n")[-1].split("\r"):
            shown[: len(part)] = part
        return "".join(shown).rstrip()


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Every step of a bar that was asked for: how far, and of how much."""
    steps, update = list[tuple[int, int]](), progress._Bar.update

    def recorded(self: Any, n: float = 1) -> bool | None:
        steps.append((int(n), int(self.total)))
        return update(self, n)

    monkeypatch.setattr(progress._Bar, "update", recorded)
    yield steps


@pytest.mark.parametrize("name", sorted(EXECUTORS))
@pytest.mark.parametrize("baseline", [0, 5])
def test_the_bar_counts_the_patches_that_explain_counts(name: str, baseline: int, moves: list[tuple[int, int]]) -> None:
    model, task = ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=3)
    how: dict[str, Any] = {"axes": {"layer": [1]}, "baseline": baseline}
    said = re.search(
        r"patches +([\d,]+): (\d+) cells?(?: and (\d+) random)?", ct.explain(model, task, PATH, executor=name, **how)
    )
    assert said is not None
    table = ct.patch(model, task, PATH, executor=ct.executor(name, progress=True), lint=False, **how)
    random = 0 if table.random is None else table.random["draw"].nunique()
    assert (int(said[2]), int(said[3] or 0)) == (len(table.mean()), random)
    assert random == baseline, "the draws of this path are all possible"
    every = int(said[1].replace(",", ""))
    patched = {f"head[{layer},{head}] @ END" for layer, head in table.mean().index}
    if table.random is not None:
        patched |= {*table.random["node"]}
        assert len(patched) < len(table.mean()) + random, "some of these random nodes are cells, which run once"
    assert every == len(patched) * len(task.prompts(model.vocabulary))
    assert {total for _, total in moves} == {every} == {sum(step for step, _ in moves)}


@pytest.mark.parametrize("name", ["suffix", "rows"])
@pytest.mark.parametrize("family", ["gpt_neox", "mamba"])
def test_the_bar_moves_while_a_batch_runs(name: str, family: str, moves: list[tuple[int, int]]) -> None:
    model, task = ct.load(f"bundled:{family}"), ct.task("induction", distance=8, examples=4)
    path = PATH if family == "gpt_neox" else "ssm_state[{layer}] @ B+3 -> logits freezing ssm_state"
    assert "4 examples: 1 batch;" in ct.explain(model, task, path, executor=name)
    ct.patch(model, task, path, executor=ct.executor(name, progress=True), lint=False)
    assert len(moves) == model.graph.sizes["layer"], "a step for each layer of the only batch"


def test_layers_move_the_bar_by_what_they_compute() -> None:
    model, steps = ct.load("bundled:mamba"), list[int]()

    class Bar:
        disable = False

        def update(self, n: int) -> None:
            steps.append(n)

    with moving(model, Bar(), 100, [5, 0, 3, 2]):  # type: ignore[arg-type]
        model.hf(torch.zeros(1, 2, dtype=torch.int64))
        assert steps == [50, 30, 20]
    with moving(model, Bar(), 7, [0, 0, 0, 0]):  # type: ignore[arg-type]
        pass
    assert steps[3:] == [7]
    assert not any(layer._forward_hooks for layer in model.hf.backbone.layers)


def test_no_bar_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    ct.patch(model, task, "h[2] @ B+1 -> logits", lint=False)
    ct.discover(model, ct.task("induction", distance=4, examples=4), method="eap", verify=2)
    assert capfd.readouterr().err == ""


def test_a_bar_leaves_nothing_in_a_terminal() -> None:
    model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    with Terminal() as terminal:
        ct.patch(model, task, "h[2] @ B+1 -> logits", lint=False)
    assert "h[2] @ B+1 -> logits" in terminal.getvalue() or "ssm_state[2] @ B+1 -> logits" in terminal.getvalue()
    assert terminal.line() == "" and not progress._Bar.visible


@pytest.mark.parametrize("value", ["1", "true"])
def test_the_environment_hides_bars(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQDM_DISABLE", value)
    with Terminal() as terminal:
        for _ in progress.bar(range(3), "hidden"):
            pass
        with progress.slow("hidden too"):
            pass
    assert terminal.getvalue() == ""


def test_at_most_two_bars_are_visible() -> None:
    with Terminal() as terminal:
        for _ in progress.bar(range(2), "outer"):
            for _ in progress.bar(range(2), "inner"):
                for _ in progress.bar(range(2), "third"):
                    assert len(progress._Bar.visible) == 2
    text = terminal.getvalue()
    assert "outer" in text and "inner" in text and "third" not in text
    assert not progress._Bar.visible


def test_an_error_takes_its_bar_along() -> None:
    with Terminal() as terminal, pytest.raises(ZeroDivisionError), progress.bar(total=2, desc="some"):
        raise ZeroDivisionError
    assert terminal.line() == "" and not progress._Bar.visible


IN_KERNEL = """
import circuitry as ct, circuitry.progress
circuitry.progress.DELAY = circuitry.progress.STEP = 0  # on a fast machine too, every step is drawn
model = ct.load("bundled:mamba")
result = ct.run("induction", model, distances=[8], distance=8, examples=4)
"""


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All messages of a kernel that runs a suite, as a notebook gets them."""
    target = tmp_path_factory.mktemp("kernel") / "messages.json"
    command: list[str | Path] = [sys.executable, ROOT / "tests/support/watching.py", target]
    subprocess.run(command, input=IN_KERNEL, text=True, check=True, cwd=ROOT, capture_output=True)
    every: list[dict[str, Any]] = json.loads(target.read_text())
    return every


def test_a_notebook_shows_one_bar_for_a_whole_run(messages: list[dict[str, Any]]) -> None:
    shown = [message for message in messages if message["type"] == "display_data"]
    updates = [message for message in messages if message["type"] == "update_display_data"]
    assert len(shown) == 1, "all bars are in one output"
    assert len(updates) > 4
    named = re.findall(r"<progress[^>]*></progress> <code>([^:]+):", "".join(u["data"].get("text/html", "") for u in updates))
    assert len(set(named)) > 2, "which shows the bars of several tables, one after the other"
    assert updates[-1]["data"] == {"text/plain": ""}, "and nothing in the end"


def test_a_notebook_has_no_widget_and_no_warning(messages: list[dict[str, Any]]) -> None:
    assert not any("widget" in kind for message in messages for kind in message.get("data", {}))
    written = "".join(message["text"] for message in messages if message["type"] == "stream")
    assert not [line for line in written.splitlines() if not line.startswith("circuitry: ")]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps take longer than anybody's patience."""

    class Timer:
        daemon = False

        def __init__(self, seconds: float, call: Callable[..., None], given: Any = ()) -> None:
            self.call, self.given = call, given

        def start(self) -> None:
            self.call(*self.given)

        def cancel(self) -> None:
            pass

    monkeypatch.setattr(threading, "Timer", Timer)
    monkeypatch.setattr(progress, "_SAID", set())


@pytest.mark.usefixtures("at_once")
def test_a_slow_step_is_said_once() -> None:
    with Terminal() as terminal:
        for _ in range(3):
            with progress.slow("sorting books"):
                pass
            with progress.slow("never", when=lambda: False):
                pass
            with progress.slow("hidden", show=False):
                pass
    assert terminal.getvalue().split("\r")[-1].strip() == "circuitry: sorting books"
    assert "never" not in terminal.getvalue() and "hidden" not in terminal.getvalue()


@pytest.mark.usefixtures("at_once")
def test_a_first_patch_says_what_takes_long() -> None:
    with Terminal() as terminal:
        model = ct.load("bundled:mamba")
        for _ in range(2):
            ct.patch(model, ct.task("induction", distance=8, examples=2), "h[2] @ B+1 -> logits", lint=False)
    told = re.findall(r"circuitry: (.*)", terminal.getvalue())
    assert [line.partition(" ")[0] for line in told] == ["importing", "loading", "planning"]
    assert "loading bundled:mamba" in terminal.getvalue()


@pytest.mark.usefixtures("at_once")
def test_a_quiet_patch_says_nothing() -> None:
    model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    with Terminal() as terminal:
        run = ct.patch
        before = terminal.getvalue()
        run(model, task, "h[2] @ B+1 -> logits", executor=ct.executor(progress=False), lint=False)
    assert terminal.getvalue() == before


def test_a_library_that_is_being_imported_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large_library.py").write_text("from circuitry.progress import importing\nDURING = importing()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(progress, "LARGE", ("large_library",))
    assert not progress.importing()
    assert importlib.import_module("large_library").DURING
    assert not progress.importing()


def test_numbers_do_not_depend_on_the_bar() -> None:
    model, task = ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=4)
    tables = [ct.patch(model, task, PATH, executor=ct.executor(progress=shown)) for shown in (True, False)]
    assert np.array_equal(tables[0].frame["effect"], tables[1].frame["effect"])
