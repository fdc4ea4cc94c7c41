"""A sweep: its SAEs are those of trainings alone, it reads its activations once, and it resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import circuitry as ct
from circuitry.cli.sae import app
from circuitry.features.activations import corpus
from circuitry.features.sae import Sweep, Trained, evaluate, sweep, train_sae
from circuitry.features.sae.pareto import pareto
from support.planted import Planted, weights

TEXTS = ["The keys to the cabinet are on the table, and the cabinet is in the hall."] * 4
SMALL: dict[str, Any] = {"features": 16, "measured": 128, "tokens": 64 * 12, "progress": False}
NODES = ("resid[0]", "mlp[0]")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


class Counting(Planted):
    """A stream that counts the batches it makes, and may break."""

    made = 0
    breaks = 10**9

    def values(self, node: str, number: int) -> Tensor:
        if number >= type(self).breaks:
            raise RuntimeError("stopped")
        type(self).made += 1
        return super().values(node, number)


@pytest.mark.parametrize(
    "varied",
    [
        {"l1": [0.5, 2.0], "seed": [0, 1]},
        {"lr": [1e-3, 2e-3], "clip": [1.0, None]},
        {"tokens": [64 * 3, 64 * 12], "measured": [64, 256]},
        {"kind": ["relu", "topk", "batchtopk", "jumprelu", "matryoshka"], "k": 3, "prefixes": 2},
    ],
    ids=lambda varied: "-".join(varied),
)
def test_saes_of_one_pass_are_those_trained_alone(varied: dict[str, Any], tmp_path: Path) -> None:
    swept = sweep(None, activations=Planted(NODES), out=tmp_path, **{**SMALL, **varied})
    assert len(swept) == np.prod([len(value) for value in varied.values() if isinstance(value, list)])
    for name, trained in swept.items():
        identity = trained[NODES[0]].config.provenance
        seed = identity["seed"]
        settings = {key: identity["recipe"][key] for key in (*SMALL, *varied) if key in identity["recipe"]}
        unused = {"k", "prefixes"} if identity["recipe"]["kind"] in ("relu", "jumprelu") else {"prefixes"}
        unused -= {"prefixes"} if identity["recipe"]["kind"] == "matryoshka" else set()
        settings = {key: value for key, value in settings.items() if key not in unused}
        alone = train_sae(None, activations=Planted(NODES), seed=seed, progress=False, **settings)
        assert same(weights(alone), weights(trained)), name
        assert alone.log.round(9).equals(trained.log.round(9)), name
        again = train_sae(None, activations=Planted(NODES), seed=seed, out=tmp_path / name, progress=False, **settings)
        assert again.folder == tmp_path / name and again[NODES[1]].config == trained[NODES[1]].config, (
            "its folder is a training's"
        )


def test_saes_of_several_passes_are_those_trained_alone(tmp_path: Path) -> None:
    model = ct.load("bundled:gpt_neox")
    how: dict[str, Any] = {"tokens": 64, "buffer": 32, "expansion": 2, "progress": False}
    swept = sweep(model, "resid[1]", TEXTS, out=tmp_path, batch=[8, 16], order=[0, 3], seed=[0, 1], **how)
    assert len(swept) == 8 and sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == [
        "sweep.csv",
        "sweep.json",
        "sweep.png",
        "sweep.svg",
    ]
    assert len({saes["resid[1]"].W_enc.sum().item() for saes in swept.values()}) == 8
    for batch, order, seed in ((8, 0, 1), (16, 3, 0)):
        alone = train_sae(model, "resid[1]", TEXTS, batch=batch, order=order, seed=seed, **how)
        assert same(weights(alone), weights(swept[f"batch={batch},order={order},seed={seed}"]))
    usual = train_sae(model, "resid[1]", TEXTS, batch=8, seed=3, **how)
    assert same(weights(usual), weights(train_sae(model, "resid[1]", TEXTS, batch=8, seed=3, order=3, **how)))


def test_what_shares_a_pass_reads_the_activations_once(tmp_path: Path) -> None:
    Counting.made = 0
    train_sae(None, activations=Counting(), **SMALL)
    alone, Counting.made = Counting.made, 0
    sweep(None, activations=Counting(), out=tmp_path, l1=[1.0, 2.0, 4.0], seed=[0, 1, 2], **SMALL)
    assert Counting.made == alone


def test_a_sweep_that_is_stopped_resumes_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how: dict[str, Any] = {**SMALL, "l1": [1.0, 2.0], "tokens": [64 * 4, 64 * 12], "save_every": 0.0}
    whole = sweep(None, activations=Counting(), out=tmp_path / "whole", **how)
    monkeypatch.setattr(Counting, "breaks", 7)
    with pytest.raises(RuntimeError, match="stopped"):
        sweep(None, activations=Counting(), out=tmp_path / "run", **how)
    with pytest.raises(ct.CircuitryError, match="no complete sweep"):
        Sweep.load(tmp_path / "run")
    assert (tmp_path / "run" / "pass-0" / "checkpoint-7").is_dir()
    monkeypatch.setattr(Counting, "breaks", 10**9)
    Counting.made = 0
    resumed = sweep(None, activations=Counting(), out=tmp_path / "run", **how)
    assert Counting.made == 1 + 5, "the first batch tells one stream from another"
    for name, trained in whole.items():
        assert same(weights(resumed[name]), weights(trained)) and resumed[name].log.equals(trained.log), name
    assert resumed.frame.equals(whole.frame) and not (tmp_path / "run" / "pass-0").exists()


def test_a_sweep_that_is_stopped_while_it_writes_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, save = list[Path](), Trained.save

    def second_fails(self: Trained, folder: Any) -> Path:
        written.append(folder)
        if len(written) == 2:
            raise RuntimeError("stopped")
        return save(self, folder)

    how: dict[str, Any] = {**SMALL, "l1": [1.0, 2.0], "save_every": 0.0}
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="stopped"):
        patched.setattr(Trained, "save", second_fails)
        sweep(None, activations=Planted(), out=tmp_path, **how)
    resumed = sweep(None, activations=Planted(), out=tmp_path, **how)
    assert same(weights(resumed["l1=2.0"]), weights(train_sae(None, activations=Planted(), l1=2.0, **SMALL)))


def test_a_complete_sweep_is_read_back_and_another_is_refused(tmp_path: Path) -> None:
    first = sweep(None, activations=Planted(), out=tmp_path, l1=[1.0, 2.0], **SMALL)
    loaded = Sweep.load(tmp_path)
    assert list(loaded) == list(first) and loaded.frame.equals(first.frame)
    with pytest.raises(ct.CircuitryError, match="holds another sweep"):
        sweep(None, activations=Planted(), out=tmp_path, l1=[1.0, 3.0], **SMALL)
    with pytest.raises(KeyError, match=r"there are l1=1\.0, l1=2\.0"):
        first["l1=9"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"l1": []}, "l1 has no values"),
        ({"l_1": [1, 2]}, "did you mean 'l1'"),
        ({"k": [1, 2]}, "k=1 has no effect: kind 'relu' does not use it"),
        ({"kind": ["relu", "topkk"]}, "did you mean 'topk'"),
        ({"order": [0, 1]}, "order has no effect: the activations are given already"),
        ({"recipe": "papper"}, "did you mean 'paper'"),
    ],
)
def test_mistakes_are_told_before_a_folder_is_made(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ct.CircuitryError, match=message):
        sweep(None, activations=Planted(), out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_the_table_has_what_varies_and_what_was_measured(tmp_path: Path) -> None:
    model = ct.load("bundled:gpt_neox")
    text = corpus(model, TEXTS, progress=False)
    how: dict[str, Any] = {"tokens": 64, "batch": 16, "buffer": 32, "expansion": 2, "progress": False, "test": text}
    swept = sweep(model, ["resid[1]", "mlp[0]"], TEXTS, out=tmp_path, kind=["relu", "topk"], l1=[1.0, 4.0], k=[4, 8], **how)
    frame = swept.frame
    assert list(frame)[:4] == ["kind", "l1", "k", "node"] and len(frame) == 2 * 4
    assert frame["k"].dtype == "Int64" and frame["k"].isna().tolist() == [True] * 4 + [False] * 4
    row = frame[(frame["k"] == 8) & (frame["node"] == "mlp[0]")].iloc[0]
    alone = evaluate(model, {"mlp[0]": swept["kind=topk,k=8"]["mlp[0]"]}, text, progress=False).iloc[0]
    for name in ("l0", "explained_variance", "recovered", "kl", "dead"):
        assert row[name] == pytest.approx(alone[name], rel=1e-5, nan_ok=True), name
    assert Sweep.load(tmp_path).frame.equals(frame)
    assert sweep(model, ["resid[1]", "mlp[0]"], TEXTS, out=tmp_path, kind=["relu", "topk"], l1=[1.0, 4.0], k=[4, 8], **how).frame.equals(frame)  # fmt: skip


def test_a_figure_has_a_curve_for_what_is_not_a_penalty_and_a_point_for_each_sae() -> None:
    rows = [
        {"kind": kind, "l1": l1, "k": k, "seed": seed, "node": node, "l0": l0 + seed, "explained_variance": 0.5, "recovered": 0.9}
        for kind, l1, k, l0 in (("relu", 1.0, None, 40), ("relu", 4.0, None, 20), ("topk", None, 16, 16), ("topk", None, 8, 8))
        for seed in (0, 1)
        for node in NODES
    ]
    figure = pareto(pd.DataFrame(rows))
    assert [(ax.get_title(), ax.get_ylabel()) for ax in figure.axes] == [
        (node, measure) for measure in ("explained variance", "cross-entropy recovered") for node in NODES
    ]
    for ax in figure.axes:
        curves, points = ax.lines[0::2], ax.lines[1::2]
        assert [line.get_label() for line in points] == ["relu", "topk"]
        assert [list(np.asarray(line.get_xdata())) for line in curves] == [[20.5, 40.5], [8.5, 16.5]], "means over seeds"
        assert [len(np.asarray(line.get_xdata())) for line in points] == [4, 4]


def test_the_command_line_sweeps(tmp_path: Path) -> None:
    source = tmp_path / "texts.txt"
    source.write_text("\n\n\n".join(TEXTS * 3))
    command = ["sae", "sweep", "bundled:gpt_neox", "resid[1]", "--texts", str(source), "--out", str(tmp_path / "run")]
    command += [
        "-o",
        "tokens=64",
        "-o",
        "expansion=2",
        "-o",
        "l1=1,4",
        "-o",
        "batch=16,32",
        "--buffer",
        "32",
        "--test-tokens",
        "40",
    ]
    done = CliRunner().invoke(app, command[1:])
    assert done.exit_code == 0 and "recovered" in done.output, done.output
    frame = pd.read_csv(tmp_path / "run" / "sweep.csv")
    assert len(frame) == 4 and {"l1", "batch", "kl"} <= set(frame) and (tmp_path / "run" / "sweep.svg").exists()
    shown = CliRunner().invoke(
        app, ["evaluate", str(tmp_path / "run" / "l1=4,batch=16"), "--texts", str(source), "--tokens", "20"]
    )
    assert shown.exit_code == 0, shown.output
