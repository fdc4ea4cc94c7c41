"""The command line, in this process where it can be and in a fresh one where imports matter."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import circuitry as ct
from circuitry import cli
from circuitry.cli import options as read
from support.command import called, circuitry
from support.no_pictures import no_pictures

COMMANDS = (
    "doctor",
    "run", "demo", "report", "compare", "view", "discover", "patch", "explain", "sensitivity", "offsets", "check", "claims", "circuits", "universality", "replicate", "mppc",
    "features", "activations", "graph", "models", "convert", "benchmark", "sae",
)  # fmt: skip
STATES = "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state"
SHORT = ("-o", "distance=8", "--examples", "4")
MINE = """
import circuitry as ct

SUITE = ct.Suite("mine", "states", "induction", options={"distance": 8}, settings={"at": ("B+1", "B+2")}, tables=[
    ct.TableSpec("states", "States of every layer", lambda study: "h[{layer}] @ " + study.settings["at"][0] + " -> logits freezing h"),
])
"""


def written(out: str, word: str = "written") -> Path:
    """The file that a command says it wrote."""
    return Path(re.findall(rf"^{word}: (.*)$", out, re.M)[-1])


# --- help ------------------------------------------------------------------------------------------------------------------


def test_help_imports_no_torch() -> None:
    code = "import sys; sys.argv = ['circuitry', '--help']\nfrom circuitry import cli\ntry: cli.main()\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
    assert all(re.search(rf"\b{command}\b", done.stdout) for command in COMMANDS)


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "circuitry", "graph", "--help"], capture_output=True, text=True, check=True)
    assert "graph [OPTIONS]" in done.stdout


def test_graph_lists_every_architecture_that_has_a_file() -> None:
    said = re.sub(r"[\s│]+", " ", circuitry("graph", "--help"))
    assert ", ".join(ct.content.names("graphs")) in said and "falcon_mamba" in said


def test_these_are_all_commands() -> None:
    assert set(vars(typer.main.get_command(cli.app))["commands"]) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command: str) -> None:
    out = circuitry(command, "--help")
    assert f"{command} [OPTIONS]" in out and len(out.splitlines()) > 5


# --- suites ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """Runs that several tests look at: their folders, and what the commands printed."""
    out = tmp_path_factory.mktemp("runs")
    found = {}
    for suite, model, options in (
        ("induction", "mamba", ("-o", "distances=8", "-o", "distance=8", "-o", "baseline=0")),
        ("induction", "gpt_neox", ("-o", "distances=8", "-o", "distance=8", "-o", "baseline=0")),
        ("ioi", "gpt_neox", ("-o", "order=ABBA", "-o", "baseline=0")),
    ):
        with no_pictures():
            said = circuitry("run", suite, "--model", f"bundled:{model}", "--out", str(out), *options, "--examples", "4")
        found[f"{suite}-{model}"] = (out / f"{suite}-{model}", said)
    return found


@pytest.mark.parametrize("name", ["induction-mamba", "induction-gpt_neox", "ioi-gpt_neox"])
def test_run_leaves_a_folder_and_names_its_report(name: str, runs: dict[str, tuple[Path, str]]) -> None:
    folder, said = runs[name]
    assert written(said, "report") == (folder / "report.html").resolve()
    assert (folder / "report.html").stat().st_size > 10_000
    record = json.loads((folder / "run.json").read_text())
    assert record["state"] == "complete" and record["settings"]["examples"] == 4
    assert record["command"].startswith(f"circuitry run {name.split('-')[0]} --model bundled:{name.split('-')[1]} --out")
    assert all((folder / "tables" / f"{table}.csv").stat().st_size for table in record["tables"])
    assert "carried by" in said and (folder / "circuit.svg").exists()


def test_options_of_suite_task_and_patch_are_given_alike(runs: dict[str, tuple[Path, str]]) -> None:
    (induction, _), (ioi, _) = runs["induction-mamba"], runs["ioi-gpt_neox"]
    assert json.loads((induction / "run.json").read_text())["settings"]["distances"] == [8]
    assert json.loads((ioi / "run.json").read_text())["settings"]["baseline"] == 0
    assert json.loads((ioi / "run.json").read_text())["task"]["options"]["order"] == "ABBA"


def test_run_prints_every_table_and_cuts_long_ones(runs: dict[str, tuple[Path, str]]) -> None:
    folder, said = runs["ioi-gpt_neox"]
    for name in json.loads((folder / "run.json").read_text())["tables"]:
        assert json.loads((folder / "tables" / f"{name}.json").read_text())["provenance"]["title"] in said
    assert re.search(r"\.\.\. all \d+ lines: tables/scores\.md", said)


def test_the_same_command_runs_once_and_fresh_runs_again(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(MINE)
    words = ("run", str(mine), "--model", "bundled:mamba", "--out", str(tmp_path / "runs"), "--examples", "4")
    for extra, folder in (
        ((), "mine-mamba"),
        ((), "mine-mamba"),
        (("--fresh",), "mine-mamba-2"),
        (("-o", "at=B+3,B+2"), "mine-mamba-3"),
    ):
        out = circuitry(*words, *extra)
        assert "States of every layer" in out and written(out, "report").parent.name == folder
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["mine-mamba", "mine-mamba-2", "mine-mamba-3"]
    assert "@ B+3" in (tmp_path / "runs" / "mine-mamba-3" / "tables" / "states.json").read_text()


def test_a_run_that_is_stopped_says_so_and_leaves_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    mine = tmp_path / "mine.py"
    mine.write_text(MINE)
    monkeypatch.setattr("circuitry.suites.study.patch", stop)
    code, _, err = called("run", str(mine), "--model", "bundled:mamba", "--out", str(tmp_path / "runs"), "--examples", "4")
    assert code == 130 and "Interrupted. Run the same command to resume" in err and "Traceback" not in err
    assert "Missing tables: states." in (tmp_path / "runs" / "mine-mamba" / "report.html").read_text()


def test_report_builds_the_page_again(runs: dict[str, tuple[Path, str]]) -> None:
    page = runs["induction-mamba"][0] / "report.html"
    before = page.read_text()
    page.unlink()
    with no_pictures():
        assert written(circuitry("report", str(page.parent))) == page.resolve()
    assert page.read_text() == before


def test_compare_puts_two_runs_side_by_side(runs: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    first, second = (runs[f"induction-{model}"][0] for model in ("mamba", "gpt_neox"))
    page = written(circuitry("compare", str(first), str(second), "--out", str(tmp_path / "both")))
    assert page.parent == (tmp_path / "both").resolve()
    assert "bundled:mamba" in page.read_text() and "bundled:gpt_neox" in page.read_text()
    beside = written(circuitry("compare", str(first), str(second)))
    assert beside.parent == (first.parent / "induction-mamba-and-induction-gpt_neox").resolve()
    other = written(circuitry("compare", str(second), str(first), "--out", str(tmp_path / "both")))
    assert other.parent.name == "both-2", "another comparison overwrites nothing"


def test_demo_runs_every_suite_on_every_bundled_model_and_compares_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of things only: the suites themselves take minutes and are tested elsewhere."""
    ran, compared = [], []

    def suite(name: str, model: ct.Model, out: Path, command: str, *, examples: int) -> Path:
        ran.append((name, model.name, examples))
        assert command == f"circuitry run {name} --model {model.name} --examples 7 --out {out}", "what makes this run alone"
        return out / f"{name}-{model.name.split(':')[1]}"

    monkeypatch.setattr(cli.suites, "_suite", suite)
    monkeypatch.setattr(cli.suites, "_compare", lambda first, second, out: compared.append((first.name, second.name, out.name)))
    said = circuitry("demo", "--out", str(tmp_path), "--examples", "7")
    assert sorted(ran) == [(s, m, 7) for s in ("induction", "ioi") for m in ("bundled:gpt_neox", "bundled:mamba")]
    assert compared == [(f"{s}-gpt_neox", f"{s}-mamba", f"{s}-gpt_neox-and-{s}-mamba") for s in ("induction", "ioi")]
    assert str(tmp_path.resolve()) in said


