"""The folder of a study of features, by the command and by the function, on activations and matches as the other parts write them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

import circuitry as ct
from circuitry.cli.features import app
from circuitry.cli.options import values
from circuitry.errors import CircuitryError
from circuitry.features.activations.corpus import Corpus
from circuitry.features.activations.corpus import corpus as make_corpus
from circuitry.features.dashboard.contexts import top_contexts
from circuitry.features.dashboard.question import Question
from circuitry.features.dashboard.score import Estimate
from circuitry.features.dashboard.study import study
from circuitry.features.matching.mppc import mppc
from circuitry.features.matching.store import FeatureActs, feature_acts
from support.features_known import Words, activations, matches
from support.features_known import corpus as known

TEXTS = [f"The cat saw {n} dogs, and the {n} dogs saw the cat on the mat of the house." for n in ("two", "three", "some", "no")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a/ and b/ with a layer each, seed/ with another, the corpus, and matches: features that fire on words, and noise."""
    made = tmp_path_factory.mktemp("study")
    text = make_corpus(ct.load("bundled:mamba"), TEXTS * 6, context=64)
    text.save(made / "corpus.safetensors")
    ids, rng = text.ids[text.used], np.random.default_rng(0)
    common = np.unique(ids, return_counts=True)[0][:6]
    for name, node in (("a", "resid[1]"), ("b", "resid[2]"), ("seed", "resid[1]")):
        noise = rng.random((len(ids), 3)) * (rng.random((len(ids), 3)) < 0.2)
        words = (ids[:, None] == common) * (1 + 0.1 * rng.random((len(ids), 6)))
        provenance = {"node": node, "layer": 0, "depth": 0.5, "model": "bundled:mamba"}
        FeatureActs.write(
            made / name / "0", [np.concatenate([words, noise], 1)], features=9, provenance=provenance, corpus=text.digest
        )
    acts = {name: feature_acts(made / name) for name in ("a", "b", "seed")}
    mppc(acts["a"], acts["b"], progress=False, min_count=2).save(made / "matches")
    mppc(acts["a"], acts["seed"], progress=False, min_count=2).save(made / "seeds")
    return made


def run(folder: Path, *words: str | Path) -> Any:
    files = ["--matches", folder / "matches", "--corpus", folder / "corpus.safetensors"]
    return CliRunner().invoke(app, [str(word) for word in (folder / "a", folder / "b", *files, *words)])


def test_the_command_writes_everything(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "--out", tmp_path, "--scorer", "proxy", "--variant", f"model seed={folder / 'seeds'}")
    assert done.exit_code == 0, done.output
    written = {file.name for file in tmp_path.iterdir()}
    assert {"features.html", "scores.csv", "uninterpretable.csv", "figure5.png", "figure5.svg"} <= written
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert len(scores) == 9 and scores["proxy"].all()
    assert scores.set_index("feature").loc[:5, "complexity"].eq(1).all(), "words are simple"
    assert scores.set_index("feature").loc[6:, "complexity"].gt(2).all(), "noise is not"
    assert "no scorer read the text; a proxy computed from activations: 9 features" in done.output
    page = (tmp_path / "features.html").read_text()
    assert "bundled:mamba" in page and '"node": "resid[2]"' in page and '"depth": 0.5' in page and '"mutual": true' in page
    assert "model seed" in (tmp_path / "figure5.svg").read_text()


def test_what_cannot_be_interpreted_has_a_page_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = matches(7).assign(mppc=[0.9, 0.8, 0.7, 0.1, np.nan, 0.05, 0.6])
    sides = [activations()], [activations(1)]
    found = study(table, *sides, known(), Words(), tmp_path, scorer=_proxy())
    assert found.cases["feature_a"].tolist() == [5, 3] and "2 of them with an MPPC below 0.2" in found.text()
    assert pd.read_csv(tmp_path / "uninterpretable.csv")["feature_a"].tolist() == [5, 3]
    page = (tmp_path / "uninterpretable.html").read_text()
    assert "<h1>Below 0.2, and uninterpretable</h1>" in page and "2 matches." in page
    monkeypatch.setattr(importlib.import_module("circuitry.features.dashboard.study"), "CASES", 1)
    study(table, *sides, known(), Words(), tmp_path, scorer=_proxy())
    page = (tmp_path / "uninterpretable.html").read_text()
    assert "uninterpretable: the 1 lowest of 2</h1>" in page and "1 match." in page
    assert "uninterpretable" not in study(matches(3), *sides, known(), Words(), tmp_path, scorer=_proxy()).files


def _proxy() -> Any:
    from circuitry.features.dashboard.proxy import ProxyScorer

    return ProxyScorer()


def test_without_a_judge_there_is_the_page_alone(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "--out", tmp_path, "--limit", "4")
    assert done.exit_code == 0, done.output
    assert [file.name for file in tmp_path.iterdir()] == ["features.html"]
    assert "4 of 9 matches" in (tmp_path / "features.html").read_text()


