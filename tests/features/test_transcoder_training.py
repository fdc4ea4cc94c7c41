"""Training transcoders: the steps written out, planted features found, and the same weights wherever the pairs come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import circuitry as ct
from circuitry.cli.sae import app
from circuitry.features.activations import activations, corpus, store
from circuitry.features.sae import SAE, Recipe, Trained, evaluate, sweep, train_sae
from circuitry.features.sae.learner import Learner
from circuitry.paths import parse_node

SOURCE, TARGET = "resid[1]", "mlp[1]"
IN, OUT, CPU = 8, 5, torch.device("cpu")
TEXTS = ["The keys to the cabinet are on the table, and the cabinet is in the hall."] * 4


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


READ, WRITE = torch.nn.functional.normalize(drawn(6, IN, seed=1), dim=1), drawn(6, OUT, seed=2)


def planted(number: int, tokens: int = 256) -> dict[str, Tensor]:
    """Six features, of which about one fires at a token: read along one set of directions, written along another."""
    generator = torch.Generator().manual_seed(100 + number)
    fires = torch.rand(tokens, 6, generator=generator) < 1 / 6
    features = fires * (1 + torch.rand(tokens, 6, generator=generator))
    return {SOURCE: features @ READ, TARGET: 40 * features @ WRITE + 3}


def weights(trained: Trained) -> dict[str, Tensor]:
    return dict(trained[TARGET].state_dict())


def by_hand(recipe: Recipe, learner: Learner, batches: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Adam on ‖y - ŷ‖² + l1 · Σ f‖d‖, where features are of x."""
    w = {
        name: value.detach().double().requires_grad_() for name, value in SAE(learner.sae.config, learner.seed).named_parameters()
    }
    adam = torch.optim.Adam(w.values(), lr=recipe.lr, betas=(0.9, 0.999), eps=1e-8)
    for step, (x, y) in enumerate(batches):
        f = (x.double() @ w["W_enc"] + w["b_enc"]).relu()
        penalty = recipe.l1 * min(1, step / len(batches) / recipe.penalty_warmup)
        loss = ((y - f @ w["W_dec"] - w["b_dec"]).square().sum(1) + penalty * f @ w["W_dec"].norm(dim=1)).mean()
        adam.zero_grad()
        loss.backward()
        adam.param_groups[0]["lr"] = recipe.lr * min(1, (1 - step / len(batches)) / recipe.decay)
        adam.step()
    return {name: value.detach().float() for name, value in w.items()}


def test_training_is_the_steps_written_out() -> None:
    recipe = Recipe(clip=None, features=12, l1=0.3, penalty_warmup=0.5, decay=0.4)
    learner = Learner(recipe.config(IN, {}, TARGET, OUT), recipe, 3, CPU)
    pairs = [(drawn(32, IN, seed=number), 2 + drawn(32, OUT, seed=50 + number)) for number in range(10)]
    for step, pair in enumerate(pairs):
        learner.learn(torch.cat(pair, 1), step, len(pairs))
    for name, value in by_hand(recipe, learner, pairs).items():
        torch.testing.assert_close(learner.weights[name].detach(), value, rtol=1e-3, atol=2e-5, msg=name)


@pytest.mark.parametrize(
    "settings", [{"l1": 0.1}, {"kind": "topk", "k": 2}, {"kind": "batchtopk", "k": 1}, {"kind": "jumprelu"}, {"kind": "matryoshka", "k": 2, "prefixes": 2}]
)  # fmt: skip
def test_planted_features_are_found_in_the_models_own_units(settings: dict[str, Any]) -> None:
    """Both sides are scaled in the training, by different numbers; the result takes x and gives y as they are."""
    batches: Any = [planted(number) for number in range(800)]
    how: dict[str, Any] = {"tokens": 256 * 800, "features": 24, "measured": 2048, "lr": 3e-3, "progress": False}
    trained = train_sae(None, SOURCE, target=TARGET, activations=batches, **how, **settings)
    sae, test = trained[TARGET], planted(10_000, 4096)
    y, made = test[TARGET], sae(test[SOURCE])[0].detach()
    assert float(1 - (y - made).square().sum() / (y - y.mean(0)).square().sum()) > 0.9
    assert sae.config.node == TARGET and sae.config.provenance["node"] == SOURCE and list(map(str, trained)) == [TARGET]
    assert sae.config.provenance["target_scale"] < sae.config.provenance["scale"] / 10
    assert trained.last["explained_variance"].item() > 0.9, "the log is of what is predicted"


