"""Activations on disk stand in for the model: same batches, same trainings, same features, and the model never runs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from circuitry.cli import app
from circuitry.errors import CircuitryError
from circuitry.executing.activations import read
from circuitry.features.activations import Activations, ActivationStore, Corpus, activations, forward, store
from circuitry.features.matching.encode import encode
from circuitry.features.sae import SAE, SAEConfig, evaluate, train_sae
from circuitry.paths import parse_node
from support import tiny
from support.planted import weights

NODES = ["resid[1]", "head[0,1]"]
HOW: dict[str, Any] = {"tokens": 900, "features": 24, "measured": 64, "batch": 32, "buffer": 128, "progress": False}


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.model("gpt_neox")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Documents of odd lengths, the first token of each not used."""
    rng = np.random.default_rng(0)
    starts = np.cumsum([0, *rng.integers(2, 40, 23)])
    special = np.zeros(starts[-1], bool)
    special[starts[:-1]] = True
    return Corpus(rng.integers(0, 20, starts[-1]).astype(np.int32), starts, special, "random tokens", "")


@pytest.fixture(scope="module")
def stream(model: Any, corpus: Corpus) -> Activations:
    return activations(model, NODES, corpus=corpus, batch=32, buffer=128)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """What runs through a model from now on."""
    ran: list[tuple[int, ...]] = []

    def counted(model: Any, nodes: Any, ids: Any) -> Any:
        ran.append(ids.shape)
        return read(model, nodes, ids)

    monkeypatch.setattr(forward, "read", counted)
    return ran


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, stream: Activations) -> Path:
    out = tmp_path_factory.mktemp("store") / "acts"
    store(stream, out, shard=100, progress=False)
    return out


def same(one: Iterator[Any], other: Iterator[Any], count: int | None = None) -> bool:
    pairs = list(itertools.islice(zip(one, other, strict=count is None), count))
    return bool(pairs) and all(torch.equal(a[node], b[node]) for a, b in pairs for node in a)


def test_batches_are_the_streams_bit_for_bit(folder: Path, stream: Activations, runs: list[Any], corpus: Corpus) -> None:
    found = activations(folder, batch=32, buffer=128)
    assert [str(node) for node in found.nodes] == NODES and found.widths == stream.widths and len(runs) == 0
    assert found.identity == stream.identity and found.provenance == stream.provenance
    assert same(found.batches(3), stream.batches(3), 40)
    assert same((values for _, values in found.in_order(7)), (values for _, values in stream.in_order(7)))
    assert len(list(folder.glob("shard-*"))) > 3
    for other in (activations(folder, batch=32, buffer=64), activations(folder, batch=32, buffer=128, seed=1)):
        assert not same(other.batches(), stream.batches(), 3)
    assert activations(folder, "head", corpus=corpus).widths == {parse_node("head[0,1]"): 8}


def test_a_training_from_the_store_is_that_from_the_stream(
    folder: Path, model: Any, corpus: Corpus, runs: list[Any], tmp_path: Path
) -> None:
    from_model = train_sae(model, NODES, corpus=corpus, out=tmp_path / "one", **HOW)
    ran = len(runs)
    assert ran > 10
    from_store = train_sae(folder, out=tmp_path / "two", **HOW)
    for name, value in weights(from_model).items():
        assert torch.equal(value, weights(from_store)[name]), name
    assert from_model.log.equals(from_store.log)
    assert {sae.config.provenance["model"] for sae in from_store.values()} == {model.name}
    assert (
        json.loads((tmp_path / "one" / "training.json").read_text())["identity"]
        == json.loads((tmp_path / "two" / "training.json").read_text())["identity"]
    )
    for other in ({"l1": 1.0}, {"seed": 1}, {"kind": "topk", "k": 3}):
        again = train_sae(ActivationStore.open(folder), "resid[1]", **{**HOW, **other})
        assert not torch.equal(again["resid[1]"].W_enc, from_store["resid[1]"].W_enc)
    assert len(runs) == ran, "the model ran"


def test_features_and_their_variance_need_no_model(
    folder: Path, model: Any, corpus: Corpus, runs: list[Any], tmp_path: Path
) -> None:
    saes = {"resid[1]": SAE(SAEConfig(16, 24), seed=3)}
    how: dict[str, Any] = {"stored_dtype": "float32", "progress": False}
    one = encode(model, saes, corpus, tmp_path / "one", batch=64, buffer=128, **how)
    whole, ran = evaluate(model, saes, corpus, progress=False), len(runs)
    two = encode(folder, saes, None, tmp_path / "two", batch=64, **how)
    assert (one[0].csr().toarray() == two[0].csr().toarray()).all() and one[0].digest == two[0].digest
    table = evaluate(folder, saes, progress=False)
    assert list(table) == ["node", "tokens", "l0", "explained_variance", "dead"] and len(runs) == ran
    for column in table:
        wanted = whole[column].tolist()
        assert table[column].tolist() == (wanted if column in ("node", "tokens") else pytest.approx(wanted, abs=1e-5)), column
    assert evaluate(folder, saes, tokens=50, progress=False)["tokens"].tolist() == [50]


class Kill(Exception):
    pass


