"""Whether matched features do the same: in constructed models, where the answer is known, and what the analysis refuses."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import circuitry as ct
from circuitry.autoencoders import SAE, SAEConfig
from circuitry.errors import CircuitryError
from circuitry.features.matching import Matches, mppc
from circuitry.features.matching.encode import encode
from circuitry.studies.causal import Causal, causal
from circuitry.studies.causal.agreement import Effects, agreement, by_features, by_prompts, ceiling
from circuitry.studies.causal.pairs import random_pairs
from circuitry.studies.causal.sides import Side
from circuitry.studies.causal.text import Firing
from support import acting
from support.acting import NODE, planted

METRIC = "logit_difference"
_BIN = "0.95 to 1"


@pytest.fixture(scope="module")
def matches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Matches]:
    """A's features in B, in A itself, and in A with its latents in another order."""
    folder = tmp_path_factory.mktemp("features")
    sides = {"A": planted("A"), "B": planted("B"), "seed": planted("A", 1)}
    acts = {name: encode(side.model, side.saes, acting.text(), folder / name, progress=False) for name, side in sides.items()}
    return {name: mppc(acts["A"], other, progress=False) for name, other in acts.items()}


def run(every: dict[str, Matches], name: str = "B", **changes: Any) -> Causal:
    """A with another side; ``every`` has the matches by its name."""
    other = planted(name)
    asked: dict[str, Any] = {"saes_a": planted("A").saes, "saes_b": other.saes, "metric": METRIC, **changes}
    task = asked.pop("task", acting.task())
    return causal(planted("A").model, other.model, asked.pop("matches", every[name]), task, **asked)


@pytest.fixture(scope="module")
def found(matches: dict[str, Matches]) -> Causal:
    seed = planted("A", 1)
    return run(matches, skylines={"SAE seed": (seed.model, seed.saes, matches["seed"])})


def back(found: pd.DataFrame) -> list[int]:
    """How many places back the features of A in a table look."""
    return [planted("A").features[latent][0] for latent in found["feature_a"]]


@pytest.mark.parametrize("intervention", ["resample", "zero"])
def test_exactly_the_features_that_act_in_one_model_act_differently(matches: dict[str, Matches], intervention: str) -> None:
    found = run(matches, intervention=intervention)
    alike = found.frame[(found.frame["comparison"] == "architecture") & (found.frame["mppc"] > 0.95)]
    if intervention == "resample":  # other tokens are the same in both prompts
        assert {planted("A").features[latent][1] for latent in alike["feature_a"]} == set(acting.active(intervention))
    assert {planted("B").features[b] for b in alike["feature_b"]} == {planted("A").features[a] for a in alike["feature_a"]}
    truth = {(k, token) for k in acting.DIFFER for token in acting.active(intervention)}
    assert {planted("A").features[latent] for latent in found.differing["feature_a"]} == truth
    both = alike[(alike["effect_a"] > 0.02) & (alike["effect_b"] > 0.02)]
    agreeing = {(k, token) for k in acting.AGREE for token in acting.active(intervention)}
    assert {planted("A").features[latent] for latent in both["feature_a"]} == agreeing
    assert both["difference"].abs().max() < 1e-5
    assert not {4, 5} & set(back(alike)), "features that one model does not have fire like no other"


def test_another_seed_of_the_autoencoder_agrees_and_random_pairs_do_not(found: Causal) -> None:
    pearson = found.agreement.query("measure == 'Pearson' and bin == 'all'").set_index("comparison")["value"]
    assert pearson["SAE seed"] == pytest.approx(1, abs=1e-6)
    assert pearson["random pairs"] < 0.9 and pearson["architecture"] < 0.9


def test_a_model_agrees_with_itself(matches: dict[str, Matches]) -> None:
    values = run(matches, "A").agreement.query("comparison == 'architecture'")
    assert np.allclose(values[["value", "prompts_low", "prompts_high"]], 1)
    assert np.allclose(values[["features_low", "features_high"]].dropna(), 1)
    assert run(matches, "A").differing.empty


