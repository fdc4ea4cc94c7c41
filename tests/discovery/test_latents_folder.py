"""A discovery of latents in a folder, in a file and on the command line, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import circuitry as ct
from circuitry import CircuitryError
from circuitry.autoencoders import SAE, SAEConfig
from circuitry.discovery import latents, search
from circuitry.discovery.methods.eap import Eap
from circuitry.discovery.result import Discovery
from circuitry.discovery.wiring import Wiring
from circuitry.executing.activations import read
from support.command import called, circuitry
from support.killing import Killed, killed_after
from support.short_discovery import in_small_steps

TASK = ct.task("induction", distance=4, examples=12)
ASKED: dict[str, Any] = {"features": True, "latents": 40, "method": "eap", "verify": 6, "progress": False}
NODES = ("resid[2]", "mixer_out[0]")


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """A short curve, and small steps, so that a few prompts and cells make two of each."""
    with pytest.MonkeyPatch.context() as patched:
        in_small_steps(patched)
        yield


def saes() -> list[SAE]:
    return [SAE(SAEConfig(128, 96, provenance={"node": node}), seed) for seed, node in enumerate(NODES)]


@pytest.fixture(scope="module")
def model() -> ct.Model:
    return ct.load("bundled:mamba").attach(saes())


@pytest.fixture(scope="module")
def done(model: ct.Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Discovery, Path]:
    out = tmp_path_factory.mktemp("found") / "run"
    return ct.discover(model, TASK, out=out, **ASKED), out


def test_the_folder_has_everything(done: tuple[Discovery, Path]) -> None:
    found, out = done
    assert {file.name for file in out.iterdir() if file.suffix != ".lock"} == {
        "curve.csv", *(f"diagram.{end}" for end in ("json", "png", "svg", "dot", "mmd")), "edges.json", "explorer.html", "explorer.json", "figures", "parts", "report.html", "results.json", "run.json", "tables",
    }  # fmt: skip
    assert len((out / "tables" / "shares.csv").read_text().splitlines()) == 1 + len(found.shares)
    assert {file.name for file in (out / "figures").iterdir()} == {"agreement.png", "agreement.svg", "curve.png", "curve.svg"}
    record = json.loads((out / "run.json").read_text())
    assert record["settings"]["level"] == "latent" and record["settings"]["latents"] == 40
    assert (
        list(record["autoencoders"]) == list(NODES) and found.provenance["autoencoders"].keys() == record["autoencoders"].keys()
    )
    page = (out / "report.html").read_text()
    for part in ("summary", "diagram", "shares", "ranking", "agreement", "curve", "stability", "methods"):
        assert f'<section id="{part}">' in page
    for text in ("is in its autoencoder", "latents and errors of bundled:mamba", "random latents", "share of the error"):
        assert text in page
    drawn = json.loads((out / "diagram.json").read_text())["nodes"]
    assert [node["name"] for node in drawn] == [node.name for node in found.diagram().nodes]
    assert all(f'data-name="node {node["name"]}"' in page for node in drawn)
    assert 'id="circuit"' not in page and 'id="scores"' not in page


def test_the_page_shows_where_latents_fire(done: tuple[Discovery, Path], model: ct.Model) -> None:
    """The activations shown are those that the engine reads, on the prompts that change a latent most, and a row leads to them."""
    found, out = done
    row = json.loads((out / "results.json").read_text())["firing"][0]
    prompts, name = found.question.prompts, row["latent"]
    clean, corrupted = (read(model, [name], ids).popitem()[1].numpy() for ids in (prompts.clean, prompts.corrupted))
    change = np.abs(corrupted - clean).sum(1)
    for pair, example in zip(row["prompts"], np.argsort(-change, kind="stable"), strict=False):
        assert np.allclose([value for _, value in pair["clean"]], clean[example], atol=1e-3)
        assert np.allclose([value for _, value in pair["corrupted"]], corrupted[example], atol=1e-3)
        assert [text for text, _ in pair["clean"]] == [model.tokenizer.decode([i]) for i in prompts.clean[example]]
    page = (out / "report.html").read_text()
    assert '<a href="#fires-0"><code>' + name in page and 'id="fires-0"' in page


def test_the_numbers_are_those_without_a_folder(done: tuple[Discovery, Path], model: ct.Model) -> None:
    plain = ct.discover(model, TASK, **ASKED)
    assert np.array_equal(plain.scores, done[0].scores) and plain.question.terms == done[0].question.terms
    assert plain.exact.keys() == done[0].exact.keys() and len(plain.exact) == 6
    assert all(np.array_equal(plain.exact[cell], done[0].exact[cell]) for cell in plain.exact)


@pytest.mark.parametrize(("where", "name", "total"), [(Eap, "scores", 2), (search, "patched", 2)])
def test_a_killed_one_goes_on_and_finds_the_same(
    where: Any,
    name: str,
    total: int,
    done: tuple[Discovery, Path],
    model: ct.Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        killed_after(patched, where, name, 1)
        with pytest.raises(Killed):
            ct.discover(model, TASK, out=tmp_path / "run", **ASKED)
    with monkeypatch.context() as patched:
        count, again = killed_after(patched, where, name, 9), killed_after(patched, latents, "_sizes", 0)
        found = ct.discover(model, TASK, out=tmp_path / "run", **ASKED)
        assert count[0] == total - 1 and again == [0]
    assert np.array_equal(found.scores, done[0].scores) and found.ranking.equals(done[0].ranking)
    pages = [json.loads((out / "results.json").read_text()) for out in (tmp_path / "run", done[1])]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("change", "said"), [({"latents": 41}, "latents: 40 there, 41 here"), ({"features": False, "latents": None}, "level")]
)
def test_another_question_is_refused(change: dict[str, Any], said: str, done: tuple[Discovery, Path], model: ct.Model) -> None:
    with pytest.raises(CircuitryError, match=rf"holds another discovery \(.*{said}"):
        ct.discover(model, TASK, out=done[1], **{**ASKED, **change})


def test_other_autoencoders_are_another_question(done: tuple[Discovery, Path]) -> None:
    other = ct.load("bundled:mamba").attach([SAE(SAEConfig(128, 96, provenance={"node": node}), 7) for node in NODES])
    with pytest.raises(CircuitryError, match="holds another discovery"):
        ct.discover(other, TASK, out=done[1], **ASKED)
    with pytest.raises(CircuitryError, match=r"is about other autoencoders: .* attach the same ones"):
        ct.discovery.read(done[1] / "edges.json", other, TASK)


def test_a_file_is_read_with_the_model_and_without(done: tuple[Discovery, Path], model: ct.Model) -> None:
    found, out = done
    alone = ct.discovery.read(out / "edges.json")
    assert alone.ranking.equals(found.ranking) and alone.shares.equals(found.shares) and alone.text() == found.text()
    again = ct.discovery.read(out / "edges.json", model, TASK)
    assert again.ranking.equals(found.ranking) and again.curve.frame.equals(found.curve.frame)


def test_the_command_lists_latents(tmp_path: Path) -> None:
    sae, task = SAE(SAEConfig(128, 96, provenance={"node": "resid[2]"}), 3), TASK.but(examples=4)
    model = ct.load("bundled:mamba").attach(sae)
    numbers = model.latents("resid[2]", task, top=4, at="B")
    change, fires = model.changing("resid[2]", task.prompts(model.vocabulary), ct.Position("B"))
    sae.labelled({numbers[1]: "names"}).save(tmp_path / "sae")
    asked = ("--attach", str(tmp_path / "sae"), "-o", "distance=4", "--examples", "4", "--top", "4", "--at", "B")
    out = circuitry("sae", "latents", "bundled:mamba", "resid[2]", *asked, "--out", str(tmp_path / "list.csv"))
    rows = pd.read_csv(tmp_path / "list.csv", keep_default_na=False)
    assert rows["latent"].tolist() == numbers and rows["label"].tolist() == ["", "names", "", ""]
    assert rows["change"].tolist() == pytest.approx(change[numbers].tolist()) and all(map(float, rows["change"]))
    assert rows["examples"].tolist() == fires[numbers].tolist()
    assert [line.split()[0] for line in out.splitlines()[1:5]] == list(map(str, numbers)) and "names" in out


def test_the_command_attaches_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: tuple[Discovery, Path]) -> None:
    monkeypatch.chdir(tmp_path)
    for sae in saes():
        sae.save(tmp_path / str(sae.config.provenance["node"]))
    attach = [part for node in NODES for part in ("--attach", node)]
    options = ("-o", "distance=4", "--examples", "12", "--method", "eap", "--verify", "6", "--features", "--latents", "40")
    out = circuitry("discover", "bundled:mamba", *options, *attach)
    assert done[0].text() in out and "CPR " in out
    assert f"report: {Path('runs/discover-induction-mamba-eap-latents/report.html').resolve()}" in out
    code, _, err = called("discover", "bundled:mamba", *options[:-3], *attach)
    assert code == 2 and "attach has no effect: without --features no latents are ranked; give --features too" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "node"}, "level='node' has no effect: features=True ranks latents and errors"),
        ({"edges": 4, "out": "nowhere"}, "edges=4 has no effect: a discovery of latents draws no circuit of edges"),
        ({"latents": 0}, "latents must be at least 1, got 0"),
        ({"features": False}, "latents=40 has no effect: no latents are ranked; give features=True too"),
        ({"features": False, "latents": None, "level": "latent"}, "expected level 'edge' or 'node', got 'latent'; features=True"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str, model: ct.Model) -> None:
    with pytest.raises(CircuitryError, match=message):
        ct.discover(model, TASK, **{**ASKED, **options})


def test_latents_need_autoencoders() -> None:
    with pytest.raises(CircuitryError, match=r"no node has an autoencoder, .*model\.attach\(saes\)"):
        ct.discover(ct.load("bundled:mamba"), TASK, **ASKED)
    with pytest.raises(CircuitryError, match=r"latents of logits cannot be ranked: .*model\.detach\('logits'\)"):
        latents.check_attached({ct.Node("logits"): SAE(SAEConfig(2048, 4))}, Wiring(ct.graph("mamba")))


def test_what_does_not_exist_for_latents_says_so(done: tuple[Discovery, Path], model: ct.Model) -> None:
    found = done[0]
    with pytest.raises(CircuitryError, match="these are latents, and a circuit is made of edges"):
        found.circuit(edges=4)
    with pytest.raises(CircuitryError, match="these are latents, and a path is made of edges"):
        found.paths()
    nodes = ct.discover(model, TASK, level="node", method="eap", verify=0, progress=False)
    with pytest.raises(CircuitryError, match="these are nodes, which have no latents; discover with features=True"):
        _ = nodes.shares
    with pytest.raises(CircuitryError, match="these are nodes, and a curve is of edges or latents"):
        _ = nodes.curve