def test_pairs_of_a_model_of_tensors_and_of_stored_activations_train_the_same(tmp_path: Path) -> None:
    model = ct.load("bundled:gpt_neox")
    how: dict[str, Any] = {"tokens": 96, "features": 64, "progress": False}
    trained = train_sae(model, SOURCE, TEXTS, target=TARGET, batch=16, buffer=32, **how)
    stream = activations(model, [TARGET, SOURCE], TEXTS, tokens=96, batch=16, buffer=32)
    kept = store(stream, tmp_path / "kept", progress=False)
    several = [dict(batch) for batch, _ in zip(stream.batches(), range(6), strict=False)]
    for again in (
        train_sae(None, SOURCE, target=TARGET, activations=stream, **how),
        train_sae(None, SOURCE, target=TARGET, activations=several, **how),
        train_sae(None, SOURCE, target=TARGET, activations=iter(several), **how),
        train_sae(kept, SOURCE, target=TARGET, batch=16, buffer=32, **how),
    ):
        assert all(torch.equal(value, weights(again)[name]) for name, value in weights(trained).items())
    assert evaluate(model, trained, corpus(model, TEXTS), progress=False)["node"].tolist() == [TARGET]


def test_several_are_trained_together_and_families_are_pairs_of_as_many_nodes() -> None:
    model = ct.load("bundled:gpt_neox")
    trained = train_sae(
        model, ["resid[0]", "resid[1]"], TEXTS, target=["mlp[0]", "mlp[1]"], tokens=32, batch=16, features=8, progress=False
    )
    assert [(sae.config.provenance["node"], sae.config.target) for sae in trained.values()] == [
        ("resid[0]", "mlp[0]"),
        ("resid[1]", "mlp[1]"),
    ]
    with pytest.raises(ct.CircuitryError, match=r"got 5 nodes .* and 4 targets"):
        train_sae(model, "resid", TEXTS, target="mlp", tokens=32, progress=False)


def test_a_sweep_trains_what_is_trained_alone(tmp_path: Path) -> None:
    how: dict[str, Any] = {"target": TARGET, "tokens": 64, "features": 16, "batch": 16, "buffer": 32, "progress": False}
    model = ct.load("bundled:gpt_neox")
    swept = sweep(model, SOURCE, TEXTS, out=tmp_path / "run", l1=[1.0, 4.0], test=corpus(model, TEXTS, tokens=20), **how)
    for name, l1 in (("l1=1.0", 1.0), ("l1=4.0", 4.0)):
        alone = train_sae(model, SOURCE, TEXTS, l1=l1, **how)
        assert swept[name][TARGET].config.target == TARGET
        assert all(torch.equal(value, weights(alone)[key]) for key, value in weights(swept[name]).items())
    assert swept.frame["node"].tolist() == [TARGET] * 2 and swept.frame["recovered"].notna().all()
    drawn_pairs = {**how, "activations": [planted(k) for k in range(4)], "out": tmp_path / "other"}
    del drawn_pairs["batch"], drawn_pairs["buffer"]
    assert list(sweep(None, SOURCE, l1=[1.0, 4.0], **drawn_pairs)["l1=4.0"]) == [parse_node(TARGET)]


def test_the_command_line_sweeps_transcoders(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n\n\n".join(TEXTS * 3))
    settings = [word for setting in ("tokens=64", "expansion=1", "l1=1,4", "batch=16") for word in ("-o", setting)]
    asked = ["--target", TARGET, "--out", str(tmp_path / "run"), "--texts", str(tmp_path / "text.txt"), "--test-tokens", "20"]
    done = CliRunner().invoke(app, ["sweep", "bundled:gpt_neox", SOURCE, *asked, *settings, "--buffer", "32"])
    assert done.exit_code == 0 and TARGET in done.output, done.output


def test_a_folder_has_the_training_and_its_pairs(tmp_path: Path) -> None:
    how: dict[str, Any] = {"activations": [planted(k) for k in range(4)], "tokens": 1024, "features": 16, "progress": False}
    trained = train_sae(None, SOURCE, target=TARGET, out=tmp_path / "out", **how)
    again = Trained.load(tmp_path / "out")
    assert again[TARGET].config == trained[TARGET].config
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(trained).items())
    with pytest.raises(ct.CircuitryError, match="reads"):
        train_sae(None, TARGET, out=tmp_path / "out", **{**how, "activations": [batch[TARGET] for batch in how["activations"]]})