def test_a_run_records_the_command_that_makes_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of the demo; of a single run it is what was typed."""
    from circuitry.suites import runner

    recorded = []

    def run(*_: Any, command: str, **__: Any) -> None:
        recorded.append(command)
        raise InterruptedError

    monkeypatch.setattr(runner, "run", run)
    with pytest.raises(InterruptedError):
        cli.suites._suite("induction", ct.load("compiled:mamba"), tmp_path, "circuitry run induction")
    assert recorded == ["circuitry run induction"]


# --- experiments -----------------------------------------------------------------------------------------------------------


def test_patch_prints_the_table_and_writes_it(tmp_path: Path) -> None:
    target = tmp_path / "new" / "table.json"
    out = circuitry("patch", "bundled:mamba", STATES, *SHORT, "--axis", "layer=0,1", "--out", str(target))
    assert STATES in out and written(out) == target.resolve()
    table = ct.PatchingTable.from_json(target)
    assert set(table.frame["layer"]) == {0, 1} and table.frame["example"].nunique() == 4


def test_patch_measures_what_the_library_does(tmp_path: Path) -> None:
    target = tmp_path / "table.json"
    how = ("--metric", "probability", "--direction", "denoising", "--seed", "3", "--baseline", "0")
    circuitry("patch", "bundled:mamba", STATES, *SHORT, *how, "--out", str(target))
    task = ct.task("induction", distance=8, examples=4, seed=3)
    direct = ct.patch(ct.load("bundled:mamba"), task, STATES, metric="probability", direction="denoising", baseline=0)
    found = ct.PatchingTable.from_json(target)
    assert found.unit == direct.unit and found.random is None
    assert np.array_equal(found.frame["effect"], direct.frame["effect"])


def test_patch_is_executed_as_its_flags_say(tmp_path: Path) -> None:
    tables = {}
    for name, how in {
        "rows": ("--executor", "rows", "--memory", "8MiB", "--verify", "1"),
        "reference": ("--executor", "reference"),
    }.items():
        target = tmp_path / f"{name}.json"
        circuitry("patch", "bundled:mamba", STATES, *SHORT, *how, "--baseline", "0", "--out", str(target))
        tables[name] = ct.PatchingTable.from_json(target)
        assert tables[name].provenance["executor"] == name
    assert tables["rows"].provenance["verified"].startswith("1 of 4 cells agree")
    np.testing.assert_allclose(tables["rows"].frame["effect"], tables["reference"].frame["effect"], atol=1e-3)


@pytest.mark.parametrize("suffix", [".csv", ".md", ".tex", ".parquet", ".png", ".svg"])
def test_patch_writes_every_kind_of_file(suffix: str, tmp_path: Path) -> None:
    target = tmp_path / f"table{suffix}"
    circuitry("patch", "bundled:mamba", "h[3] @ B+1 -> logits", *SHORT, "--baseline", "0", "--out", str(target))
    assert target.stat().st_size


def test_explain_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise AssertionError("something was run")

    monkeypatch.setattr("circuitry.executing.suffix.executor.Suffix.run", run)
    out = circuitry("explain", "bundled:gpt_neox", "head[0,1] @ B -> head[1,0].k freezing head -> logits")
    assert "pass 2" in out and "on the clean input: write head[1,0].k from pass 1" in out


def test_explain_takes_what_patch_takes() -> None:
    """All but what writes the table and the picture."""
    command = typer.main.get_command(cli.app)
    patch, explain = ({one.name for one in command.commands[name].params} for name in ("patch", "explain"))  # type: ignore[attr-defined]
    assert patch - explain == {"style", "out"} and explain <= patch


def test_explain_predicts_the_cost_of_what_is_asked() -> None:
    """Each option changes the line of the cost, as it changes what ``patch`` runs."""

    def cost(*more: str) -> str:
        out = circuitry("explain", "bundled:mamba", STATES, *SHORT, *more)
        return next(line.split(None, 1)[1] for line in out.splitlines() if line.split()[0] == "cost")

    plain = cost()
    assert plain.startswith("suffix, 4 examples: 1 batch;")
    assert cost("--executor", "rows").startswith("rows, 4 examples: 1 batch;")
    assert plain != cost("--memory", "2MiB") != cost("--memory", "2MiB", "--dtype", "float64")
    assert cost("--baseline", "0") != plain


def test_sensitivity_prints_every_setting_and_writes_them(tmp_path: Path) -> None:
    target = tmp_path / "new" / "grid.csv"
    out = circuitry(
        "sensitivity", "bundled:mamba", "ssm_state[3] @ B+3 -> logits freezing ssm_state", *SHORT, "--out", str(target)
    )
    rows = target.read_text().splitlines()
    assert re.search(r"holds in \d+ of \d+", out) and written(out) == target.resolve()
    assert len(rows) > 8 and {"resample", "zero", "mean"} <= set(re.split(r"[,\n]", target.read_text()))


@pytest.mark.parametrize("suffix", [".json", ".md", ".png"])
def test_offsets_says_where_the_token_is_taken_up(suffix: str, tmp_path: Path) -> None:
    target = tmp_path / f"offsets{suffix}"
    out = circuitry("offsets", "bundled:mamba", "-o", "distance=8", "--examples", "12", "--reach", "3", "--out", str(target))
    assert "B+2" in out and written(out) == target.resolve() and target.stat().st_size


def test_offsets_of_a_token_of_another_task() -> None:
    out = circuitry(
        "offsets", "bundled:mamba", "--task", "ioi", "-o", "corruption=IO", "--token", "IO", "--examples", "12", "--reach", "3"
    )
    assert "IO+2" in out


# --- what there is ---------------------------------------------------------------------------------------------------------


def test_models_lists_the_bundled_ones() -> None:
    out = circuitry("models")
    assert all(name in out for name in ("bundled:mamba", "bundled:gpt_neox", "qwen3"))


@pytest.mark.parametrize("suffix", [".svg", ".png", ".dot", ".graphml", ".json"])
def test_graph_of_an_architecture(suffix: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / f"graph{suffix}"
    out = circuitry("graph", "mamba", "--out", str(target))
    assert "ssm_state[layer]" in out and target.stat().st_size > 1000


def test_graph_of_a_model_is_written_beside_you(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert written(circuitry("graph", "bundled:gpt_neox")) == tmp_path.resolve() / "gpt_neox-graph.svg"


# --- mistakes --------------------------------------------------------------------------------------------------------------

H0 = ("bundled:mamba", "h[0] -> logits")
RUN = ("run", "induction", "--model", "bundled:mamba", "--examples", "2", "--out", "OUT")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "ioi2", "--out", "OUT"], "no suite 'ioi2'; did you mean 'ioi'"),
        (["run", "./none.py", "--out", "OUT"], "no file "),
        ([*RUN, "-o", "distances=8,x"], "distances=[8, 'x']: expected int, such as (8, 16, 32, 64, 128)"),
        ([*RUN, "-o", "distances=6"], "distance must be at least 7, got 6"),
        ([*RUN, "-o", "distanze=8"], "suite 'induction' has no option 'distanze'; did you mean 'distance"),
        ([*RUN, "-o", "distances"], "expected name=value, got 'distances'"),
        (["run", "ioi", "--model", "bundled:gpt_neox", "--out", "OUT", "-o", "corruption=ABD"], "unknown corruption 'ABD'; known here: ABC"),
        (["report", "OUT"], "OUT does not exist"),
        (["compare", "OUT", "OUT"], "OUT does not exist"),
        (["patch", "bundled:nothing", "mlp[0] -> logits"], "expected a bundled model, got 'bundled:nothing'; known here: bundled:gated_delta, bundled:gpt_neox"),
        (["patch", "bundled:mamba", "mlp[0] -> logits"], "mamba has no node 'mlp'"),
        (["patch", "bundled:mamba", "h[0] logits"], "expected '->'"),
        (["patch", *H0, "--out", "x.doc"], "a table cannot be written as '.doc'; try .csv, .json"),
        (["patch", *H0, "--option", "distance"], "expected name=value, got 'distance'"),
        (["patch", *H0, "--axis", "layer"], "expected name=value, got 'layer'"),
        (["patch", *H0, "-o", "examples=3"], "examples cannot be given with --option; use --examples"),
        (["explain", *H0, "-o", "name=other"], "name cannot be given with --option; use --task"),
        (["patch", *H0, "--task", "induktion"], "no definition 'induktion' in tasks: did you mean 'induction'?"),
        (["patch", *H0, "--metric", "logits"], "no metric 'logits'"),
        (["patch", *H0, "--examples", "0"], "examples must be at least 1, got 0"),
        (["patch", *H0, "--memory", "much"], "much"),
        (["patch", "bundled:mamba", "embed -> gate[1]", "--metric", "kl"], "metric='kl' has no effect: this path ends at gate[1]"),
        (["patch", *H0, "--baseline", "-1"], "baseline must be at least 0, got -1"),
        (["patch", "bundled:mamba", STATES, "--axis", "layer=0,0"], "{layer} has 0 twice; name each value once"),
        ([*RUN, "-o", "distances=8,8"], "distances has 8 twice; name each value once"),
        (["sae", "latents", "bundled:mamba", "resid[1]", "--attach", "nowhere"], "the folder does not exist"),
        (["sae", "train", "bundled:mamba", "resid[1]", "--out", "OUT", "--k", "5"], "k=5 has no effect: kind 'relu'"),
        (["universality", "--examples", "5"], "--examples has no effect: no feature is patched; name a task with --causal"),
        (["explain", "bundled:mamba", "h[0] -> logitz"], "logitz"),
        (["explain", *H0, "--metric", "logits"], "no metric 'logits'"),
        (["sensitivity", *H0, "--out", "x.doc"], "the grid cannot be written as '.doc'; try .png, .svg, .pdf, .csv"),
        (["offsets", "bundled:mamba", "--out", "x.doc"], "the result cannot be written as '.doc'; try .json, .md, .png, .svg, .pdf"),
        (["offsets", "bundled:mamba", "--token", "C"], "C"),
        (["graph", "mamba", "--out", "x.doc"], "a graph cannot be written as '.doc'; try .svg, .png, .pdf, .dot, .graphml, .json"),
    ],
)  # fmt: skip
def test_mistakes_are_one_message(words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = called(*words)
    assert code == 2 and message in err and "Traceback" not in err


def test_a_mistake_in_the_options_leaves_no_folder(tmp_path: Path) -> None:
    code, _, _ = called("run", "induction", "--out", str(tmp_path / "runs"), "-o", "distanze=8")
    assert code == 2 and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [["run"], ["patch", "bundled:mamba"], ["runn"], ["run", "induction", "--exampels", "3"], ["run", "induction", "--examples", "x"]])  # fmt: skip
def test_what_is_no_command_line_is_refused(words: list[str]) -> None:
    code, out, err = called(*words)
    assert code == 2 and "Traceback" not in out + err


def test_values_are_numbers_and_lists_where_they_read_like_it() -> None:
    assert read.values(["a=8", "b=8,16", "c=-1", "d=x,2", "e = ABBA "]) == {
        "a": 8,
        "b": [8, 16],
        "c": -1,
        "d": ["x", 2],
        "e": "ABBA",
    }
    assert read.axes(["layer=1", "position=B,B+1"]) == {"layer": [1], "position": ["B", "B+1"]}


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.app(["--version"])
    assert capsys.readouterr().out.split() == [ct.__version__] == [version("circuitry-lm")]