@pytest.mark.parametrize("at", [None, "END"])
@pytest.mark.parametrize("intervention", ["resample", "zero"])
def test_effects_are_those_of_patch(matches: dict[str, Matches], intervention: str, at: str | None) -> None:
    found = run(matches, intervention=intervention, at=at)
    for side, effects in (("a", found.main.effects_a), ("b", found.main.effects_b)):
        model, latents = planted(side.upper()).model, found.main.pairs[f"feature_{side}"].tolist()
        where = f" @ {at}" if at else ""
        model.attach(planted(side.upper()).saes)
        table = ct.patch(
            model, acting.task(), f"{NODE}.latent[{{latent}}]{where} -> logits", axes={"latent": sorted(set(latents))},
            intervention=intervention, metric=METRIC, baseline=0,
        )  # fmt: skip
        model.detach()
        rows = [list(table.mean().index).index(latent) for latent in latents]
        np.testing.assert_allclose(effects.effect, table.values()[rows], atol=1e-3)
        np.testing.assert_allclose(effects.mean, table.normalized().to_numpy()[rows], atol=2e-6)


def test_models_keep_what_was_attached_to_them(matches: dict[str, Matches]) -> None:
    model, own = planted("A").model, {"resid[2]": SAE(SAEConfig(planted("A").saes[NODE].config.width, 8))}
    try:
        before = model.attach(own).saes
        run(matches)
        assert model.saes is before and list(model.graph.terms.latents) == list(before)
    finally:
        model.detach()


def test_attached_autoencoders_are_taken(matches: dict[str, Matches], found: Causal) -> None:
    sides = planted("A"), planted("B")
    try:
        for side in sides:
            side.model.attach(side.saes)
        again = run(matches, saes_a=None, saes_b=None)
    finally:
        for side in sides:
            side.model.detach()
    pd.testing.assert_frame_equal(again.main.pairs, found.main.pairs)


def test_random_features_fire_about_as_often_and_can_be_patched(matches: dict[str, Matches]) -> None:
    a, b = (Side.of(planted(name).model, planted(name).saes, matches["B"], name.lower()) for name in "AB")
    counts = np.arange(100) * 10
    reverse = pd.DataFrame({"layer_a": 0, "feature_a": np.arange(100), "count_a": counts})
    size = [np.where(np.arange(100) % 2, 1.0, 0.0)]
    pairs = pd.DataFrame({"node_a": NODE, "feature_a": [0], "node_b": NODE, "feature_b": [51], "count_a": [500], "bin": _BIN})
    drawn = pd.concat([random_pairs(pairs, reverse, b, size, seed) for seed in range(40)])
    assert len(drawn["feature_b"].unique()) > 8 and 51 not in set(drawn["feature_b"])
    assert set(drawn["feature_b"] % 2) == {1} and drawn["count_b"].between(250, 800).all() and drawn["mppc"].isna().all()
    assert a.nodes == b.nodes


