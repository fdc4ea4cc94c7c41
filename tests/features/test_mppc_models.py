"""From models to matches: encoding, neurons, the command, several processes, the benchmark."""

from __future__ import annotations

import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from circuitry.errors import CircuitryError
from circuitry.executing.activations import read
from circuitry.features.activations import Corpus, forward
from circuitry.features.matching import FeatureActs, Matches, mppc
from circuitry.features.matching.dense import Correlations
from circuitry.features.matching.encode import encode
from circuitry.features.matching.hidden import neuron_nodes, read_neurons
from circuitry.features.matching.neurons import mppc_neurons
from circuitry.features.matching.parts import Parts
from circuitry.features.sae import SAE, SAEConfig, evaluate
from circuitry.models import Model
from support import tiny

ROOT = Path(__file__).parents[2]
LENGTHS = [11, 3, 17, 8, 1, 21, 12, 5]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Documents of several lengths; the first token of each is special, so one has no used token."""
    rng, starts = np.random.default_rng(0), np.cumsum([0, *LENGTHS])
    special = np.zeros(starts[-1], bool)
    special[starts[:-1]] = True
    return Corpus(rng.integers(0, 20, starts[-1]).astype(np.int32), starts, special, "random tokens", "")


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.model("gpt_neox")


def saes(model: Model, nodes: tuple[str, ...], features: int = 24) -> dict[Any, SAE]:
    width = model.hf.config.hidden_size
    return {model.graph.node(node): SAE(SAEConfig(width, features, "topk", k=5), seed=k) for k, node in enumerate(nodes)}


def by_hand(model: Model, node: str, sae: SAE, corpus: Corpus) -> Any:
    """Feature activations document by document, without padding."""
    found = []
    for k in range(len(corpus)):
        at = slice(corpus.starts[k], corpus.starts[k + 1])
        value = read(model, [node], corpus.ids[None, at].astype(np.int64))[model.graph.node(node)][0]
        found.append(sae.encode(value[torch.from_numpy(~corpus.special[at])]).detach().numpy())
    return np.concatenate(found)


def test_encoding_gives_the_features_of_the_used_tokens(tmp_path: Path, model: Model, corpus: Corpus) -> None:
    given = saes(model, ("resid[1]", "resid[2]"))
    found = encode(model, given, corpus, tmp_path, batch=8, buffer=16, shard=16, stored_dtype="float32", progress=False)
    for acts, (node, sae) in zip(found, given.items(), strict=True):
        wanted = by_hand(model, str(node), sae, corpus)
        np.testing.assert_allclose(acts.csr().toarray(), wanted, atol=1e-5)
        assert acts.corpus == corpus.digest and acts.index["layer"] == node.indices[0]
        assert acts.index["depth"] == node.indices[0] / model.graph.sizes["layer"]
        used = np.cumsum([0, *(length - 1 for length in LENGTHS)])[:-1]
        assert acts.documents.tolist() == sorted({int(k) for k, length in zip(used, LENGTHS, strict=True) if length > 1})
    assert mppc(found, found, min_count=1, progress=False).provenance["shift"] in found[0].documents


def test_one_autoencoder_is_encoded_as_several_are(tmp_path: Path, model: Model, corpus: Corpus) -> None:
    (node, sae), *_ = saes(model, ("resid[1]",)).items()
    named = SAE.of(replace(sae.config, provenance={"node": "resid[1]"}), sae.state_dict())
    how: dict[str, Any] = {"stored_dtype": "float32", "progress": False}
    several: list[Any] = [named, [named], {"resid[1]": sae}, {node: sae}]
    for k, given in enumerate(several):
        (acts,) = encode(model, given, corpus, tmp_path / str(k), **how)
        np.testing.assert_allclose(acts.csr().toarray(), by_hand(model, "resid[1]", sae, corpus), atol=1e-5)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (SAE(SAEConfig(16, 24)), "does not say which node it is of"),
        ([SAE(SAEConfig(16, 24, provenance={"node": "resid[1]"}))] * 2, r"two SAEs are given for resid\[1\]"),
        ({"resid[1]": SAE(SAEConfig(9, 24))}, r"resid\[1\] has 16 numbers at a token, its SAE takes 9"),
        ({"resid[9]": SAE(SAEConfig(16, 24))}, "has no node resid"),
        ([], "no autoencoder is given"),
        (["resid[1]"], "expected an SAE, several SAEs, or SAEs by node, got 'resid[1]'"),
    ],
)
@pytest.mark.parametrize("door", ["encode", "evaluate"])
def test_autoencoders_that_do_not_fit_are_refused_alike(
    tmp_path: Path, model: Model, corpus: Corpus, given: Any, told: str, door: str
) -> None:
    with pytest.raises(CircuitryError, match=told.replace("'resid[1]'", r"'resid\[1\]'")):
        encode(model, given, corpus, tmp_path, progress=False) if door == "encode" else evaluate(
            model, given, corpus, progress=False
        )


def test_killed_encoding_goes_on_where_it_was(
    tmp_path: Path, model: Model, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = saes(model, ("resid[1]", "resid[2]"))
    whole = encode(model, given, corpus, tmp_path / "whole", batch=8, buffer=8, shard=16, progress=False)
    put, done = Parts.put, list[tuple[str, int]]()

    def killed(self: Parts, number: int, blocks: Any) -> None:
        if len(done) == 3:  # the first of the two has its second file, the other not
            raise KeyboardInterrupt
        done.append((self.folder.name, number))
        put(self, number, blocks)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Parts, "put", killed)
        encode(model, given, corpus, tmp_path / "part", batch=8, buffer=8, shard=16, progress=False)
    seen = counted(monkeypatch)
    again = encode(model, given, corpus, tmp_path / "part", batch=8, buffer=8, shard=16, progress=False)
    assert [one.index for one in again] == [one.index for one in whole]
    first, second = (shard["tokens"] for shard in whole[0].index["shards"][:2])
    assert sum(seen) == 2 * (corpus.tokens - first) - second
    encode(model, given, corpus, tmp_path / "part", batch=8, buffer=8, shard=16, progress=False)
    assert sum(seen) == 2 * (corpus.tokens - first) - second


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens that are encoded from now on, call by call."""
    original, seen = SAE.encode, list[int]()

    def encode(self: SAE, x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return original(self, x)

    monkeypatch.setattr(SAE, "encode", encode)
    return seen


def test_processes_share_the_encoding_and_another_takes_over(
    tmp_path: Path, model: Model, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = saes(model, ("resid[1]", "resid[2]"))
    how: dict[str, Any] = {"batch": 8, "buffer": 8, "shard": 16, "progress": False}
    whole = encode(model, given, corpus, tmp_path / "whole", **how)
    assert len(whole[0].index["shards"]) > 3
    seen, ran = counted(monkeypatch), list[int]()

    def reading(model: Model, nodes: Any, ids: Any) -> Any:
        ran.append(ids.size if ids.size > 2 else 0)  # the smallest inputs only ask for widths
        return read(model, nodes, ids)

    monkeypatch.setattr(forward, "read", reading)
    assert encode(model, given, corpus, tmp_path / "part", rank=2, world_size=3, **how) == []
    assert encode(model, given, corpus, tmp_path / "part", rank=0, world_size=3, **how) == []
    with pytest.raises(CircuitryError, match="interrupted; run the same command"):
        FeatureActs.open(tmp_path / "part" / "resid-1")
    again = encode(model, given, corpus, tmp_path / "part", **how)  # in the place of process 1
    assert [one.index for one in again] == [one.index for one in whole]
    assert sum(seen) == 2 * corpus.tokens, "a token was encoded twice"
    assert sum(ran) <= 1.3 * len(corpus.ids), "a document ran twice"


def test_encoding_with_another_autoencoder_is_refused(tmp_path: Path, model: Model, corpus: Corpus) -> None:
    encode(model, saes(model, ("resid[1]",)), corpus, tmp_path, progress=False)
    other = {node: SAE(sae.config, seed=7) for node, sae in saes(model, ("resid[1]",)).items()}
    with pytest.raises(CircuitryError, match=r"another set of feature activations \(sae:"):
        encode(model, other, corpus, tmp_path, progress=False)
    with pytest.raises(CircuitryError, match="no autoencoder"):
        encode(model, {}, corpus, tmp_path, progress=False)


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "llama", "jamba"])
def test_neurons_are_what_the_last_projection_of_the_mlp_reads(name: str) -> None:
    """The MLP's output is that projection of them, and they are the activation function's output where nothing else is in between."""
    model = tiny.model(name)
    nodes, ids = neuron_nodes(model), np.arange(10).reshape(2, 5)
    assert len(nodes) == model.graph.sizes["layer"]
    neurons, outputs = read_neurons(model, nodes, ids), read(model, nodes, ids)
    for node in nodes:
        block = model.hf.get_submodule(model.graph.place(node).module)
        last = next(getattr(block, part) for part in ("dense_4h_to_h", "c_proj", "down_proj") if hasattr(block, part))
        torch.testing.assert_close(last(neurons[node]), outputs[node])
        assert neurons[node].shape[-1] == getattr(model.hf.config, "intermediate_size", None) or 4 * model.hf.config.hidden_size