def test_a_restored_transcoder_continues_with_the_same_bits() -> None:
    recipe = Recipe(features=12, dead_after=64)
    batches = [torch.cat(list(planted(number, 32).values()), 1) for number in range(8)]
    whole, first, second = (Learner(recipe.config(IN, {}, TARGET, OUT), recipe, 3, CPU) for _ in range(3))
    for learner in (whole, first):
        learner.measure(batches)
        for step, batch in enumerate(batches[:4]):
            learner.learn(batch, step, 8)
    second.restore({name: value.clone() for name, value in first.tensors().items()})
    for step in range(4, 8):
        whole.learn(batches[step], step, 8)
        second.learn(batches[step], step, 8)
    assert float(whole.target_scale) != 1 and all(
        torch.equal(value, second.tensors()[name]) for name, value in whole.tensors().items()
    )


def test_a_dead_feature_is_pointed_from_what_is_read_to_the_error() -> None:
    recipe = Recipe(features=12, dead_after=64, revive="resample")
    learner = Learner(recipe.config(IN, {}, TARGET, OUT), recipe, 3, CPU)
    learner.learn(drawn(32, IN + OUT), 0, 9)
    learner.tokens_since_fired[:4] = 64
    x, error = torch.zeros(1, IN), torch.zeros(1, OUT)
    x[0, 3], error[0, 1] = 4.0, 9.0
    learner._resample(x, error, 0)
    writes, reads = learner.sae.W_dec[0].detach(), learner.sae.W_enc[:, 0].detach()
    torch.testing.assert_close((writes / writes.norm(), reads / reads.norm()), (error[0] / 9, x[0] / 4))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"nodes": TARGET, "target": SOURCE}, r"nothing flows from mlp\[1\] to resid\[1\]"),
        ({"nodes": [SOURCE, "resid[0]"], "target": TARGET}, r"got 2 nodes \(resid\[1\], resid\[0\]\) and 1 targets"),
        ({"nodes": ["resid[0]", SOURCE], "target": [TARGET, TARGET]}, "a target is named twice"),
        ({"nodes": SOURCE, "target": "logits"}, "logits cannot be collected"),
        ({"nodes": SOURCE, "target": "mpl[1]"}, "mlp"),
    ],
)
def test_mistakes_are_told(how: dict[str, Any], told: str) -> None:
    with pytest.raises(ct.CircuitryError, match=told):
        train_sae(ct.load("bundled:gpt_neox"), texts=TEXTS, tokens=32, progress=False, **how)


def test_activations_without_one_of_the_two_are_refused() -> None:
    with pytest.raises(ct.CircuitryError, match=r"the activations have no mlp\[1\]"):
        train_sae(None, SOURCE, target=TARGET, activations=[{parse_node(SOURCE): drawn(8, 4)}], tokens=8, progress=False)

    class Bare:
        def batches(self, start: int = 0) -> Any:
            yield {parse_node(SOURCE): drawn(8, 4), parse_node(TARGET): drawn(8, 4)}

    with pytest.raises(ct.CircuitryError, match="not on another stream"):
        train_sae(None, SOURCE, target=TARGET, activations=Bare(), tokens=8, progress=False)


def test_the_command_line_trains_and_evaluates(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n\n".join(TEXTS * 4))
    out, text = str(tmp_path / "out"), ["--texts", str(tmp_path / "text.txt")]
    train = [
        "train",
        "bundled:gpt_neox",
        SOURCE,
        "--target",
        TARGET,
        "--out",
        out,
        "--tokens",
        "256",
        "--batch",
        "32",
        "--expansion",
        "1",
    ]
    assert TARGET in CliRunner().invoke(app, [*train, *text], catch_exceptions=False).output
    said = CliRunner().invoke(app, ["evaluate", out, "--tokens", "64", *text], catch_exceptions=False).output
    assert TARGET in said and "explained_variance" in said
    (folder,) = Path(out).glob("*/cfg.json")
    assert (
        TARGET
        in CliRunner().invoke(app, ["evaluate", str(folder.parent), "--tokens", "64", *text], catch_exceptions=False).output
    )
