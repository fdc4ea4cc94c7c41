"""The command line, in this process where it can be and in a fresh one where imports matter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from circuitry import cli


def circuitry(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command prints; it must end well."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["circuitry", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code in (0, None), capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a mistake prints: one message, no traceback, exit code 2."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["circuitry", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 2
    return capsys.readouterr().err


def test_help_imports_no_torch() -> None:
    code = "import sys; sys.argv = ['circuitry', '--help']\nfrom circuitry import cli\ntry: cli.main()\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
    assert all(command in done.stdout for command in ("run", "patch", "explain", "graph", "models", "demo"))


def test_models_lists_the_bundled_ones(capsys: pytest.CaptureFixture[str]) -> None:
    out = circuitry(capsys, "models")
    assert "bundled:mamba" in out and "bundled:gpt_neox" in out and "qwen3" in out


def test_patch_prints_the_table_and_writes_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "table.json"
    path = "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state"
    out = circuitry(
        capsys,
        "patch",
        "bundled:mamba",
        path,
        "--option",
        "distance=8",
        "--examples",
        "4",
        "--axis",
        "layer=0,1",
        "--out",
        str(target),
    )
    assert path in out and "mean change of the answer's logit over 4 examples" in out
    assert set(json.loads(target.read_text())["rows"]["layer"]) == {0, 1}


def test_explain_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    out = circuitry(capsys, "explain", "bundled:gpt_neox", "head[0,1] @ B -> head[1,0].k freezing head -> logits")
    assert "pass 2" in out and "on the clean input: write head[1,0].k from pass 1" in out


@pytest.mark.parametrize("suffix", [".svg", ".png", ".dot", ".graphml", ".json"])
def test_graph_of_an_architecture(capsys: pytest.CaptureFixture[str], tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"graph{suffix}"
    out = circuitry(capsys, "graph", "mamba", "--out", str(target))
    assert "ssm_state[layer]" in out and target.stat().st_size > 1000


def test_run_never_writes_into_an_earlier_runs_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = [
        "run",
        "induction",
        "--model",
        "bundled:gpt_neox",
        "--out",
        str(tmp_path),
        "--distances",
        "8",
        "--distance",
        "8",
        "--examples",
        "2",
    ]
    for _ in range(2):
        assert "tables, heat maps and circuit diagrams" in circuitry(capsys, *words)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["induction-gpt_neox", "induction-gpt_neox-2"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "ioi2"], "no suite 'ioi2'; known here: induction"),
        (["run", "induction", "--distances", "8,x"], "'8,x' is no list of numbers; 8,16,32 would do"),
        (
            ["patch", "bundled:nothing", "mlp[0] -> logits"],
            "no model 'bundled:nothing' ships with circuitry; known here: bundled:gpt_neox, bundled:mamba",
        ),
        (["patch", "bundled:mamba", "mlp[0] -> logits"], "mamba has no node 'mlp'"),
        (["patch", "bundled:mamba", "h[0] -> logits", "--out", "x.doc"], "a table cannot be written as '.doc'"),
        (["patch", "bundled:mamba", "h[0] -> logits", "--option", "distance"], "'distance' is not of the form name=value"),
        (
            ["patch", "bundled:mamba", "h[0] -> logits", "--task", "induktion"],
            "no definition 'induktion' in tasks: did you mean 'induction'?",
        ),
        (["graph", "mamba", "--out", "x.doc"], "a figure cannot be written as '.doc'"),
    ],
)
def test_mistakes_are_one_message(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    err = refused(capsys, *words)
    assert message in err and "Traceback" not in err