@pytest.mark.parametrize(("name", "family"), [("mamba", "ssm_in"), ("mamba2", "ssm_in"), ("rwkv", "mlp_hidden")])
def test_where_the_graph_has_neurons_they_are_nodes(name: str, family: str) -> None:
    model = tiny.model(name)
    nodes, ids = neuron_nodes(model), np.arange(10).reshape(2, 5)
    assert [str(node) for node in nodes] == [f"{family}[{k}]" for k in range(model.graph.sizes["layer"])]
    for node, value in read(model, nodes, ids).items():
        torch.testing.assert_close(read_neurons(model, nodes, ids)[node], value)


@pytest.mark.parametrize(("post_silu", "family"), [("scan", "ssm_in"), ("gate", "gate")])
def test_both_readings_of_post_silu_activations(corpus: Corpus, post_silu: str, family: str) -> None:
    mamba, neox = tiny.model("mamba"), tiny.model("gpt_neox")
    block = mamba.hf.backbone.layers[1].mixer
    seen: dict[str, Any] = {}
    hook = block.in_proj.register_forward_hook(lambda _, __, out: seen.update(projected=out))
    ids = np.arange(10).reshape(2, 5)
    values = read_neurons(mamba, neuron_nodes(mamba, post_silu), ids)[mamba.graph.node(f"{family}[1]")]
    hook.remove()
    x, gate = seen["projected"].chunk(2, -1)
    before = {"scan": block.conv1d(x.transpose(1, 2))[..., :5].transpose(1, 2), "gate": gate}[post_silu]
    torch.testing.assert_close(values, torch.nn.functional.silu(before).detach())
    found = mppc_neurons(neox, ["mlp[0]"], mamba, None, corpus, post_silu=post_silu, null=None, progress=False)
    assert found.provenance["b"][0]["node"] == f"{family}[0]"
    assert str(neuron_nodes(neox, post_silu)[0]) == "mlp[0]", "without effect on an MLP"
    with pytest.raises(CircuitryError, match="expected post_silu to be scan or gate, got 'both'"):
        neuron_nodes(mamba, "both")


