"""The whole experiment, test-sized, on bundled models: every figure, resumption after a kill, refusals."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import circuitry as ct
from circuitry.cli.universality import app
from circuitry.errors import CircuitryError
from circuitry.features.dashboard.question import Question
from circuitry.features.dashboard.score import Estimate
from circuitry.studies import causal_of, experiment
from circuitry.studies.experiment.plan import dictionaries, sites
from circuitry.universality import Universality
from support.no_pictures import no_pictures

PLACES = ["store", "garden", "river", "school", "market", "tower", "harbour", "forest"]
TEXTS = [
    f"When Mary and John went to the {place}, John gave {number} books to Mary, and the {place} was as quiet as a {other}."
    for number, place in enumerate(PLACES)
    for other in PLACES
]
SMALL: dict[str, Any] = {
    "texts": TEXTS,
    "tokens": 2048,
    "match_tokens": 700,
    "expansion": 2,
    "batch": 256,
    "scored": 20,
    "min_count": 2,
    "progress": False,
}

PAIR: dict[str, Any] = {"models": ["bundled:gpt_neox", "bundled:mamba"], "seed_variant": None, "neurons": False, "tokens": 512}


def run(out: Path, **changes: Any) -> Universality:
    asked: dict[str, Any] = {"seed_variant": "bundled:gpt_neox_s1", **SMALL, **changes}
    models = asked.pop("models", ["bundled:gpt_neox", "bundled:mamba", "bundled:mamba_s1"])
    with contextlib.nullcontext() if asked.pop("drawn", False) else no_pictures():
        return experiment(models, out=out, **asked)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Universality:
    return run(tmp_path_factory.mktemp("runs"), drawn=True)


def test_every_comparison_and_figure_of_the_paper_is_there(found: Universality) -> None:
    assert set(found.comparisons) == {"architecture", "model seed", "SAE seed", "neurons", "architecture: bundled:mamba_s1"}
    folder = Path(found.record["folder"])
    figures = {file.name for file in (folder / "figures").iterdir()}
    assert figures == {f"figure{n}{end}" for n in (3, 5, 8, 9, 10, 11) for end in (".png", ".svg")}
    assert {"universality.html", "matched", "tables"} <= {file.name for file in folder.iterdir()}
    assert (folder / "matched" / "features.html").exists()
    means = found.frame.set_index(["comparison", "direction"])["mean"]
    assert means.between(0, 1).all()
    assert means["SAE seed", "forward"] > means["neurons", "forward"]  # the same activations, so these agree even so early
    assert len(found.saes) == 4 * 5 and len(found.scores) == 20
    trainings = [json.loads(file.read_text()) for file in folder.glob("saes/*/training.json")]
    assert len(trainings) == 5 and all(training["identity"]["recipe"]["clip"] is None for training in trainings), (
        "the paper's recipe"
    )
    assert "Small models" in found.text() and "no scorer read the text" in found.text()


def test_effects_of_matched_features_are_compared_with_both_skylines(found: Universality) -> None:
    models = [ct.load(f"bundled:{name}") for name in ("gpt_neox", "mamba", "mamba_s1")]
    task, variant = ct.task("induction", distance=8, examples=6), ct.load("bundled:gpt_neox_s1")
    with no_pictures():
        effects = causal_of(found.record["folder"], models, task, seed_variant=variant, top=2)
    assert set(effects.comparisons) == {"architecture", "random pairs", "model seed", "SAE seed"}
    assert [pair.b for pair in effects.comparisons.values()] == ["bundled:mamba"] * 2 + [
        "bundled:gpt_neox_s1",
        "bundled:gpt_neox",
    ]
    first = {tuple(row) for row in effects.main.pairs[["node_a", "feature_a"]].itertuples(index=False)}
    for pair in effects.comparisons.values():
        assert {tuple(row) for row in pair.pairs[["node_a", "feature_a"]].itertuples(index=False)} <= first
    assert Path(effects.record["folder"]).parent == Path(found.record["folder"])


def test_a_complete_run_is_read_back(found: Universality) -> None:
    folder = Path(found.record["folder"])
    said: list[str] = []
    again = run(folder.parent, say=said.append)
    assert "is complete" in said[0] and again.text() == found.text()
    pd.testing.assert_frame_equal(again.frame, found.frame)


def test_other_text_of_the_same_size_is_another_run(tmp_path: Path) -> None:
    folders = {run_folder(tmp_path, texts) for texts in (TEXTS, TEXTS, [text.upper() for text in TEXTS])}
    assert len(folders) == 2


def run_folder(out: Path, texts: list[str], **changes: Any) -> str:
    """The folder of a run that is stopped before it trains anything."""
    said: list[str] = []

    def stop(what: str) -> None:
        said.append(what)
        raise KeyboardInterrupt

    before = set(out.iterdir())
    with pytest.raises(KeyboardInterrupt):
        run(out, **PAIR, texts=texts, say=stop, **changes)
    new = set(out.iterdir()) - before
    return (new.pop() if new else max(before, key=lambda path: (path / "match.corpus.safetensors").stat().st_mtime_ns)).name


CODE = """
import sys
from test_universality_run import PAIR, run
from pathlib import Path
run(Path(sys.argv[1]), **PAIR, say=lambda what: print(what, flush=True))
"""


def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    kept = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([here, *map(str, list(Path(here).parents)[:2]), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-c", CODE, str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=kept) as started:
        assert started.stdout is not None
        for line in started.stdout:
            if line.startswith("features of bundled:mamba,"):
                break
        started.send_signal(signal.SIGKILL)
    trained = sorted((tmp_path / "killed").rglob("sae_weights.safetensors"))
    assert trained
    stamps = [file.stat().st_mtime_ns for file in trained]
    killed = run(tmp_path / "killed", **PAIR)
    assert [file.stat().st_mtime_ns for file in trained] == stamps  # nothing was trained twice
    whole = run(tmp_path / "whole", **PAIR)
    pd.testing.assert_frame_equal(killed.frame, whole.frame)
    assert killed.differences() is None


class Paid:
    """A scorer other than the proxy, which counts what it is asked."""

    name, key, proxy, asked = "paid", "paid at 3", False, 0

    def score(self, question: Question) -> int:
        self.asked += 1
        return 3


class Declined(Exception):
    """What somebody says who does not want to pay."""


def test_a_judge_is_asked_only_when_its_price_is_agreed_to_and_nothing_before_is_lost(tmp_path: Path) -> None:
    scorer, told = Paid(), list[Estimate]()

    def decline(estimate: Estimate) -> None:
        told.append(estimate)
        raise Declined

    with pytest.raises(Declined):
        run(tmp_path, **PAIR, scorer=scorer, price=(10.0, 10.0), agree=decline)
    assert scorer.asked == 0 and told[0].cost and told[0].questions == 40
    said = list[str]()
    found = run(tmp_path, **PAIR, scorer=scorer, say=said.append)
    assert scorer.asked == 40 and (found.scores["scorer"] == "paid").all()
    assert any("40 questions to paid" in line for line in said)
    assert [file.name for file in tmp_path.iterdir()] == ["universality-gpt_neox-mamba"]
    scorer.key = "paid at 4"
    assert run_folder(tmp_path, TEXTS, scorer=scorer).endswith("-2"), "a scorer with other settings is another run"


def test_the_stream_before_the_first_block_is_no_site() -> None:
    assert [str(node) for node in sites(ct.load("bundled:gpt_neox"), "resid")] == [f"resid[{k}]" for k in (1, 2, 3, 4)]
    assert len(sites(ct.load("bundled:gpt_neox"), "mlp")) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed_variant": "bundled:gpt_neox"}, "have the same weights"),
        ({"tokenz": 5}, "no setting 'tokenz'; did you mean 'tokens'"),
        ({"post_silu": "both"}, "expected post_silu to be scan or gate, got 'both'"),
        ({"post_silu": "gate", "neurons": False}, "post_silu='gate' has no effect: neurons are not matched"),
        ({"texts": ["short"]}, "no document of 20 characters"),
    ],
)
def test_mistakes_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(CircuitryError, match=message):
        run(tmp_path, **changes)


def test_one_model_and_other_tokenizers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CircuitryError, match="expected at least two models to compare, got 1"):
        experiment(["bundled:mamba"], out=tmp_path)
    with pytest.raises(CircuitryError, match="compiled:mamba has another tokenizer than bundled:gpt_neox, or none"):
        experiment(["bundled:gpt_neox", "compiled:mamba"], out=tmp_path, **SMALL)
    assert dictionaries([ct.load("bundled:gpt_neox"), ct.load("bundled:mamba")], None, 3)["SAE seed"].seed == 4


def test_the_command_takes_a_scorer_and_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def stand_in(models: Any, **options: Any) -> Any:
        asked.update(options)
        raise CircuitryError("seen")

    monkeypatch.setattr(importlib.import_module("circuitry.studies.experiment.run"), "experiment", stand_in)

    def invoke(*words: str) -> str:
        asked.clear()
        return str(CliRunner().invoke(app, ["universality", *words]).exception)

    assert invoke("--scorer", "local:bundled:mamba", "--price", "1,2", "--post-silu", "gate") == "seen"
    assert asked["scorer"].name == "bundled:mamba" and asked["price"] == (1.0, 2.0) and callable(asked["agree"])
    assert asked["post_silu"] == "gate"
    assert invoke() == "seen" and asked["scorer"] is None and "agree" not in asked and "post_silu" not in asked
    assert "--url has no effect: no endpoint is asked" in invoke("--url", "http://127.0.0.1:9/v1", "--scorer", "proxy")
    assert "expected a scorer" in invoke("--scorer", "nobody")
