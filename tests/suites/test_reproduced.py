"""What a report gives as the command, or the code, that makes its run does make it: the same tables, byte for byte."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import circuitry as ct
from circuitry.discovery import page as discovery_page
from circuitry.patching.code import call
from circuitry.planning.metrics import METRICS
from circuitry.reports import write_report
from support.command import circuitry
from support.no_pictures import no_pictures

SUITE = """
import circuitry as ct

SUITE = ct.Suite(name="mine", description="heads", task="induction", options={"distance": 4},
                 tables=[ct.TableSpec("heads", "Heads", "head[{layer},{head}] @ END -> logits freezing head")])
"""
MODEL = "compiled:transformer"


@pytest.fixture(autouse=True)
def undrawn() -> Iterator[None]:
    with no_pictures():
        yield


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my suites"  # a space, which a command must quote
    folder.mkdir()
    (folder / "mine.py").write_text(SUITE)
    return folder / "mine.py"


def shown(folder: Path) -> str:
    (text,) = re.findall(r'id="command">(.*?)</(?:code|pre)>', (folder / "report.html").read_text(encoding="utf-8"), re.DOTALL)
    return html.unescape(text)


def tables(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "tables").iterdir())}


def again(folder: Path) -> dict[str, bytes]:
    """The tables of a run that what its report shows makes, after the first one is out of the way."""
    code = shown(folder)
    folder.rename(folder.with_name("first"))
    if code.startswith("circuitry "):
        circuitry(*shlex.split(code)[1:])
    else:
        exec(compile(code, "shown", "exec"), {})
    return tables(folder)


def test_a_command_is_shown_as_a_shell_reads_it(mine: Path) -> None:
    circuitry("run", str(mine), "--model", MODEL, "--examples", "3", "--seed", "2", "-o", "baseline=0", "--out", "the runs")
    folder = next(Path("the runs").iterdir())
    assert "'the runs'" in shown(folder)
    first = tables(folder)
    assert first and again(folder) == first


def test_a_run_from_python_shows_its_code(mine: Path) -> None:
    result = ct.run(mine, ct.load(MODEL), out="runs", examples=3, seed=2, baseline=0, intervention="zero", distance=6)
    folder = Path(result.record["folder"])
    assert "ct.run(" in shown(folder) and 'intervention="zero"' in shown(folder)
    first = tables(folder)
    assert again(folder) == first


def test_a_discovery_from_python_shows_its_code(tmp_path: Path) -> None:
    task = ct.task("induction", distance=4, examples=8)
    out = tmp_path / "found"
    ct.discover(ct.load(MODEL), task, out=out, verify=2, method="eap", level="node")
    assert 'level="node"' in shown(out) and 'method="eap"' in shown(out)
    first = tables(out)
    assert again(out)["discovery.json"] == first["discovery.json"]
    assert discovery_page.is_discovery(out)


def test_a_page_that_is_written_again_shows_the_same(mine: Path) -> None:
    folder = Path(ct.run(mine, ct.load(MODEL), out="runs", examples=2, baseline=0).record["folder"])
    before = shown(folder)
    write_report(folder)
    assert shown(folder) == before and json.loads((folder / "run.json").read_text())["python"] == before


def test_what_has_no_text_is_named_as_the_users_own() -> None:
    code = call("run", ct.load(MODEL), "induction", {"metric": METRICS["logit"], "distances": [8], "examples": 4})
    assert "# metric: a Metric, as your code defines it" in code and "metric=metric, distances=[8], examples=4" in code
