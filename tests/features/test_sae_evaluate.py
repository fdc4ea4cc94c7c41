"""Evaluation of SAEs by splicing their reconstructions into the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from typer.testing import CliRunner

import circuitry as ct
from circuitry.cli.options import values
from circuitry.cli.sae import app
from circuitry.features.activations import Corpus, corpus
from circuitry.features.matching import feature_acts, mppc
from circuitry.features.sae import SAE, SAEConfig, Trained, evaluate
from circuitry.models import Model

TEXTS = [
    "The keys to the cabinet are on the table, and the cabinet is in the hall.",
    "Mary and John went to the store, and John gave a drink to Mary.",
    "It rains in the hills and in the valley, but not in the town.",
]


def identity(width: int, provenance: dict[str, str] | None = None) -> SAE:
    """Features 0 to D are what is positive of x, the others what is negative of it."""
    eye = torch.eye(width)
    sides = torch.cat([eye, -eye])
    weights = {"W_enc": sides.T, "b_enc": torch.zeros(2 * width), "W_dec": sides, "b_dec": torch.zeros(width)}
    return SAE.of(SAEConfig(width, 2 * width, provenance=provenance or {}), weights)


def constant(value: Tensor, features: int = 8) -> SAE:
    """Says the same of everything."""
    width = len(value)
    zeros = {"W_enc": torch.zeros(width, features), "b_enc": torch.zeros(features), "W_dec": torch.zeros(features, width)}
    return SAE.of(SAEConfig(width, features), {**zeros, "b_dec": value})


def width_of(model: Model, node: str) -> int:
    from circuitry.executing.activations import read

    (value,) = read(model, [node], np.zeros((1, 1), np.int64)).values()
    return value[0, 0].numel()


@pytest.fixture(scope="module")
def transformer() -> Model:
    return ct.load("bundled:gpt_neox")


@pytest.fixture(scope="module")
def text(transformer: Model) -> Corpus:
    return corpus(transformer, TEXTS)


@pytest.mark.parametrize(("name", "node"), [("gpt_neox", "resid[2]"), ("gpt_neox", "head[1,2]"), ("mamba", "h[1]")])
def test_a_perfect_sae_recovers_all_and_a_zero_one_nothing(name: str, node: str) -> None:
    model = ct.load(f"bundled:{name}")
    short = corpus(model, [text[:30] for text in TEXTS])
    width = width_of(model, node)
    perfect = evaluate(model, {node: identity(width) if width < 1000 else _wide(width)}, short, progress=False).iloc[0]
    nothing = evaluate(model, {node: constant(torch.zeros(width))}, short, progress=False).iloc[0]
    assert perfect["explained_variance"] == pytest.approx(1, abs=1e-5) and nothing["l0"] == 0 and nothing["dead"] == 1
    if perfect["ce_zero"] > perfect["ce_clean"]:
        assert perfect["kl"] == pytest.approx(0, abs=1e-4) and nothing["kl"] > 0.01
        assert perfect["recovered"] == pytest.approx(1, abs=1e-3) and nothing["recovered"] == pytest.approx(0, abs=1e-5)
    else:  # such a ratio would say nothing
        assert np.isnan(perfect["recovered"]) and np.isnan(nothing["recovered"])
        assert perfect["ce_spliced"] == pytest.approx(perfect["ce_clean"], rel=1e-5)
    assert perfect["ce_zero"] != perfect["ce_clean"] and nothing["ce_spliced"] == nothing["ce_zero"]
    assert perfect["tokens"] == short.tokens


def _wide(width: int) -> SAE:
    """A perfect SAE of a width whose identity would not fit: it stands in for one."""

    class Perfect(SAE):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, torch.ones(*x.shape[:-1], 1)

    made = Perfect(SAEConfig(width, 1))
    return made


def test_the_numbers_are_those_of_a_run_by_hand(transformer: Model, text: Corpus) -> None:
    """Cross-entropy by the stock module, one document at a time; the splice with a hook of torch's."""
    sae = SAE(SAEConfig(128, 256), seed=3)
    row = evaluate(transformer, {"resid[2]": sae}, text, progress=False).iloc[0]
    module = transformer.hf.get_submodule(transformer.graph.place(transformer.graph.node("resid[2]")).module)
    change, kept, distributions = "clean", list[Tensor](), dict[str, Tensor]()

    def hook(_module: object, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = arguments[0].clone()
        if change == "clean":
            kept.append(x[0, 1:])
        x[:, 1:] = {"clean": x[:, 1:], "spliced": sae(x[:, 1:])[0], "zero": 0 * x[:, 1:]}[change]
        return (x, *arguments[1:])

    handle = module.register_forward_pre_hook(hook)
    found = {}
    with torch.no_grad():
        for change in ("clean", "spliced", "zero"):
            losses, predicted = [], []
            for document in range(len(text)):
                ids = torch.from_numpy(text.ids[text.starts[document] : text.starts[document + 1]].astype(np.int64))
                logits = transformer.hf(ids[None]).logits[0]
                predicted.append(logits[1:-1].double().softmax(-1))
                losses.append(functional.cross_entropy(logits[1:-1], ids[2:], reduction="none"))
            found[change] = float(torch.cat(losses).mean())
            distributions[change] = torch.cat(predicted)
        x = torch.cat(kept)
        made, features = sae(x)
    handle.remove()
    assert text.special.nonzero()[0].tolist() == text.starts[:-1].tolist(), "only the first token of a document is special"
    for change, value in found.items():
        assert row[f"ce_{change}"] == pytest.approx(value, rel=1e-5), change
    assert row["recovered"] == pytest.approx((found["zero"] - found["spliced"]) / (found["zero"] - found["clean"]), rel=1e-4)
    p, q = distributions["clean"], distributions["spliced"]
    assert row["kl"] == pytest.approx(float((p * (p / q).log()).sum(1).mean()), rel=1e-4) and row["kl"] > 0.01
    assert row["l0"] == pytest.approx(float((features > 0).sum(1).double().mean()))
    assert row["dead"] == pytest.approx(float((~(features > 0).any(0)).double().mean()))
    variance = (x - x.mean(0)).square().sum()
    assert row["explained_variance"] == pytest.approx(float(1 - (x - made).square().sum() / variance), rel=1e-4)


def test_saying_the_mean_explains_no_variance(transformer: Model, text: Corpus) -> None:
    from circuitry.features.activations import activations

    stream = activations(transformer, "resid[2]", corpus=text)
    (values,) = [values for _, batch in stream.in_order() for values in batch.values()]
    row = evaluate(transformer, {"resid[2]": constant(values.mean(0))}, text, progress=False).iloc[0]
    assert abs(row["explained_variance"]) < 1e-5
    away = evaluate(transformer, {"resid[2]": constant(torch.zeros(128))}, text, progress=False).iloc[0]
    assert away["explained_variance"] < -0.01


def test_neither_memory_nor_company_changes_the_numbers(transformer: Model, text: Corpus) -> None:
    saes = {"resid[2]": SAE(SAEConfig(128, 64)), "mlp[0]": SAE(SAEConfig(128, 32, "topk", 4))}
    together = evaluate(transformer, saes, text, progress=False)
    one_by_one = evaluate(transformer, saes, text, memory=1, progress=False)
    alone = evaluate(transformer, {"mlp[0]": saes["mlp[0]"]}, text, progress=False)
    numbers = [name for name in together if name != "node"]
    np.testing.assert_allclose(one_by_one[numbers], together[numbers], rtol=1e-5)
    np.testing.assert_allclose(alone[numbers].iloc[0], together[numbers].iloc[1], rtol=1e-5)
    assert evaluate(transformer, saes, text, tokens=20, progress=False)["tokens"].tolist() == [20, 20]


def test_one_sae_names_its_node_and_mistakes_are_told(transformer: Model, text: Corpus) -> None:
    assert evaluate(transformer, identity(128, {"node": "resid[1]"}), text, progress=False).loc[0, "node"] == "resid[1]"
    with pytest.raises(ct.CircuitryError, match="128 numbers at a token, its SAE takes 64"):
        evaluate(transformer, {"resid[1]": identity(64)}, text, progress=False)
    with pytest.raises(ct.CircuitryError, match="no node"):
        evaluate(transformer, {"resid[9]": identity(128)}, text, progress=False)


def test_the_command_line_trains_and_evaluates(tmp_path: Path) -> None:
    source = tmp_path / "texts.txt"
    source.write_text("\n\n\n".join(TEXTS * 2))
    command = ["train", "bundled:gpt_neox", "resid[1]", "mlp[0]", "--texts", str(source), "--tokens", "64", "--expansion", "2"]
    command += ["--batch", "16", "--buffer", "32", "-o", "lr=0.002", "-o", "revive=none", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "explained_variance" in done.output, done.output
    trained = Trained.load(tmp_path / "run")
    assert trained["mlp[0]"].config.features == 256 and trained["mlp[0]"].config.provenance["recipe"]["lr"] == 0.002
    shared = ["--texts", str(source), "--tokens", "40", "--out", str(tmp_path / "table.csv")]
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), str(tmp_path / "run" / "resid-1"), *shared])
    assert done.exit_code == 0 and done.output.count("resid[1]") == 2 and "recovered" in done.output, done.output
    assert (tmp_path / "table.csv").read_text().count("\n") == 4
    assert "was trained on this text" in done.stderr
    single = ["evaluate", str(tmp_path / "run" / "resid-1"), *shared]
    skipped = CliRunner().invoke(app, [*single, "--skip", "64", "--model", "bundled:mamba"])
    assert skipped.exit_code == 0 and "trained on this text" not in skipped.stderr, skipped.output
    assert "trained on bundled:gpt_neox but is used on bundled:mamba" in skipped.stderr
    nothing = CliRunner().invoke(app, [*single, "--skip", "100000"])
    assert "so no document is left after the first 100000" in str(nothing.exception)
    twice = CliRunner().invoke(app, [*command, "-o", "batch=8"])
    assert "batch cannot be given with --option; use --batch" in str(twice.exception)
    nameless = identity(128).save(tmp_path / "nameless")
    refused = CliRunner().invoke(app, ["evaluate", str(nameless), *shared])
    assert isinstance(refused.exception, ct.CircuitryError) and "--node" in str(refused.exception)


