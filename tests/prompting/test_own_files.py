"""A mistake in a user's own file is one line with the file and the line, and circuitry's own faults keep their traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import circuitry as ct
from circuitry import content
from circuitry.blame import blamed
from circuitry.errors import CircuitryError, TaskError, several
from circuitry.executing.activations import read
from circuitry.prompting import Example, Prompts, TaskDefinition, stack
from circuitry.prompting.task import task_of
from support.command import called

TASK = """from circuitry.prompting import TaskDefinition


def make(vocabulary, rng, *, examples):
    {body}


TASK = TaskDefinition(name="mine", description="", make=make, positions=("END",), sweep=("END",))
"""
SUITE = """import circuitry as ct


def path(study):
    return study.settings["nothing"]


SUITE = ct.Suite("mine", "mine", "induction", options={"distance": 8}, tables=[ct.TableSpec("one", "One", path)])
"""
H0 = ("patch", "bundled:mamba", "h[0] @ B -> logits", "--task")
RUN = ("run",)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "text", "message"),
    [
        (H0, "import numpy\nTASK = (\n", "mine.py:2: SyntaxError: '(' was never closed (while the file was run)"),
        (H0, "x = 1\n\nTASK = x / 0\n", "mine.py:3: ZeroDivisionError: division by zero (while the file was run)"),
        (H0, "import no_such_module\n", "mine.py:1: ModuleNotFoundError: No module named 'no_such_module' (while the file was run)"),
        (H0, TASK.format(body='return {}["x"]'), "mine.py:5: KeyError: 'x' (while task 'mine' made its prompts)"),
        (H0, TASK.format(body="return int('x')"), "mine.py:5: ValueError: invalid literal for int() with base 10: 'x' (while task 'mine' made its prompts)"),
        (RUN, "SUITE = ct.Suite('a' 'b', 1\n", "mine.py:1: SyntaxError: '(' was never closed (while the file was run)"),
        (RUN, SUITE, "mine.py:5: KeyError: 'nothing' (while suite 'mine' ran)"),
        (RUN, TASK.format(body="raise RuntimeError"), "mine.py:5: RuntimeError (while task 'mine' made its prompts)"),
    ],
)  # fmt: skip
def test_one_line_with_the_place(words: tuple[str, ...], text: str, message: str) -> None:
    Path("mine.py").write_text(text)
    code, _, err = called(*words, "./mine.py")
    assert (code, err) == (2, f"{message}\n")


@pytest.mark.parametrize("words", [H0, RUN])
def test_a_file_in_another_encoding(words: tuple[str, ...]) -> None:
    Path("mine.py").write_bytes("# caf\u00e9\nTASK = 1\n".encode("latin-1"))
    code, _, err = called(*words, "./mine.py")
    assert (code, err) == (2, "mine.py, line 1: byte 0xe9 is not UTF-8; save the file as UTF-8\n")


def test_a_role_that_no_node_plays() -> None:
    Path("mine.py").write_text(SUITE.replace("path)", "'h[0] @ B -> logits', needs='hed')"))
    code, _, err = called("run", "./mine.py")
    assert (code, err) == (2, "table 'one' needs the role 'hed', which no node plays; did you mean 'head'?\n")
    assert not Path("runs").exists()


def test_a_role_of_another_architecture_leaves_the_table_out() -> None:
    spec = ct.TableSpec("one", "One", "head[{layer},{head}] @ END -> logits", needs="head")
    suite = ct.Suite("mine", "mine", "induction", options={"distance": 8}, tables=[spec])
    assert ct.run(suite, ct.load("bundled:mamba"), examples=2).tables == {}


def test_a_role_of_ones_own_architecture_is_known_there() -> None:
    class Graph:
        def by_role(self, role: str) -> list[str]:
            return ["mine"] if role == "antenna" else []

    graph: Any = Graph()
    assert ct.TableSpec("one", "One", "h[0] -> logits", needs="antenna").made_for(graph)
    with pytest.raises(CircuitryError, match="needs the role 'antena', which no node plays"):
        ct.TableSpec("one", "One", "h[0] -> logits", needs="antena").made_for(graph)


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    """Its last frame is ours: ``content.names`` gets something that is not a name."""
    with pytest.raises(TypeError), blamed("while it was tested"):
        content.names(3)  # type: ignore[arg-type]


def test_an_error_of_a_library_that_the_user_called_is_the_users() -> None:
    with (
        pytest.raises(CircuitryError, match=r"test_own_files.py:\d+: ValueError: matmul: .* \(while it was tested\)"),
        blamed("while it was tested"),
    ):
        np.ones((2, 3)) @ np.ones((2, 3))
    with pytest.raises(KeyboardInterrupt), blamed("while it was tested"):
        raise KeyboardInterrupt


def short() -> tuple[ct.Model, ct.Task]:
    return ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)


def test_a_metric_that_takes_other_arguments() -> None:
    model, task = short()

    def confidence(logits: Any, answer: Any) -> Any:
        return logits

    line = confidence.__code__.co_firstlineno
    with pytest.raises(CircuitryError) as error:
        ct.patch(model, task, "h[0] @ B -> logits", metric=confidence)
    expected = "metric 'confidence' must take 3 arguments, (logits, answer, foil); it takes (logits: 'Any', answer: 'Any')"
    assert str(error.value) == f"{__file__}:{line}: {expected}"
    with pytest.raises(
        CircuitryError, match=r"metric 'mine' must take 4 arguments, \(logits, base, answer, foil\); it takes \(a, b\)"
    ):
        ct.Metric("mine", lambda a, b: a)  # type: ignore[misc, arg-type]
    assert ct.Metric("free", lambda *several: several[0]).name == "free"


def test_a_metric_that_raises() -> None:
    model, task = short()
    with pytest.raises(
        CircuitryError, match=r"test_own_files.py:\d+: AttributeError: .*nothing.* \(while metric '<lambda>' was computed\)"
    ):
        ct.patch(model, task, "h[0] @ B -> logits", metric=lambda logits, answer, foil: logits.nothing)


def test_one_word_is_a_word() -> None:
    words = ct.load("bundled:mamba").vocabulary
    assert words.single("Mary") == words.single(["Mary"]) == {"Mary": words.encode(" Mary")[-1]}
    assert words.single("Bartholomew") == words.single(iter(())) == {}


def letters() -> dict[str, Any]:
    """Calls that get text where a list of names belongs, by the name of the argument."""
    from circuitry.benchmarks.measure import discovery
    from circuitry.studies.circuits.compare import circuits
    from circuitry.studies.replication.run import replicate

    model, task = short()
    prompts = task.prompts(model.vocabulary)
    example = Example([7, 8], [9, 8], 1, 2, {"B": 0})

    def definition(**changed: Any) -> Any:
        return TaskDefinition(
            **{
                "name": "t",
                "description": "",
                "make": lambda *_, **__: prompts,
                "positions": ("B", "END"),
                "sweep": ("B",),
                **changed,
            }
        )

    def relabelled() -> Prompts:
        changed: Any = "B"
        return stack([example], changed, model.vocabulary)

    return {
        "positions": lambda: definition(positions="END"),
        "sweep": lambda: definition(sweep="B"),
        "changed": lambda: task_of(definition(make=lambda *_, **__: relabelled()), {}, 1, 0).prompts(model.vocabulary),
        "layout": lambda: ct.graph("jamba", layout="mamba"),
        "layout of table 'a'": lambda: ct.TableSpec("a", "A", "h[{layer}] -> logits", layout="layer"),  # type: ignore[arg-type]
        "models": lambda: circuits("bundled:mamba"),
        "only": lambda: replicate(("a", "b"), only="tables"),
        "methods": lambda: discovery(methods="eap"),
        "nodes": lambda: read(model, "resid[1]", prompts.clean),
        "metrics": lambda: ct.sensitivity(model, task, "h[3] @ B -> logits", metrics="logit"),
        "ablations": lambda: ct.sensitivity(model, task, "h[3] @ B -> logits", ablations="zero"),
    }


@pytest.mark.parametrize("name", ["positions", "sweep", "changed", "layout", "layout of table 'a'", "models", "only", "methods", "nodes", "metrics", "ablations"])  # fmt: skip
def test_text_is_no_list_of_names(name: str) -> None:
    with pytest.raises(CircuitryError, match=rf"^{name}.* must be a list of names, got the text '"):
        letters()[name]()


def test_a_list_of_names_comes_back() -> None:
    assert several("names", names := ["a"]) is names and several("names", ("a",)) == ("a",)


def test_off_by_one_takes_models_and_not_their_names() -> None:
    with pytest.raises(CircuitryError, match=r"expected a loaded model, got 'bundled:mamba'; try ct.load\('bundled:mamba'\)"):
        ct.off_by_one("bundled:mamba", short()[1])  # type: ignore[arg-type]


def test_prompts_in_another_encoding(tmp_path: Path) -> None:
    table = tmp_path / "p.csv"
    table.write_bytes("clean,corrupted,answer,foil\nun caf\u00e9,un th\u00e9, a, b\n".encode("latin-1"))
    with pytest.raises(TaskError, match=r"^p.csv, line 2: byte 0xe9 is not UTF-8; save the file as UTF-8$"):
        ct.task(table)