def test_a_killed_writing_resumes(stream: Activations, folder: Path, runs: list[Any], tmp_path: Path) -> None:
    out, made = tmp_path / "acts", forward.Forward.values
    done: list[Any] = []

    def killed(self: Any, numbers: Any, nodes: Any) -> Any:
        if len(done) == 2:
            raise Kill
        done.append(numbers)
        return made(self, numbers, nodes)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Kill):
        patched.setattr(forward.Forward, "values", killed)
        store(stream, out, shard=100, progress=False)
    with pytest.raises(CircuitryError, match=r"is not complete: \d+ of \d+ shards are missing \(2, 3.*without a rank"):
        ActivationStore.open(out)
    (out / "shard-00003.safetensors.1a2b.new").write_bytes(b"half")
    ran = len(runs)
    whole = store(stream, out, shard=100, progress=False)
    assert 0 < ran < len(runs) == len(stream.origin.passes), "each pass ran once"
    assert whole.missing() == [] and sorted(file.name for file in out.iterdir()) == sorted(f.name for f in folder.iterdir())
    for file in folder.glob("shard-*"):
        assert (out / file.name).read_bytes() == file.read_bytes()


def test_processes_share_the_writing_and_another_takes_over(
    stream: Activations, folder: Path, runs: list[Any], tmp_path: Path
) -> None:
    first = store(stream, tmp_path, shard=100, rank=1, world_size=3, progress=False)
    assert {number % 3 for number in first.missing()} == {0, 2} and len(first.missing()) < len(first.shards) - 1
    store(stream, tmp_path, shard=100, rank=0, world_size=3, progress=False)
    assert {number % 3 for number in first.missing()} == {2}
    assert store(stream, tmp_path, shard=100, progress=False).missing() == []
    assert len(runs) == len(stream.origin.passes), "each pass ran once"
    for file in folder.glob("shard-*"):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_half_precision_is_recorded(stream: Activations, folder: Path, tmp_path: Path) -> None:
    store(stream, tmp_path, dtype="bfloat16", progress=False)
    half, full = (activations(given, "resid[1]", batch=32, buffer=128) for given in (tmp_path, folder))
    node = half.nodes[0]
    a, b = next(half.batches())[node], next(full.batches())[node]
    assert a.dtype == torch.float32 and torch.equal(a, b.bfloat16().float()) and not torch.equal(a, b)
    assert half.identity == {**full.identity, "stored_dtype": "bfloat16"}
    assert load_file(tmp_path / "shard-00000.safetensors")["resid[1]"].dtype == torch.bfloat16


def test_another_store_is_refused_with_what_differs(
    stream: Activations, folder: Path, model: Any, corpus: Corpus, tmp_path: Path
) -> None:
    others: list[tuple[Activations, dict[str, Any], str]] = [
        (activations(model, "resid[1]", corpus=corpus, batch=32, buffer=128), {}, r"nodes head\[0,1\]: 8 there, None here"),
        (activations(model, NODES, corpus=corpus.take(50), batch=32, buffer=128), {}, "corpus: .* there, .* here"),
        (stream, {"dtype": "float16"}, "stored_dtype: float32 there, float16 here"),
        (activations(model, NODES, corpus=corpus, batch=32, buffer=64), {}, "passes: .* there"),
        (activations(tiny.model("gpt_neox", seed=1), NODES, corpus=corpus, batch=32, buffer=128), {}, "weights: .* there"),
    ]
    for given, options, told in others:
        with pytest.raises(CircuitryError, match=f"another activation store .*{told}"):
            store(given, folder, shard=100, progress=False, **options)
    with pytest.raises(CircuitryError, match="is stored already"):
        store(activations(folder), tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": "resid[2]"}, r"no activations of resid\[2\]; it has resid\[1\], head\[0,1\]"),
        ({"tokens": 7}, "tokens has no effect: .*has its activations already"),
        ({"texts": ["text"]}, "texts has no effect"),
        ({"memory": 7}, "memory has no effect"),
        ({"corpus": "another"}, r"was made from <corpus .*, not from <corpus"),
    ],
)
def test_what_a_store_cannot_give(folder: Path, corpus: Corpus, options: dict[str, Any], message: str) -> None:
    if "corpus" in options:
        options = {"corpus": corpus.take(9)}
    with pytest.raises(CircuitryError, match=message):
        activations(folder, **options)


def test_damaged_files_are_found(stream: Activations, tmp_path: Path) -> None:
    store(stream, tmp_path, progress=False)
    shard = tmp_path / "shard-00000.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-8])
    with pytest.raises(CircuitryError, match="cannot be read"):
        next(activations(tmp_path).batches())
    shard.write_bytes(whole)
    stream.corpus.take(50).save(tmp_path / "corpus.safetensors")
    with pytest.raises(CircuitryError, match="its corpus is not what"):
        ActivationStore.open(tmp_path)


def test_the_commands(tmp_path: Path) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == 0, done.output
        return done.output

    acts, saes = tmp_path / "acts", tmp_path / "saes"
    written = ["activations", "bundled:mamba", "resid[4]", "--out", str(acts), "--tokens", "600", "--buffer", "128"]
    assert "of 1 shards are not written yet, the part of process 0 of 2" in run(*written, "--rank", "1", "--world", "2")
    assert "activations of resid[4] at 600 tokens" in run(*written)
    train = ["sae", "train", str(acts), "resid[4]", "--tokens", "500", "--batch", "64", "--expansion", "1", "--out", str(saes)]
    assert "explained_variance" in run(*train)
    assert "ce_clean" not in run("sae", "evaluate", str(saes), "--activations", str(acts), "--tokens", "200")
    assert "128 features on 600 tokens" in run(
        "sae", "encode", str(saes), "--activations", str(acts), "--out", str(tmp_path / "features")
    )
