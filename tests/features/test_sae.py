"""Sparse autoencoders: the function, its start, what training does, and that it finds what was planted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import circuitry as ct
from circuitry.features.activations import activations
from circuitry.features.sae import SAE, Recipe, SAEConfig, train_sae
from circuitry.features.sae.learner import Learner
from circuitry.paths import parse_node
from support.planted import Planted, weights

NODE = "resid[0]"
CPU = torch.device("cpu")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def filled(config: SAEConfig) -> SAE:
    """An SAE whose weights are all there to be noticed."""
    sae = SAE(config, seed=1)
    for number, value in enumerate(sae.parameters()):
        value.data += 0.1 * drawn(*value.shape, seed=number)
    return sae


def test_the_start_is_that_of_the_papers_appendix() -> None:
    sae = SAE(SAEConfig(width=32, features=1024))
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.tensor((2 * 32 / 1024) ** 0.5))
    assert torch.equal(sae.W_enc, sae.W_dec.T) and not sae.b_enc.any() and not sae.b_dec.any()
    x = drawn(512, 32)
    made, features = sae(x)
    assert (x - made).square().sum() < 0.1 * x.square().sum()
    assert 0.45 < float((features > 0).float().mean()) < 0.55
    # Of uniform numbers the greatest is √3 times a typical one, of as many normal numbers it would be 4 times.
    assert (sae.W_dec.abs().max() / sae.W_dec.square().mean().sqrt()).item() < 3
    assert not torch.equal(SAE(sae.config, seed=1).W_dec, sae.W_dec)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("kind", ["relu", "topk", "jumprelu"])
def test_the_function_is_what_it_says(kind: str, centred: bool) -> None:
    sae = filled(SAEConfig(5, 9, kind, 3 if kind == "topk" else None, centred))
    w = {name: value.detach().double().numpy() for name, value in sae.named_parameters()}
    x = drawn(4, 7, 5)
    before = (x.double().numpy() - centred * w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    features = np.maximum(before, 0)
    if kind == "topk":
        features *= before >= np.sort(before, -1)[..., -3:-2]
    elif kind == "jumprelu":
        features *= before > w["threshold"]
    made, found = sae(x)
    np.testing.assert_allclose(found.detach(), features, atol=1e-5)
    np.testing.assert_allclose(made.detach(), features @ w["W_dec"] + w["b_dec"], atol=1e-5)
    assert np.count_nonzero(features) and (kind == "relu" or np.count_nonzero(features) < np.count_nonzero(before > 0))


@settings(max_examples=30)
@given(st.floats(0.01, 100), st.sampled_from(["relu", "topk", "jumprelu"]), st.booleans())
def test_a_scale_is_folded_into_the_weights(scale: float, kind: str, centred: bool) -> None:
    sae = filled(SAEConfig(5, 9, kind, 3 if kind == "topk" else None, centred))
    x = drawn(20, 5)
    inside, features = sae(x)
    made, found = sae.scaled(scale)(x / scale)
    torch.testing.assert_close(found, features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made * scale, inside, rtol=1e-4, atol=1e-4)


def test_directions_of_norm_1_reconstruct_the_same() -> None:
    sae = filled(SAEConfig(5, 9))
    x, unit = drawn(20, 5), sae.unit()
    torch.testing.assert_close(unit(x)[0], sae(x)[0])
    torch.testing.assert_close(unit(x)[1], sae(x)[1] * sae.W_dec.norm(dim=1))
    torch.testing.assert_close(unit.W_dec.norm(dim=1), torch.ones(9))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: SAEConfig(4, 8, "tokp"), "did you mean 'topk'"),
        (lambda: SAEConfig(0, 8), "must be at least 1, got width=0 and features=8"),
        (lambda: SAEConfig(4, 8, "topk", 9), "from 1 to 8"),
        (lambda: SAE.of(SAEConfig(4, 8), SAE(SAEConfig(4, 9)).state_dict()), "weights of this relu SAE"),
        (lambda: Recipe.of(l_1=2.0), "did you mean 'l1'"),
        (lambda: Recipe.of("papre"), "unknown recipe 'papre'; did you mean 'paper'"),
        (lambda: Recipe(kind="gated"), "batchtopk, jumprelu, matryoshka, relu, topk"),
        (lambda: Recipe(kind="matryoshka", features=12).config(4, {}), "12 features cannot be halved 4 times"),
        (lambda: Recipe(revive="ressample"), "did you mean 'resample'"),
        (lambda: Recipe(decoder="unit"), "fixed, free, weighted"),
        (lambda: Recipe(decay=1.5), "fraction of the steps"),
        (lambda: Recipe(tokens=0), "more than 0"),
        (lambda: train_sae(None, NODE), "a model and its nodes"),
        (lambda: train_sae(None, activations=[drawn(8, 4)]), "the one node"),
        (lambda: train_sae(None, NODE, activations=[]), "nothing to train on"),
        (lambda: train_sae(None, NODE, activations=cast(Any, "text")), "to train on, got str"),
        (lambda: train_sae(None, NODE, activations=[drawn(8, 4)] * 3, tokens=32, progress=False), "ended after 24 of 32"),
    ],
)
def test_mistakes_are_told(make: Any, told: str) -> None:
    with pytest.raises(ct.CircuitryError, match=told):
        make()


def by_hand(recipe: Recipe, learner: Learner, batches: list[Tensor]) -> dict[str, Tensor]:
    """The weights after one step on each batch, written out from the paper: Adam, reconstruction and L1, no more."""
    sae = SAE(learner.sae.config, learner.seed)
    w = {name: value.detach().double().requires_grad_() for name, value in sae.named_parameters()}
    moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in w.items()}
    for step, x in enumerate(batches):
        done = step / len(batches)
        before = x.double() @ w["W_enc"] + w["b_enc"]
        if recipe.kind == "topk":
            before = torch.where(before >= before.sort(dim=1).values[:, -recipe.k, None], before, 0)
        f = before.clamp(min=0)
        weight = {"weighted": w["W_dec"].norm(dim=1), "fixed": torch.tensor(sae.config.norm), "free": torch.tensor(1.0)}[
            recipe.bound
        ]
        penalty = recipe.l1 * min(1, done / recipe.penalty_warmup) if recipe.kind == "relu" else 0
        loss = (x - f @ w["W_dec"] - w["b_dec"]).square().sum(1).mean() + penalty * (f * weight).sum(1).mean()
        gradients = dict(zip(w, torch.autograd.grad(loss, list(w.values())), strict=True))
        if recipe.bound == "fixed":
            unit = torch.nn.functional.normalize(w["W_dec"].detach(), dim=1)
            gradients["W_dec"] = gradients["W_dec"] - (gradients["W_dec"] * unit).sum(1, keepdim=True) * unit
        lr = recipe.lr * min(1, (1 - done) / recipe.decay)
        for name, value in w.items():
            first, second = moments[name]
            first += 0.1 * (gradients[name] - first)
            second += 0.001 * (gradients[name] ** 2 - second)
            along = first / (1 - 0.9 ** (step + 1)) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
            value.data -= lr * along
        if recipe.bound == "fixed":
            w["W_dec"].data = torch.nn.functional.normalize(w["W_dec"].data, dim=1) * sae.config.norm
    return {name: value.detach().float() for name, value in w.items()}


@pytest.mark.parametrize("decoder", ["weighted", "fixed", "free"])
@pytest.mark.parametrize("kind", ["relu", "topk"])
def test_training_is_the_papers_steps_written_out(kind: str, decoder: str) -> None:
    recipe = Recipe(kind=kind, decoder=decoder, clip=None, k=3, features=12, l1=0.3, penalty_warmup=0.5, decay=0.4)
    learner = Learner(recipe.config(6, {}), recipe, 3, CPU)
    batches = [drawn(32, 6, seed=number) for number in range(10)]
    for step, x in enumerate(batches):
        learner.learn(x, step, len(batches))
    for name, value in by_hand(recipe, learner, batches).items():
        torch.testing.assert_close(learner.weights[name].detach(), value, rtol=1e-3, atol=2e-5, msg=name)


def test_what_the_paper_says_is_the_default_apart_from_clipping() -> None:
    recipe = Recipe()
    assert (recipe.kind, recipe.expansion, recipe.lr, recipe.revive) == ("relu", 32, 8e-4, None)
    assert (recipe.clip, Recipe.of("paper").clip) == (1.0, None) and Recipe.of("paper", clip=1.0) == recipe
    assert recipe.config(768, {}) == SAEConfig(768, 24576) and not recipe.config(768, {}).centred
    (adam,) = Learner(SAEConfig(4, 8), recipe, 0, CPU).optimizer.param_groups
    assert (adam["betas"], adam["eps"], adam["lr"], adam["weight_decay"]) == ((0.9, 0.999), 1e-8, 8e-4, 0)


def test_rates_rise_and_fall_when_they_should() -> None:
    recipe = Recipe(warmup=0.1, decay=0.2, penalty_warmup=0.5, lr=1.0)
    assert [round(recipe.rate(done), 6) for done in (0, 0.05, 0.1, 0.8, 0.9)] == [0, 0.5, 1, 1, 0.5]
    assert [recipe.rise(done) for done in (0, 0.25, 0.5, 1)] == [0, 0.5, 1, 1]
    assert Recipe(warmup=0, decay=0, penalty_warmup=0, lr=1.0).rate(0) == Recipe(warmup=0, decay=0, lr=1.0).rate(1) == 1


def test_the_gradient_of_one_sae_is_clipped() -> None:
    seen = {}
    for clip in (None, 1e-3):
        learner = Learner(SAEConfig(6, 12), Recipe(clip=clip), 0, CPU)
        learner.learn(drawn(32, 6), 5, 10)
        seen[clip] = float(torch.cat([w.grad.flatten() for w in learner.weights.values() if w.grad is not None]).norm())
    assert seen[1e-3] == pytest.approx(1e-3, rel=1e-3) and (seen[None] or 0) > 0.1


def test_normalisation_stays_inside() -> None:
    """Of activations 1000 times as great come the same features."""
    how: dict[str, Any] = {"tokens": 64 * 30, "features": 24, "measured": 512, "progress": False}
    small, great = (train_sae(None, activations=Planted(size=size), **how)[NODE] for size in (1.0, 1000.0))
    x = Planted().values(NODE, 999)
    torch.testing.assert_close(great.encode(1000 * x), small.encode(x), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(great(1000 * x)[0] / 1000, small(x)[0], rtol=1e-3, atol=1e-3)
    scale = small.config.provenance["scale"]
    assert scale * torch.cat([Planted().values(NODE, n) for n in range(8)]).norm(dim=1).mean() == pytest.approx(8**0.5, rel=1e-5)
    without = {name: value for name, value in how.items() if name != "measured"}
    plain = train_sae(None, activations=Planted(size=1000.0), normalise=False, **without)[NODE]
    assert plain.config.provenance["scale"] == 1 and not torch.allclose(plain.encode(1000 * x), small.encode(x), atol=1e-1)


def test_predicting_the_mean_explains_no_variance() -> None:
    learner = Learner(SAEConfig(6, 12), Recipe(lr=1e-30), 0, CPU)
    batches = [drawn(64, 6, seed=number) + 10 for number in range(4)]
    for weight in learner.weights.values():
        weight.data.zero_()
    learner.sae.b_dec.data = torch.cat(batches).mean(0)
    for step, x in enumerate(batches):
        learner.learn(x, step, 4)
    told = learner.report()
    assert abs(told["explained_variance"]) < 1e-6 and told["l0"] == 0
    assert told["loss"] == pytest.approx(
        float((torch.cat(batches) - torch.cat(batches).mean(0)).square().sum(1).mean()), rel=1e-5
    )


def silent(revive: str | None) -> Learner:
    """A learner of which features 0 to 3 never fire, in a step or two after they count as dead."""
    learner = Learner(SAEConfig(6, 12), Recipe(revive=revive, dead_after=64, resample_every=128, l1=0.0), 0, CPU)
    learner.sae.W_enc.data[:, :4] = 0
    learner.sae.b_enc.data[:4] = -1e-3
    return learner


def test_dead_features_are_those_silent_for_the_window() -> None:
    learner = silent(None)
    shares = []
    for step in range(3):
        learner.learn(drawn(32, 6, seed=step), step, 10)
        shares.append(learner.report()["dead"])
    assert (
        shares == [0, 4 / 12, 4 / 12]
        and learner.tokens_since_fired.tolist()[:4] == [96] * 4
        and not learner.tokens_since_fired[4:].any()
    )
    assert not learner.optimizer.state[learner.sae.b_enc]["exp_avg"][:4].any()


def test_dead_features_are_resampled_towards_the_error() -> None:
    learner = silent("resample")
    for step in range(4):
        for moments in learner.optimizer.state.values() if step == 3 else ():
            moments["exp_avg"] += 1  # as if all had moved before
            moments["exp_avg_sq"] += 1
        learner.learn(drawn(32, 6, seed=step), step, 10)
    alive = learner.sae.W_dec[4:].norm(dim=1).mean()
    torch.testing.assert_close(learner.sae.W_dec[:4].norm(dim=1), alive.expand(4))
    assert torch.cosine_similarity(learner.sae.W_enc.T[:4], learner.sae.W_dec[:4]).min() > 0.999
    state = learner.optimizer.state[learner.sae.W_dec]
    assert not state["exp_avg"][:4].any() and state["exp_avg"][4:].all() and not learner.tokens_since_fired.any()
    assert not learner.optimizer.state[learner.sae.W_enc]["exp_avg"][:, :4].any()
    for step in range(4, 6):
        learner.learn(drawn(32, 6, seed=step), step, 10)
    assert learner.report()["dead"] == 0


def test_features_are_not_resampled_once_the_learning_rate_falls() -> None:
    """What would be new then could not be learned any more."""
    learner = silent("resample")
    for step in range(6, 10):
        learner.learn(drawn(32, 6, seed=step), step + 2, 12)
        learner.sae.b_enc.data[:4] = -10
    assert learner.recipe.decay == 0.2 and (learner.tokens_since_fired[:4] == 128).all()


def test_numbers_of_numpy_are_numbers() -> None:
    made = Recipe.of(tokens=np.int64(5), l1=np.float32(2.5), normalise=np.bool_(False))
    assert (made.tokens, made.l1, made.normalise) == (5, 2.5, False) and type(made.tokens) is int


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"l1": "abc"}, "l1 is 'abc'; it must be a number"),
        ({"lr": None}, "lr is None; it must be a number"),
        ({"normalise": "no"}, "normalise is 'no'; it must be true or false"),
        ({"tokens": True}, "tokens is True; it must be a whole number"),
        ({"kind": "topk", "k": 0}, "k is 0; it must be more than 0"),
        ({"clip": "x"}, "clip is 'x'; it must be a number or none"),
        ({"revive": "auxiliary"}, "the auxiliary loss is for topk"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused_before_a_folder_is_made(settings: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(ct.CircuitryError, match=told):
        train_sae(None, NODE, activations=[torch.ones(8, 4)], out=tmp_path / "run", **settings)
    with pytest.raises(ct.CircuitryError, match="a topk SAE needs k from 1 to 8"):
        train_sae(None, NODE, activations=[torch.ones(8, 4)], out=tmp_path / "run", kind="topk", k=9, features=8)
    assert not (tmp_path / "run").exists()


def test_the_auxiliary_loss_is_what_dead_features_leave_unexplained() -> None:
    recipe = Recipe(kind="topk", k=2, revive="auxiliary", dead_after=64, auxiliary=0.5)
    learner = Learner(SAEConfig(6, 12, "topk", 2), recipe, 0, CPU)
    learner.tokens_since_fired[:4] = 64
    x = drawn(32, 6)
    with torch.no_grad():
        before = learner.sae.before(x)
        error = x - learner.sae.decode(learner.sae.activate(before))
    top = before[:, :4].clamp(min=0).topk(3, dim=1)
    f = torch.zeros(32, 4).scatter(1, top.indices, top.values)
    wanted = 0.5 * (error - f @ learner.sae.W_dec[:4].detach()).square().sum()
    found = learner._auxiliary(before, error)
    torch.testing.assert_close(torch.as_tensor(found).detach(), wanted)
    learner.tokens_since_fired[:] = 0
    assert learner._auxiliary(before, error) == 0
    plain = Learner(SAEConfig(6, 12, "topk", 2), Recipe(kind="topk", k=2, dead_after=64), 0, CPU)
    plain.tokens_since_fired[:4] = 64
    assert plain._auxiliary(before, error) == 0


def test_nodes_trained_together_are_as_if_alone() -> None:
    how: dict[str, Any] = {"tokens": 640, "features": 16, "measured": 128, "progress": False}
    both = train_sae(None, activations=Planted((NODE, "mlp[0]")), **how)
    alone = train_sae(None, activations=Planted((NODE,)), **how)
    assert [str(node) for node in both] == [NODE, "mlp[0]"]
    assert all(torch.equal(value, weights(both)[name]) for name, value in weights(alone).items())
    assert not torch.equal(both[NODE].W_enc, both["mlp[0]"].W_enc)
    with pytest.raises(KeyError, match="there are resid"):
        both["mlp[1]"]


def test_tensors_of_any_kind_are_taken() -> None:
    how: dict[str, Any] = {"tokens": 64 * 6, "features": 16, "measured": 128, "progress": False}
    batches = [Planted().values(NODE, number) for number in range(6)]

    def one_by_one() -> Iterator[Tensor]:
        yield from batches

    class Bare:
        """A stream that says nothing of itself."""

        def batches(self, start: int = 0) -> Iterator[dict[Any, Tensor]]:
            yield from ({parse_node(NODE): batch} for batch in batches[start:])

    wanted = weights(train_sae(None, activations=Planted(), **how))
    kinds: list[Any] = [batches, one_by_one(), torch.stack(batches), [{NODE: batch} for batch in batches], Bare()]
    for given_ in kinds:
        found = weights(train_sae(None, NODE, activations=given_, **how))
        assert all(torch.equal(value, found[name]) for name, value in wanted.items()), given_


def test_a_models_nodes_are_trained_from_one_stream() -> None:
    model = ct.load("bundled:gpt_neox")
    text = ["The keys to the cabinet are on the table, and the cabinet is in the hall."] * 4
    trained = train_sae(model, ["resid[1]", "head[0,1]"], text, tokens=96, batch=16, buffer=32, expansion=2, progress=False)
    provenance = trained["head[0,1]"].config.provenance
    assert [(str(node), sae.config.width, sae.config.features) for node, sae in trained.items()] == [
        ("resid[1]", 128, 256),
        ("head[0,1]", 32, 64),
    ]
    assert (provenance["model"], provenance["node"], provenance["dtype"], provenance["batch"]) == (
        "bundled:gpt_neox",
        "head[0,1]",
        "float32",
        16,
    )
    assert provenance["recipe"]["l1"] == Recipe().l1 and provenance["text"] and provenance["versions"]["torch"]
    stream = activations(model, ["resid[1]", "head[0,1]"], text, tokens=96, batch=16, buffer=32)
    assert provenance["corpus"] == stream.corpus.digest
    again = train_sae(None, activations=stream, tokens=96, expansion=2, progress=False)
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(trained).items())


def test_the_log_is_a_table() -> None:
    trained = train_sae(None, activations=Planted((NODE, "mlp[0]"), batch=32), tokens=32 * 250, features=16, progress=False)
    log = trained.log
    assert list(log) == ["step", "tokens", "node", "loss", "l0", "explained_variance", "dead"]
    assert log["step"].max() == 250 and len(log) == 2 * 125 and (log["tokens"] == 32 * log["step"]).all()
    assert list(trained.last["node"]) == [NODE, "mlp[0]"] and log.notna().all(axis=None)
    first, last = (log[log["node"] == NODE].iloc[at] for at in (0, -1))
    assert last["explained_variance"] > 0.5 and last["l0"] < first["l0"]


def test_batches_come_in_order() -> None:
    stream = Planted()
    assert torch.equal(next(stream.batches(3))[parse_node(NODE)], list(islice(stream.batches(), 4))[3][parse_node(NODE)])