def test_settings_are_read_as_what_they_are() -> None:
    found = values(["lr=1e-3", "k=4", "revive=none", "normalise=false", "decoder=free"])
    assert found == {"lr": 1e-3, "k": 4, "revive": None, "normalise": False, "decoder": "free"}


def test_features_are_encoded_on_the_command_line_for_two_seeds_and_matched(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n\n\n".join(TEXTS), encoding="utf-8")
    corpus_file = str(tmp_path / "corpus.safetensors")
    for seed in ("0", "1"):
        training = ["train", "bundled:gpt_neox", "resid[2]", "--texts", str(tmp_path / "text.txt"), "--tokens", "64"]
        training += ["--expansion", "2", "--batch", "16", "--buffer", "32", "--seed", seed, "--out", str(tmp_path / seed)]
        assert CliRunner().invoke(app, training).exit_code == 0
        encoding = ["encode", str(tmp_path / seed), "--corpus", corpus_file, "--texts", str(tmp_path / "text.txt")]
        done = CliRunner().invoke(app, [*encoding, "--out", str(tmp_path / f"acts{seed}")])
        assert done.exit_code == 0 and "resid[2]: 256 features" in done.output, done.output
        assert ("exists and is used as it is" in done.stderr) == (seed == "1")
    a, b = (feature_acts(tmp_path / f"acts{seed}") for seed in "01")
    found = mppc(a, b, min_count=1, progress=False, null=None)
    assert found.forward["mppc"].max() > 0.5 and a[0].corpus == Corpus.load(corpus_file).digest