def test_a_finished_run_is_read_back_and_a_killed_one_resumes(
    matches: dict[str, Matches], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from circuitry.studies.causal import measure

    patched: list[str] = []

    def patch(model: ct.Model, *arguments: Any, killed: bool = False, **options: Any) -> Any:
        if killed and patched:
            raise KeyboardInterrupt
        patched.append(model.name)
        return ct.patch(model, *arguments, **options)

    monkeypatch.setattr(measure, "patch", functools.partial(patch, killed=True))
    with pytest.raises(KeyboardInterrupt):
        run(matches, out=tmp_path)
    monkeypatch.setattr(measure, "patch", patch)
    found = run(matches, out=tmp_path)
    assert patched == ["A", "B"], "what was measured before the kill is not measured again"
    again = run(matches, out=tmp_path)
    assert patched == ["A", "B"] and again.text() == found.text()
    pd.testing.assert_frame_equal(again.frame, found.frame)
    pd.testing.assert_frame_equal(again.agreement, found.agreement)
    assert len(list(tmp_path.iterdir())) == 1
    run(matches, out=tmp_path, task=acting.task(seed=1))
    assert len(list(tmp_path.iterdir())) == 2


def test_everything_is_written(found: Causal, tmp_path: Path) -> None:
    folder = found.save(tmp_path / "run")
    tables = {file.name for file in (folder / "tables").iterdir()}
    assert tables == {
        "effects.parquet", "pairs.parquet", *(f"{n}.{end}" for n in ("pairs", "agreement", "differing") for end in ("csv", "md"))
    }  # fmt: skip
    assert {file.suffix for file in (folder / "figures").iterdir()} == {".png", ".svg"}
    page = (folder / "causal.html").read_text()
    assert "act differently" in page and page.count('<div class="paper scroll"><svg') == 1
    assert pd.read_csv(folder / "tables" / "differing.csv")["feature_a"].tolist() == found.differing["feature_a"].tolist()
    assert Causal.load(folder).text() == found.text()
    with pytest.raises(CircuitryError, match=r"no readable causal\.json"):
        Causal.load(tmp_path)


def test_what_cannot_be_compared_is_refused(matches: dict[str, Matches]) -> None:
    own, other = planted("A"), planted("B")
    wide = own.saes[NODE].config.width
    with pytest.raises(CircuitryError, match=r"A has no autoencoders; attach those"):
        run(matches, saes_a=None)
    with pytest.raises(CircuitryError, match=r"features of resid\[1\] were matched, but the autoencoders of A are of resid\[2\]"):
        run(matches, saes_a={"resid[2]": own.saes[NODE]})
    with pytest.raises(CircuitryError, match="is not the one whose features were matched"):
        run(matches, saes_a={NODE: SAE(SAEConfig(wide, own.saes[NODE].config.features))})
    with pytest.raises(CircuitryError, match="at least two prompts to compare effects on, got 1"):
        run(matches, task=acting.task(examples=1))
    none = Matches(matches["B"].forward.assign(mppc=np.nan), matches["B"].reverse, matches["B"].provenance)
    with pytest.raises(CircuitryError, match="no feature has a match"):
        run(matches, matches=none)
    with pytest.raises(CircuitryError, match="a model with other weights than B"):
        causal(own.model, other.model, matches["A"], acting.task(), saes_a=own.saes, saes_b=own.saes)
    unnamed = mppc(np.eye(30)[:, :20], np.eye(30)[:, :20], min_count=1, null=None, progress=False)
    with pytest.raises(CircuitryError, match=r"layers of \[20\] features, the autoencoders of A have \[56\]"):
        run(matches, matches=unnamed)


def test_models_with_different_tokenizers_are_refused(matches: dict[str, Matches]) -> None:
    mamba, task = ct.load("bundled:mamba"), acting.task()
    saes, acts = {"resid[1]": SAE(SAEConfig(128, 56))}, np.random.default_rng(0).random((60, 56))
    unnamed = mppc(acts, acts, null=None, progress=False)
    with pytest.raises(CircuitryError, match="bundled:mamba has another tokenizer than A"):
        causal(planted("A").model, mamba, unnamed, task, saes_a=planted("A").saes, saes_b=saes)


def test_correlations_are_those_of_scipy_under_any_resampling() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(-3, 4, (2, 25)).astype(float)
    drawn = rng.integers(0, 25, (50, 25))
    weights = np.stack([np.bincount(row, minlength=25) for row in drawn]) / 25
    ours = agreement(x[None], y[None], weights)
    for row, values in zip(drawn, ours, strict=True):
        a, b = x[row], y[row]
        acting_pairs = (a != 0) | (b != 0)
        truth = stats.pearsonr(a, b)[0], stats.spearmanr(a, b)[0], (np.sign(a) == np.sign(b))[acting_pairs].mean()
        np.testing.assert_allclose(values, truth)
    np.testing.assert_allclose(agreement(x[None], y[None])[0, :2], [stats.pearsonr(x, y)[0], stats.spearmanr(x, y)[0]])


def test_intervals_over_features_cover_the_correlation_that_pairs_are_drawn_with() -> None:
    rng, truth, inside = np.random.default_rng(0), 0.6, 0
    for _ in range(60):
        x, noise = rng.normal(size=(2, 60))
        effects = [Effects(np.repeat(values[:, None], 2, 1), np.ones(2)) for values in (x, truth * x + 0.8 * noise)]
        _, low, high = by_features(*effects)
        inside += low[0] <= truth <= high[0]
    assert inside >= 51  # of 57 expected; fewer than 51 in one case of a hundred


@pytest.mark.parametrize("noise", [0.5, 2.0, 6.0])
def test_noise_lowers_a_correlation_by_the_ceiling(noise: float) -> None:
    rng, prompts = np.random.default_rng(0), 32
    x, other = rng.normal(size=(2, 3000))
    y = 0.6 * x + 0.8 * other
    a, b = (Effects(true[:, None] + noise * rng.normal(size=(3000, prompts)), np.ones(prompts)) for true in (x, y))
    measured = agreement(a.mean[None], b.mean[None])[0, 0]
    assert measured == pytest.approx(ceiling(a, b) * stats.pearsonr(x, y)[0], abs=0.03)
    assert ceiling(a, b) == pytest.approx(1 / (1 + noise**2 / prompts), abs=0.03)


def test_intervals_over_prompts_shrink_with_prompts_and_ignore_the_number_of_pairs() -> None:
    rng, widths = np.random.default_rng(0), {}
    true = rng.normal(size=(200, 1))
    for prompts in (8, 128):
        a, b = (Effects(true + 3 * rng.normal(size=(200, prompts)), np.ones(prompts)) for _ in range(2))
        _, low, high = by_prompts(a, b)
        widths[prompts] = high[0] - low[0]
    assert widths[128] < 0.6 * widths[8]


def test_on_text_each_pair_is_ablated_where_its_first_feature_fires(matches: dict[str, Matches]) -> None:
    found = run(matches, metric=None, task=acting.text(), prompts=12, top=100)
    a, side = planted("A"), found.main
    text = acting.text()
    assert set(back(side.pairs)) == {1, 2, 3, 4} and len(side.pairs) == 56 and len(side.effects_a.whole) == 12
    places, moved = np.array(back(side.pairs)), {"a": np.abs(side.effects_a.mean), "b": np.abs(side.effects_b.mean)}
    for letter, adds in (("a", acting.ADDS["A"]), ("b", acting.ADDS["B"])):
        read = [moved[letter][places == k].mean() for k in (1, 2, 3)]
        assert [mean > 0.1 for mean in read] == [k in adds for k in (1, 2, 3)] and min(read) < 1e-3
    for row in (0, 20):  # by hand: the feature is taken out wherever it fires, in the whole document
        latent = int(side.pairs["feature_a"][row])
        task = Firing.of(Side.of(a.model, a.saes, matches["B"], "a"), text).task(NODE, latent, 12, 0)
        prompts = task.prompts(a.model.vocabulary, lint=False)
        cut = [ids[: end + 1] for ids, end in zip(prompts.clean, prompts.where["END"], strict=True)]
        places_back, token = a.features[latent]
        for ids, answer in zip(cut, prompts.answer, strict=True):
            assert [*ids, answer] in [document[: len(ids) + 1] for document in text.ids.reshape(40, 40).tolist()]
            assert len(ids) <= places_back or ids[-1 - places_back] == token
        logs = [by_hand(a, ids, latent, int(answer)) for ids, answer in zip(cut, prompts.answer, strict=True)]
        np.testing.assert_allclose(side.effects_a.effect[row], logs, atol=1e-4)


@torch.no_grad()
def by_hand(side: acting.Planted, ids: Any, latent: int, answer: int) -> float:
    """The change of a token's log probability if a latent is taken out of the input of layer 1, by a hook."""
    weights, tokens = {name: value.double() for name, value in side.saes[NODE].state_dict().items()}, torch.from_numpy(ids)[None]

    def without(_: Any, arguments: Any) -> Any:
        feature = torch.relu(arguments[0] @ weights["W_enc"][:, latent])
        return (arguments[0] - feature[..., None] * weights["W_dec"][latent], *arguments[1:])

    before = side.model.hf(tokens).logits[0, -1].log_softmax(-1)[answer]
    handle = side.model.hf.gpt_neox.layers[1].register_forward_pre_hook(without)
    after = side.model.hf(tokens).logits[0, -1].log_softmax(-1)[answer]
    handle.remove()
    return float(after - before)


def test_options_that_text_does_not_have_are_refused(matches: dict[str, Matches]) -> None:
    for options, message in (
        ({"metric": "logit"}, "metric has no effect: on text, features are ablated where they fire"),
        ({"metric": None, "at": "END"}, "at has no effect: on text"),
        ({"metric": None, "intervention": "resample"}, "resample needs a corrupted prompt"),
    ):
        with pytest.raises(CircuitryError, match=message):
            run(matches, task=acting.text(), **options)
    with pytest.raises(CircuitryError, match="prompts=8 has no effect: a task has its own number of examples"):
        run(matches, prompts=8)