class Asked:
    """A scorer other than the proxy."""

    name, proxy, answer_tokens = "a scorer", False, 10

    def __init__(self) -> None:
        self.questions: list[Question] = []

    def score(self, question: Question) -> int:
        self.questions.append(question)
        return 4


def test_the_estimate_comes_before_the_first_question(tmp_path: Path) -> None:
    asked, told = Asked(), list[Estimate]()
    sides = [activations()], [activations(1)], known(), Words()

    def stop(estimate: Estimate) -> None:
        told.append(estimate)
        raise CircuitryError("too much")

    with pytest.raises(CircuitryError, match="too much"):
        study(matches(), *sides, tmp_path, scorer=asked, agree=stop, price=(1, 1))
    assert not asked.questions and not list(tmp_path.iterdir())
    study(matches(), *sides, tmp_path, scorer=asked, agree=told.append, price=(1, 1))
    assert [one.questions for one in told] == [10, 10], "two scores of each feature with a match"
    assert told[0].tokens_in == pytest.approx(sum(len(question.text) for question in asked.questions) / 2.2, abs=2)
    study(matches(), *sides, tmp_path, scorer=asked, agree=told.append)
    assert told[2].questions == 0 and told[2].answered == 10 and len(asked.questions) == 10


def test_an_endpoint_is_asked_only_after_a_yes(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    done = run(folder, "--out", tmp_path, "--scorer", "endpoint:m", "--url", "http://127.0.0.1:9/v1", "--price", "2,8")
    assert done.exit_code == 1 and "18 questions to m at 127.0.0.1: about " in done.output and "about 0.0" in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--price", "2"], "expected two prices of a million tokens, read and written, got '2'"),
        (["--tokenizer", "compiled:mamba", "--scorer", "nobody"], "endpoint:MODEL), got 'nobody'"),
        (["--matches", "nowhere"], "nowhere holds no matches"),
        (["--url", "http://127.0.0.1:9/v1"], "--url has no effect: no endpoint is asked; use --scorer endpoint:MODEL, or leave"),
        (["--yes", "--scorer", "proxy"], "--yes has no effect: no endpoint is asked"),
        (["--per-minute", "5"], "--per-minute has no effect"),
        (["--price", "2,8"], "price=(2.0, 8.0) has no effect: no scorer is paid for"),
        (["--price", "2,8", "--scorer", "proxy"], "price=(2.0, 8.0) has no effect: no scorer is paid for"),
    ],
)
def test_mistakes(folder: Path, tmp_path: Path, words: list[str], message: str) -> None:
    done = run(folder, "--out", str(tmp_path), *words)
    assert isinstance(done.exception, CircuitryError) and message in str(done.exception)


def test_another_corpus_or_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    from circuitry.cli.features import _tokenizer

    acts = feature_acts(folder / "a")[0]
    text = Corpus.load(folder / "corpus.safetensors")
    with pytest.raises(CircuitryError, match=r"the activations are of the corpus \w+, not of \w+"):
        top_contexts(acts, text.take(text.tokens - 1), None, [0])
    with pytest.raises(CircuitryError, match="was not made with the tokenizer of bundled:mamba"):
        _tokenizer("bundled:mamba", "another")
    assert _tokenizer("bundled:mamba", text.tokenizer) is not None
    with pytest.raises(CircuitryError, match="do not name their model"):
        _tokenizer(None, "")


def test_settings_and_prices_are_read() -> None:
    from circuitry.cli.scorers import prices

    assert values(["max_completion_tokens=400", "temperature=0.5", "effort=low"]) == {
        "max_completion_tokens": 400,
        "temperature": 0.5,
        "effort": "low",
    }
    assert values(None) == {} and prices("2.5,10") == (2.5, 10)


def test_the_command_can_be_registered() -> None:
    outer = typer.Typer()
    outer.add_typer(app)
    outer.command()(lambda: None)
    assert "features" in typer.main.get_command(outer).commands  # type: ignore[attr-defined]


def test_contexts_read_as_the_text_they_are_from(folder: Path) -> None:
    text = Corpus.load(folder / "corpus.safetensors")
    tokenizer = ct.load("bundled:mamba").tokenizer
    found = top_contexts(feature_acts(folder / "a")[0], text, tokenizer, range(6))
    for contexts in found.values():
        assert contexts and all("".join(context.tokens) in " ".join(TEXTS) for context in contexts)
    assert json.dumps([context.values for context in found[0]])


def test_where_nothing_matches_nothing_is_shown(tmp_path: Path) -> None:
    table = matches(3).assign(mppc=np.nan)
    found = study(table, [activations(0)], [activations(1)], known(), Words(), tmp_path, scorer=Asked())
    assert found.files == {} and found.text() == "no feature has a match: there is nothing to show"