def test_experts_have_no_neurons_for_every_token() -> None:
    model = tiny.model("jamba-moe")
    with pytest.raises(CircuitryError, match="experts"):
        read_neurons(model, neuron_nodes(model), np.arange(10).reshape(2, 5))


def all_neurons(model: Model, corpus: Corpus, first: int = 0) -> list[Any]:
    """Neurons [token, neuron] of each layer, document by document."""
    nodes, found = neuron_nodes(model), []
    for k in np.roll(np.arange(len(corpus)), -first):
        at = slice(corpus.starts[k], corpus.starts[k + 1])
        values = read_neurons(model, nodes, corpus.ids[None, at].astype(np.int64))
        found.append([values[node][0, torch.from_numpy(~corpus.special[at])].double().numpy() for node in nodes])
    return [np.concatenate(layer) for layer in zip(*found, strict=True)]


@pytest.mark.parametrize(("batch", "memory"), [(30, "1KiB"), (4096, "1GiB")])
def test_the_neuron_baseline_is_what_numpy_finds(model: Model, corpus: Corpus, batch: int, memory: str) -> None:
    other = tiny.model("mamba")
    found = mppc_neurons(model, None, other, None, corpus, batch=batch, memory=memory, progress=False)
    a, b = all_neurons(model, corpus), all_neurons(other, corpus)
    shifted = np.searchsorted(corpus.starts, corpus.used[found.provenance["shift"]], side="right") - 1
    c = all_neurons(other, corpus, int(shifted))
    assert abs(found.provenance["shift"] - corpus.tokens // 2) < 20
    for column, others in (("mppc", b), ("null", c)):
        r = np.corrcoef(np.concatenate(a, 1).T, np.concatenate(others, 1).T)[
            : sum(x.shape[1] for x in a), sum(x.shape[1] for x in a) :
        ]
        np.testing.assert_allclose(found.forward[column], r.max(1), atol=1e-4)
        np.testing.assert_allclose(found.reverse[column], r.max(0), atol=1e-4)
        if column == "mppc":
            sizes = np.cumsum([0, *(x.shape[1] for x in others)])
            at = sizes[found.forward["layer_b"]] + found.forward["feature_b"]
            np.testing.assert_array_equal(at, r.argmax(1))
    assert (found.forward["count_a"] == np.concatenate([(x != 0).sum(0) for x in a])).all()


def test_a_model_is_its_own_neighbour(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    found = mppc_neurons(model, ["mlp[0]", "resid[1]"], model, "mlp[0]", corpus, null=None, out=tmp_path, progress=False)
    own = found.forward[found.forward["layer_a"] == 0]
    assert (own["feature_b"] == own["feature_a"]).all()
    np.testing.assert_allclose(own["mppc"], 1, atol=1e-6)
    assert Matches.load(tmp_path).provenance["a"][1]["node"] == "resid[1]"


def test_neurons_are_computed_once(model: Model, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = mppc_neurons(model, None, model, None, corpus, out=tmp_path, progress=False)
    monkeypatch.setattr(Correlations, "feed", lambda *_: pytest.fail("computed again"))
    again = mppc_neurons(model, None, model, None, corpus, out=tmp_path, progress=False)
    pd.testing.assert_frame_equal(one.forward, again.forward)


def test_dense_sums_survive_a_mean_far_above_its_spread() -> None:
    rng = np.random.default_rng(0)
    x = (1000 + rng.normal(size=(3000, 4))).astype(np.float32)
    y = (x + rng.normal(size=(3000, 4))).astype(np.float32)
    x[:, 3], y[:, 1] = 7.3, 0
    found = Correlations([("a", "b")], 1)
    found.feed(({"a": torch.from_numpy(x[k : k + 500])}, {"b": torch.from_numpy(y[k : k + 500])}) for k in range(0, 3000, 500))
    best = found.best(("a", "b"))
    r = np.corrcoef(x[:, :3].astype(float).T, y[:, [0, 2, 3]].astype(float).T)[:3, 3:]
    np.testing.assert_allclose(best.row[:3], r.max(1), atol=1e-6)
    assert best.row_at[:3].tolist() == [[0, 2, 3][k] for k in r.argmax(1)]
    assert np.isnan(best.row[3]) and best.row_at[3] == -1 and np.isnan(best.column[1])


def test_mistakes_about_neurons_are_told(model: Model, corpus: Corpus) -> None:
    with pytest.raises(CircuitryError, match="one document"):
        mppc_neurons(model, None, model, None, Corpus(corpus.ids[:11], np.array([0, 11]), corpus.special[:11], "", ""))
    with pytest.raises(CircuitryError, match="as the null of neurons, got 'permute'"):
        mppc_neurons(model, None, model, None, corpus, null="permute")
    with pytest.raises(CircuitryError, match="no node 'mpl'"):
        mppc_neurons(model, ["mpl[0]"], model, None, corpus)


def test_the_benchmark_prints_both_sides_in_one_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "mppc.py"))
    sizes = ["--features=96", "--tokens=3000", "--l0=5", "--dense-tokens=64", "--dense-features=32"]
    monkeypatch.setattr(sys, "argv", ["mppc.py", *sizes])

    def here(args: Any, what: str) -> Any:
        args.measure = what
        return benchmark["measured"](args)

    monkeypatch.setitem(benchmark["main"].__globals__, "child", here)
    benchmark["main"]()
    printed = capsys.readouterr().out
    assert "96 x 96 features, 3,000 tokens, L0 5" in printed
    assert "scaled to all tokens and features" in printed and "an estimate" in printed
    assert "numba: " in printed and "scipy: " in printed and printed.count("times dense; mean MPPC 0.") == 2
    assert len(set(re.findall(r"mean MPPC (\S+)", printed))) == 1
