"""The off-by-one detector is right where the answer is known, on other tasks too, and refuses what it cannot answer."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import circuitry as ct
from circuitry.evidence import Verdict, off_by_one
from circuitry.evidence.offsets import changed_token, paths
from circuitry.evidence.write_profile import least_examples
from circuitry.prompting import Prompts, TaskDefinition
from circuitry.prompting.task import task_of
from circuitry.results.statistics import draws_for, false_discovery, sign_flip_test
from support import known

TASK = known.task()


def verdict(model: Any, task: ct.Task = TASK, **options: Any) -> Verdict:
    return off_by_one(model, task, **options).models[0]


# --- models whose write position is known ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("lag", "kind"), list(enumerate(["on the token", "off by one", "off by 2", "off by 3"])))
def test_a_mamba_is_found_to_write_where_its_convolution_says(lag: int, kind: str) -> None:
    found = off_by_one(known.mamba(known.lags(*[0.0] * lag, 2.0)), TASK)
    (model,) = found.models
    assert (model.kind, model.at, model.open, model.peak) == (kind, (lag,), (), (lag,))
    whole = found.frame[(found.frame["layer"] == "all") & (found.frame["offset"] == lag)].iloc[0]
    assert whole["low"] == pytest.approx(1, abs=1e-3) and whole["effect"] == pytest.approx(1, abs=1e-3) and whole["q"] < 0.05


@pytest.mark.parametrize("lag", range(1, 4))
def test_a_transformer_is_found_to_take_up_what_a_head_moved_on(lag: int) -> None:
    """The head that moves the token on takes it up too, but only the layer that carries it to END counts."""
    found = off_by_one(known.llama([(0, lag, 1)], [(1, None, 2)]), TASK)
    assert found.models[0].at == (lag,)
    assert [v.at for v in found.verdicts if v.layer != "all"] == [(), (lag,)]


def test_a_transformer_that_copies_directly_is_on_the_token() -> None:
    assert verdict(known.llama([(0, None, 2)])).kind == "on the token"


@pytest.mark.parametrize(
    ("model", "at", "layers"),
    [
        (lambda: known.mamba(known.lags(0, 2), known.lags(0, 0, 2)), (1, 2), [(1,), (2,)]),
        (lambda: known.mamba(known.lags(0, 2, 1)), (1, 2), [(1, 2)]),
        (lambda: known.mamba(known.lags(2, 0, 0, 2), known.lags(0, 2)), (0, 1, 3), [(0, 3), (1,)]),
        (lambda: known.llama([(0, 1, 1), (0, None, 2)], [(1, None, 2)]), (0, 1), [(0,), (1,)]),
    ],
)
def test_several_positions_are_told_apart_by_layer(model: Any, at: tuple[int, ...], layers: list[tuple[int, ...]]) -> None:
    found = off_by_one(model(), TASK)
    assert (found.models[0].kind, found.models[0].at) == ("several", at)
    assert [v.at for v in found.verdicts if v.layer != "all"] == layers
    assert sum(v.weight for v in found.verdicts if v.layer != "all") == pytest.approx(1, abs=1e-6)


def test_shares_of_several_positions_are_those_of_the_weights() -> None:
    taps = [known.lags(0.5, 2), known.lags(0, 1, 0, 1)]
    shares = off_by_one(known.mamba(*taps), TASK).frame.query("layer == 'all'")["share"].to_numpy()
    wanted = known.written(*taps).mean(1).sum(0)
    assert shares[:4] == pytest.approx(wanted / wanted.sum(), abs=2e-3) and shares[4] == pytest.approx(0, abs=1e-6)


def test_a_state_that_nobody_reads_is_written_nowhere() -> None:
    found = verdict(known.mamba(known.lags(0, 2), read=False))
    assert (found.kind, found.at, found.weight) == ("none", (), 0.0)
    assert "no effect on what is measured" in found.text


def test_a_write_beyond_reach_is_not_invented() -> None:
    model = known.mamba(known.lags(0, 0, 0, 2))
    near, far = verdict(model, TASK.but(examples=24), reach=2), verdict(model, TASK.but(examples=24), reach=3)
    assert (near.kind, far.kind) == ("none", "off by 3")
    assert "no position from B to B+2 has 1% of the whole effect" in near.text


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_detector_that_looks_one_token_beside_is_caught(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "circuitry.evidence.offsets.position_name", lambda token, n: f"{token}{n + shift:+d}" if n + shift else token
    )
    assert verdict(known.mamba(known.lags(0, 2))).at == (1 - shift,)


def test_the_other_layers_have_to_be_held() -> None:
    """Without freezing, the head that moves the token on has the whole effect, at B: the detector must not report that."""
    model = known.llama([(0, 1, 1)], [(1, None, 2)])
    live = ct.patch(model, TASK, "head[0,0].v @ B -> logits")
    assert live.normalized().iloc[0] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_noise_on_the_weights_does_not_move_the_verdict(seed: int) -> None:
    made = known.mamba(known.lags(0, 2, 1), noise=0.03, seed=seed)
    assert verdict(made, TASK.but(seed=seed)).at == (1, 2)


def test_intervals_cover_the_share_that_the_weights_give() -> None:
    """Every token has its own two taps, so shares vary by example; over all tokens they are known."""
    taps = np.random.default_rng(0).uniform(0.5, 3, (known.TOKENS, known.WIDTH)) * [0, 1, 1, 0]
    wanted = known.written(taps)[0].mean(0)[1:3]
    model, inside, widths = known.mamba(taps), 0, []
    for seed in range(20):
        row = off_by_one(model, TASK.but(seed=seed, examples=24)).frame.query("layer == 'all' and offset == 1").iloc[0]
        inside += row["low"] <= wanted[0] / wanted.sum() <= row["high"]
        widths.append(row["high"] - row["low"])
    assert inside >= 16  # of 20; at 95% coverage, fewer come once in 400 such tests
    assert 0.05 < np.mean(widths) < 0.4


@pytest.mark.parametrize("options", [{"direction": "denoising"}, {"metric": "logit_difference"}, {"metric": "kl"}])
def test_the_verdict_does_not_hang_on_direction_or_metric(options: dict[str, Any]) -> None:
    assert verdict(known.mamba(known.lags(0, 2)), **options).at == (1,)


def test_the_bundled_models_differ() -> None:
    """What their weights do, found before by patching one position at a time (docs/off-by-one.md)."""
    both = [ct.load(f"bundled:{name}") for name in ("mamba", "gpt_neox")]
    mamba, transformer = off_by_one(both, ct.task("induction", distance=8, examples=12)).models
    assert transformer.at == (0,) and 0 not in mamba.at and mamba.kind != "none"


def test_effects_that_do_not_add_up_are_reported() -> None:
    """Half of the token is taken up within reach: all of the profile, half of the effect."""
    model = known.mamba(known.lags(0, 2, 0, 2))
    assert verdict(model, TASK.but(examples=24), reach=2).text.endswith(
        "B+1 (100%, 100 to 100; layer 0); effects add up to 50% of the whole effect"
    )
    assert "add up" not in verdict(model, TASK.but(examples=24), reach=3).text


# --- several models --------------------------------------------------------------------------------------------------------


def test_models_are_counted_by_architecture() -> None:
    lag = [known.mamba(known.lags(*[0.0] * k, 2.0 + n / 10), name=f"seed {n}") for n, k in enumerate((1, 1, 2))]
    found = off_by_one([*lag, known.llama([(0, None, 2)])], TASK)
    assert found.text().splitlines()[-2:] == ["mamba: 2 of 3 models at B+1, 1 of 3 models at B+2", "llama: 1 of 1 model at B"]
    assert list(found.tables) == ["seed 0", "seed 1", "seed 2", "known"]


def test_models_of_one_name_are_told_apart() -> None:
    found = off_by_one([known.mamba(known.lags(0, 2)), known.mamba(known.lags(2))], TASK)
    assert [(v.model, v.at) for v in found.models] == [("known", (1,)), ("known #2", (0,))]


# --- other tasks -----------------------------------------------------------------------------------------------------------


def _names(vocabulary: Any, rng: Any, *, examples: int, corruption: str) -> Prompts:
    """x ... IO S1 and so on S2: two names at positions that vary, the second comes again."""
    drawn = np.stack([rng.choice(vocabulary.ordinary, 14, replace=False) for _ in range(examples)])
    clean, io = drawn[:, :13].copy(), 1 + np.arange(examples) % 3
    rows, s1, end = np.arange(examples), io + 2, io + 9
    clean[rows, io + 8] = clean[rows, s1]
    corrupted = clean.copy()
    corrupted[rows, io] = drawn[:, 13]
    if corruption == "all":
        corrupted[rows, s1] = clean[rows, end]
    where = {"IO": io, "S1": s1, "S2": io + 8, "END": end}
    changed = ("IO", "S1") if corruption == "all" else ("IO",)
    return Prompts(clean, corrupted, clean[rows, io], drawn[:, 13], where, changed)


NAMES = TaskDefinition("names", "two names", _names, ("IO", "S1", "S2", "END"), ("IO", "S1"), {"corruption": "IO"})


@pytest.mark.parametrize("token", [None, "IO"])
def test_names_at_varying_positions(token: str | None) -> None:
    found = off_by_one(known.mamba(known.lags(0, 2)), task_of(NAMES, {}, 16, 0), token)
    assert found.token == "IO" and found.models[0].text.startswith("known: off by one: IO+1 (100%")


def test_the_two_tokens_of_a_pair_have_their_own_offsets() -> None:
    """[A'] cannot show in the answer's own logit here, [B'] does: A is taken up nowhere."""
    assert verdict(known.mamba(known.lags(0, 2)), TASK.but(corruption="A")).kind == "none"


# --- refusals --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "task", "message"),
    [
        ({"token": "A"}, TASK, "write position shows only if A alone is corrupted, and the task corrupts B; try corruption='A'"),
        ({"token": "C"}, TASK, "names no position 'C'; known here: A, B, END"),
        ({}, task_of(NAMES, {"corruption": "all"}, 16, 0), "the task corrupts IO, S1; try corruption='IO'"),
        ({"reach": 7}, TASK, r"B\+7 does not lie before END in every example; try reach=6 or a longer text"),
        ({}, TASK.but(distance=2), r"try a longer text"),
        ({}, TASK.but(examples=4), "4 examples cannot show anything at q < 0.05 over 5 cells; try examples=8"),
        ({"reach": 0}, TASK, "reach must be at least 1, got 0"),
        ({"resamples": 10}, TASK, "resamples must be at least 100, got 10; 2000 is usual"),
        ({"level": 95}, TASK, "level must be at least 0.5 and below 1, got 95"),
    ],
)
def test_what_cannot_be_answered_is_refused(options: dict[str, Any], task: ct.Task, message: str) -> None:
    with pytest.raises(ct.CircuitryError, match=message):
        off_by_one(known.mamba(known.lags(0, 2)), task, **options)


def test_a_corrupted_token_without_a_name_is_refused() -> None:
    prompts = replace(TASK.prompts(known.mamba(known.lags(2)).vocabulary), changed=())
    with pytest.raises(ct.TaskError, match="does not name the token that it corrupts, so its write position cannot be measured"):
        changed_token(TASK, prompts, None)


def test_no_model_is_refused() -> None:
    with pytest.raises(ct.CircuitryError, match=r"^expected a model or a list of models, got \[\]$"):
        off_by_one([], TASK)


def test_an_architecture_that_carries_nothing_is_refused() -> None:
    graph: Any = SimpleNamespace(name="mlp-mixer", by_role=lambda role: [])
    with pytest.raises(ct.CircuitryError, match="mlp-mixer has neither states nor attention heads"):
        paths(graph)


def test_the_least_number_of_examples_is_the_least() -> None:
    for cells in (1, 5, 20, 119):
        least = least_examples(cells)
        for examples, enough in ((least - 1, False), (least, True)):
            effects = np.zeros((cells, examples))
            effects[0] = 1
            q = false_discovery(sign_flip_test(effects, draws_for(cells)))
            assert (q[0] < 0.05) == enough
