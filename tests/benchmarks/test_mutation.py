"""The mutation score: of a planted module and its tests one knows which changes they notice."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PLANTED = '''"""A planted module, whose words say 1 + 1."""

LEAST: int = 1


def clamped(x: int, high: int = 9) -> int:
    """At least 0.

    >>> clamped(3)
    3
    """
    if x > 1000000:
        raise ValueError(f"{x} is over {1 + 1}")
    return min(x, high) if x > 0 else 0


def unused(x: int) -> int:
    return x - LEAST
'''
TESTS = """
from planted import clamped


def test_low():
    assert clamped(-1) == 0


def test_high():
    assert clamped(10) == 9 == clamped(9)
"""
EQUIVALENT = """
[[mutant]]
file = "planted.py"
function = "clamped"
text = "return min(x, high) if x > 0 else 0"
change = "x > 0 -> x >= 0"
reason = "either way 0"

[[mutant]]
file = "planted.py"
function = "clamped"
text = "def clamped(x: int, high: int = 9) -> int:"
change = "9 -> 10"
reason = "a mistake of whoever wrote this list"
"""
SURVIVED = {
    ("LEAST: int = 1", "1 -> 2"),
    ("return x - LEAST", "x - LEAST -> x + LEAST"),
    ("if x > 1000000:", "x > 1000000 -> x >= 1000000"),
    ("if x > 1000000:", "1000000 -> 1000001"),
    ('raise ValueError(f"{x} is over {1 + 1}")', "drop raise ValueError(f'{x} is over {1 + 1}')"),
    ("return min(x, high) if x > 0 else 0", "0 -> 1"),
}


@pytest.fixture
def changes(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("mutation_score.changes")


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    for name, text in (("planted.py", PLANTED), ("test_planted.py", TESTS), ("equivalent.toml", EQUIVALENT)):
        (tmp_path / name).write_text(text)
    return tmp_path


def score(folder: Path, *options: str) -> str:
    known = [
        "--root",
        folder,
        "--modules",
        "planted.py",
        "--tests",
        "test_planted.py",
        "--equivalent",
        folder / "equivalent.toml",
    ]
    command = [sys.executable, BENCHMARKS / "mutation.py", *known, *options]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_survives_is_what_no_test_can_notice(planted: Path) -> None:
    shown = score(planted, "--mutants", "100")
    survived = set(re.findall(r"^survived: planted.py:\d+ \w*: (.*)\n    (.*)$", shown, re.MULTILINE))
    assert survived == SURVIVED
    assert (
        "equivalent: planted.py:14 clamped: return min(x, high) if x > 0 else 0\n    x > 0 -> x >= 0\n    either way 0" in shown
    )
    assert "listed as equivalent, but killed: planted.py:6 clamped" in shown
    table = re.search(r"\| all +\| +(\d+) \| +(\d+) \| +(\d+) \| +(\d+) \|", shown)
    assert table and [int(number) for number in table.groups()] == [12, 5, 1, 6]
    assert "5 of 11 mutants that are not equivalent are killed: 45.5 %" in shown
    assert (planted / "planted.py").read_text() == PLANTED


def test_a_killed_run_goes_on_where_it_was(planted: Path) -> None:
    kept = planted / "run.jsonl"
    options = ("--mutants", "6", "--resume", str(kept))
    whole, lines = score(planted, *options), kept.read_text().splitlines()
    changed = {**json.loads(lines[0]), "killed": not json.loads(lines[0])["killed"]}
    kept.write_text(f"{json.dumps(changed)}\n{lines[1]}\n")
    assert score(planted, *options) != whole  # what is there is not run again
    assert [json.loads(line)["mutant"] for line in kept.read_text().splitlines()] == [
        json.loads(line)["mutant"] for line in lines
    ]


def test_tests_must_pass_without_a_mutant(planted: Path) -> None:
    (planted / "test_planted.py").write_text(TESTS.replace("== 0", "== 1"))
    with pytest.raises(AssertionError, match=r"tests must pass without a mutant; test_planted.py does not"):
        score(planted)


def test_the_seed_says_which_mutants(planted: Path) -> None:
    one, again, other = (score(planted, "--list", "--mutants", "6", "--seed", seed) for seed in "001")
    assert one == again != other
    assert one.count("\n") == other.count("\n") == 12


def test_one_line_alone_shows_what_its_tests_print(planted: Path) -> None:
    shown = score(planted, "--only", "planted.py:18")
    assert "x - LEAST -> x + LEAST" in shown and "1000000" not in shown and "passed" in shown


def test_what_does_not_end_is_killed() -> None:
    code = (
        "import signal; from mutation_score.forks import forked\n"
        "def hang(_):\n    signal.signal(signal.SIGPROF, signal.SIG_DFL); signal.setitimer(signal.ITIMER_PROF, .1)\n    while True: pass\n"
        "print(list(forked([7], hang, 1)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=BENCHMARKS, check=True)
    assert done.stdout == "[(7, None, 'time')]\n"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x: int | None = y", []),
        ("def f(x: int | None) -> int | str: 'a 1'", []),
        ("@cache(maxsize=1)\ndef f(): pass", []),
        ("def __repr__(self): return self.x + 1", []),
        ("raise E('a' + b, 1)", ["drop raise E('a' + b, 1)"]),
        ("z = zip(a, b, strict=True)", []),
        ("with net.trace(1) as t:\n    x = 1", []),
        ("a.b = not c", ["drop a.b = not c", "not c -> c"]),
        ("x = x & y", ["drop x = x & y", "x & y -> x | y"]),
        ("Kind = int | None", []),
        ("def f(): return a & b", ["a & b -> a | b"]),
        ("for x in y: continue", ["drop continue", "continue -> break"]),
        ("x = np.repeat(y, z)", ["np.repeat(y, z) -> np.tile(y, z)"]),
        ("x = y.movedim(a, b)", ["y.movedim(a, b) -> y.movedim(b, a)"]),
        ("x = f(y, a=z)", ["drop a=z of f"]),
        ("x = y[a:b]", ["y[a:b] -> y[:b]", "y[a:b] -> y[a:]"]),
        ("x = a if b else c", ["if b -> if not b"]),
        ("x = a <= b or c", ["a <= b or c -> a <= b and c", "a <= b -> a < b", "a <= b -> a > b"]),
        ("x = 0, 0", ["0 -> 1", "0 -> 1 #2"]),
        ("x = True", ["True -> False"]),
    ],
)
def test_what_is_changed(changes: Any, source: str, expected: list[str]) -> None:
    assert [mutant.change for mutant in changes.mutants_of("m.py", source)[1]] == expected


def test_a_mutant_keeps_its_key_when_lines_move(changes: Any) -> None:
    before, after = (changes.mutants_of("m.py", text)[1] for text in ("x = 1", "# why\n\nx = 1"))
    assert [mutant.key for mutant in before] == [mutant.key for mutant in after]
    assert before[0].line != after[0].line


def test_every_mutant_that_is_listed_as_equivalent_is_one_of_the_code(changes: Any) -> None:
    """A line that was rewritten since would be listed in vain."""
    listed = importlib.import_module("mutation_score.report").reasons_in(BENCHMARKS / "mutation_score" / "equivalent.toml")
    files = {file for file, *_ in listed}
    keys = {mutant.key for file in files for mutant in changes.mutants_of(file, (BENCHMARKS.parent / file).read_text())[1]}
    assert len(listed) > 5 and set(listed) - keys == set()
