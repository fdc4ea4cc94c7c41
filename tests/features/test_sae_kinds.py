"""What SAEs of each kind learn, against the papers' losses and gradients written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from circuitry.features.sae import SAE, Recipe, train_sae
from circuitry.features.sae.learner import Learner
from circuitry.features.sae.objectives import OBJECTIVES
from support.planted import Planted, recovered

NODE = "resid[0]"
CPU = torch.device("cpu")
QUICK: dict[str, Any] = {"tokens": 128 * 500, "features": 24, "lr": 4e-3, "measured": 1024, "progress": False}
"""The settings with which so small a dictionary is found in so few steps."""
HOW: dict[str, dict[str, Any]] = {
    "relu": {"l1": 1.0},
    "topk": {"k": 2},
    "batchtopk": {"k": 2},
    "jumprelu": {"l0_penalty": 1.0},
    "matryoshka": {"k": 2, "prefixes": 2},
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def learner_of(seed: int = 3, features: int = 12, **settings: Any) -> Learner:
    recipe = Recipe(features=features, **settings)
    return Learner(recipe.config(6, {}), recipe, seed, CPU)


def gradients(learner: Learner, x: Tensor, done: float) -> dict[str, Tensor]:
    """The gradients of one step at which nothing moves."""
    learner.optimizer.step = lambda *_: None  # type: ignore[method-assign]
    learner.learn(x, round(100 * done), 100)
    return {name: value.grad.clone() for name, value in learner.weights.items() if value.grad is not None}


def test_every_kind_is_tested() -> None:
    assert HOW.keys() == OBJECTIVES.keys()


@pytest.mark.parametrize("kind", HOW)
def test_a_planted_dictionary_is_found_by_every_kind(kind: str) -> None:
    stream = Planted(width=10, batch=128)
    sae = train_sae(None, activations=stream, kind=kind, **QUICK, **HOW[kind])[NODE]
    truth = stream.directions(NODE)
    assert recovered(sae, truth) > 0.9 > 0.85 > recovered(SAE(sae.config), truth)
    x = torch.cat([stream.values(NODE, number) for number in range(10_000, 10_020)])
    reconstruction, features = sae(x)
    assert (x - reconstruction).square().sum() < 0.25 * (x - x.mean(0)).square().sum()
    assert 0.5 < float((features > 0).sum(1).double().mean()) < 4, "1.2 directions are in a token"


def jumprelu_by_hand(w: dict[str, Tensor], x: Tensor, penalty: float, width: float) -> dict[str, Tensor]:
    """Gradients of the mean loss of tokens by b_dec, b_enc and θ, one token and feature at a time.

    Equations 11 and 12 of Rajamanoharan et al. (2024): dJump/dθ = -θ/ε·K((z-θ)/ε) and dH/dθ = -1/ε·K((z-θ)/ε), K the
    rectangle of width 1.
    """
    theta = w["threshold"]
    z = x @ w["W_enc"] + w["b_enc"]
    found = {name: torch.zeros_like(w[name]) for name in ("b_dec", "b_enc", "threshold")}
    for t in range(len(x)):
        f = torch.stack([z[t, i] if z[t, i] > theta[i] else z[t, i] * 0 for i in range(len(theta))])
        error = f @ w["W_dec"] + w["b_dec"] - x[t]
        found["b_dec"] += 2 * error
        for i in range(len(theta)):
            by_f = 2 * error @ w["W_dec"][i]
            if z[t, i] > theta[i]:
                found["b_enc"][i] += by_f
            if abs(z[t, i] - theta[i]) < width / 2:
                by_theta = -theta[i] / width * by_f - penalty / width
                found["threshold"][i] += by_theta
    return {name: value / len(x) for name, value in found.items()}


def test_the_gradients_of_a_jumprelu_are_the_straight_through_estimates() -> None:
    learner = learner_of(kind="jumprelu", l0_penalty=0.7, bandwidth=0.4, clip=None, penalty_warmup=0.5, decoder="free")
    learner.weights["threshold"].data += 0.5 * drawn(12, seed=1)
    x = drawn(40, 6)
    w = {name: value.detach().double() for name, value in learner.weights.items()}
    wanted = jumprelu_by_hand(w, x.double(), 0.7 * 0.5, 0.4 * learner.sae.config.norm)
    found = gradients(learner, x, 0.25)
    inside = ((x @ w["W_enc"].float() + w["b_enc"].float() - w["threshold"].float()).abs() < 0.2 * learner.sae.config.norm).any(0)
    assert int(inside.sum()) > 0 and bool(((found["threshold"] != 0) == inside).all())
    for name, value in wanted.items():
        torch.testing.assert_close(found[name].double(), value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_batchtopk_keeps_the_greatest_of_the_batch() -> None:
    learner = learner_of(kind="batchtopk", k=3)
    x = drawn(32, 6)
    before = learner.sae.before(x).detach()
    features = learner.objective.activate(learner.sae, before)
    least = sorted(before.flatten().tolist())[-3 * 32]
    assert torch.equal(features, torch.where(before >= least, before, 0.0)) and int((features > 0).sum()) == 96
    assert len(set((features > 0).sum(1).tolist())) > 1, "tokens differ in how many they keep"


def test_a_batch_with_fewer_features_than_it_may_keep_keeps_them_all() -> None:
    learner = learner_of(kind="batchtopk", k=10)
    learner.sae.b_enc.data[:] = -1.0
    before = learner.sae.before(drawn(32, 6)).detach()
    assert torch.equal(learner.objective.activate(learner.sae, before), before.relu()) and int((before > 0).sum()) < 320


@pytest.mark.parametrize("kind", ["batchtopk", "matryoshka"])
def test_the_threshold_of_a_trained_batchtopk_keeps_k_on_average(kind: str) -> None:
    stream = Planted(width=10, batch=128, chance=0.3)
    sae = train_sae(None, activations=stream, kind=kind, **QUICK, **{**HOW[kind], "k": 3})[NODE]
    x = torch.cat([stream.values(NODE, number) for number in range(10_000, 10_020)])
    assert sae.config.kind == "jumprelu" and sae.config.k is None and sae.config.provenance["recipe"]["kind"] == kind
    assert sae.threshold[0].item() > 0 and bool((sae.threshold == sae.threshold[0]).all())
    assert float((sae.encode(x) > 0).sum(1).double().mean()) == pytest.approx(3, rel=0.05)


def test_the_threshold_is_a_mean_in_which_late_batches_weigh_most() -> None:
    learner = learner_of(kind="batchtopk", k=3)
    least, mean = [], 0.0
    for step in range(30):
        x = drawn(32, 6, seed=step)
        least.append(sorted(learner.sae.before(x).flatten().tolist())[-3 * 32])
        mean += (least[-1] - mean) * 10 / (step + 10)
        learner.learn(x, step, 30)
    assert learner.result({}).threshold[0].item() == pytest.approx(mean, rel=1e-5) and min(least) < mean < max(least)


def test_the_loss_of_a_matryoshka_is_that_of_every_prefix() -> None:
    learner = learner_of(kind="matryoshka", k=3, prefixes=3, clip=None, decoder="free")
    x = drawn(32, 6)
    w = {name: value.detach().double().requires_grad_() for name, value in learner.sae.named_parameters()}
    before = x.double() @ w["W_enc"] + w["b_enc"]
    f = torch.where(before >= before.flatten().sort().values[-96], before, 0.0)
    losses = [(x - f[:, :size] @ w["W_dec"][:size] - w["b_dec"]).square().sum(1).mean() for size in (3, 6, 12)]
    wanted = torch.autograd.grad(sum(losses, torch.zeros(())), list(w.values()))
    found = gradients(learner, x, 0.5)
    for name, value in zip(w, wanted, strict=True):
        torch.testing.assert_close(found[name].double(), value, rtol=1e-4, atol=1e-5, msg=name)
    report = learner.report()
    assert report["loss"] == pytest.approx(sum(loss.item() for loss in losses), rel=1e-5)
    whole = losses[-1] * len(x) / (x - x.mean(0)).double().square().sum()
    assert report["explained_variance"] == pytest.approx(1 - whole.item(), rel=1e-5), "of all features"


def test_a_resampled_jumprelu_gets_a_threshold_that_it_can_reach() -> None:
    learner = learner_of(kind="jumprelu", revive="resample", dead_after=64, resample_every=128)
    learner.sae.W_enc.data[:, :4] = 0
    learner.sae.threshold.data = torch.tensor([9.0] * 4 + [0.1] * 8)
    for step in range(4):
        for moments in learner.optimizer.state.values() if step == 3 else ():
            moments["exp_avg"] += 1
        learner.learn(drawn(32, 6, seed=step), step, 10)
    torch.testing.assert_close(learner.sae.threshold[:4], 0.2 * learner.sae.threshold[4:].mean().expand(4))
    moments = learner.optimizer.state[learner.sae.threshold]
    assert not moments["exp_avg"][:4].any() and moments["exp_avg"][4:].all()


def test_thresholds_stay_outside_the_scale_of_a_training() -> None:
    """A trained jumprelu takes activations as they are."""
    learner = learner_of(kind="jumprelu")
    x = 100 * drawn(64, 6)
    learner.measure([x])
    inside = learner.objective.activate(learner.sae, learner.sae.before(x * float(learner.scale)))
    torch.testing.assert_close(learner.result({}).encode(x), inside.relu(), rtol=1e-4, atol=1e-4)
