"""Options that would change nothing are refused by name, with the reason and what to do, through every door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import circuitry as ct
from circuitry import CircuitryError
from circuitry.executing.activations import read, spliced
from circuitry.executing.memory import parse_memory
from circuitry.executing.metrics import evaluate
from circuitry.features.activations import activations, corpus
from circuitry.features.sae import train_sae
from circuitry.features.sae.recipe import Recipe
from circuitry.planning.metrics import metric
from circuitry.prompting import Prompts, TaskDefinition
from circuitry.prompting.task import task_of
from circuitry.studies import experiment
from circuitry.suites.study import Study
from support.agreement import model
from support.patching import TASK, patched

ONE = "mlp[0] @ B -> logits"
SHORT = 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"path": "embed -> mlp[1]", "metric": "kl"},
            "metric='kl' has no effect: this path ends at mlp[1], where the effect is the L2 distance from the base run; "
            "leave metric out, or end the path at logits",
        ),
        (
            {"path": "embed -> (mlp[1], logits)", "metric": ["logit", "kl"]},
            "metric has no effect: this path ends at mlp[1], logits, where the effect is",
        ),
        ({"baseline": -1}, "baseline must be at least 0, got -1"),
        ({"baseline": True}, "baseline must be a whole number, got True"),
        ({"baseline": 2.5}, "baseline must be a whole number, got 2.5"),
        ({"metric": True}, "no metric True; known here"),
        ({"metric": [["logit"]]}, "no metric ['logit']; known here"),
        ({"axes": {"layer": [0, 0, 0]}, "path": "mlp[{layer}] @ B -> logits"}, "{layer} has 0 twice; name each value once"),
        ({"axes": {"layer": True}, "path": "mlp[{layer}] @ B -> logits"}, "layer=True is out of range"),
    ],
)
def test_patch_refuses_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CircuitryError) as found:
        patched(**{"path": ONE, **options})
    assert str(found.value).startswith(message) and "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ct.random_nodes(0, seed=3), "seed=3 has no effect: it draws random nodes, and there are none; ask for 16"),
        (lambda: ct.random_nodes(-1), "baseline must be at least 0, got -1"),
        (lambda: ct.random_nodes(4, seed=-1), "seed must be at least 0, got -1"),
        (lambda: ct.executor("onnx"), "no executor 'onnx'; known here: "),
        (
            lambda: ct.executor("reference", verify=2),
            "verify=2 has no effect: executor 'reference' is what the others are compared",
        ),
        (lambda: ct.executor("reference", memory="1GiB"), "memory='1GiB' has no effect: executor 'reference' runs one cell"),
        (lambda: ct.executor(verify=-1), "verify must be at least 0, got -1"),
        (lambda: ct.executor(memory="lots"), "memory='lots': expected a number of bytes, or text such as"),
        (lambda: ct.labelled("port", ONE), "expected the name of an axis and paths by label, such as ct.labelled('port', {"),  # type: ignore[arg-type]
        (lambda: ct.labelled({"q": ONE}, "port"), "expected the name of an axis and paths by label"),  # type: ignore[arg-type]
    ],
)
def test_values_for_patch_refuse_what_they_cannot_mean(make: Any, message: str) -> None:
    with pytest.raises(CircuitryError) as found:
        make()
    assert str(found.value).startswith(message) and "\n" not in str(found.value)


def test_what_agrees_with_the_executor_is_not_refused() -> None:
    """A seed has something to draw, and a bar is shown by any executor."""
    assert patched(ONE, executor="reference", baseline=0).random is None
    assert patched(ONE, executor=ct.executor("reference", progress=False), baseline=1).random is not None
    assert patched(ONE, baseline=ct.random_nodes(2, seed=3), executor=ct.executor(memory=1e9)).random is not None
    assert patched(ct.labelled("port", {"a": ONE})).axes == ("port",)  # type: ignore[arg-type]
    assert patched(ONE).unit == patched(ONE, metric="logit").unit


# --- memory, metrics, ids --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", (True, False, 0, -5, 0.5, float("nan"), float("inf"), "0", None, [1]))
def test_no_amount_of_memory(memory: Any) -> None:
    with pytest.raises(CircuitryError) as found:
        parse_memory(memory)
    assert str(found.value) == f"memory={memory!r}: expected a number of bytes, or text such as '512MiB' or '2GB'"


@pytest.mark.parametrize("memory", (1e9, 1_000_000_000, np.int64(10**9), np.float32(1e9)))
def test_a_whole_number_of_bytes_may_be_a_float(memory: Any) -> None:
    assert parse_memory(memory) == 10**9


def test_a_metric_of_truth_values_is_refused() -> None:
    logits, token = torch.zeros(2, 3), torch.tensor([0, 1])
    for own, said in (
        (
            lambda logits, answer, foil: logits.argmax(-1) == answer,
            "truth values, which have no difference; make numbers of them",
        ),
        (lambda logits, answer, foil: logits[:, 0] * 1j, "complex numbers"),
    ):
        with pytest.raises(CircuitryError, match=f"^the metric '<lambda>' returned {said}"):
            evaluate(metric(own), logits, logits, token, token)
    count = metric(lambda logits, answer, foil: (logits.argmax(-1) == answer).long())
    assert evaluate(count, logits, logits, token, token).tolist() == [1, 0]


def own_task(length: int, top: int) -> ct.Task:
    """Prompts of so many tokens, the last id of each being ``top``."""

    def make(vocabulary: Any, rng: Any, *, examples: int) -> Prompts:
        clean = rng.integers(1, 50, (examples, length))
        clean[:, 1], clean[:, -1] = top, clean[:, 0]
        corrupted = clean.copy()
        corrupted[:, 0] = clean[:, 0] + 1
        where = {"START": np.zeros(examples, int), "END": np.full(examples, length - 1)}
        return Prompts(clean, corrupted, clean[:, 0], corrupted[:, 0], where, ("START",))

    return task_of(TaskDefinition("own", "", make, ("START", "END"), ("START",)), {}, 3, 0)


def test_prompts_that_the_model_cannot_read_are_refused_on_one_line() -> None:
    short = model("gpt2", n_positions=SHORT)
    assert len(ct.patch(short, own_task(SHORT, 5), "embed -> logits", lint=False).frame) == 3
    unfit = f"the task's prompts do not fit the model: {short.name} has token ids from 0 to 60, got"
    for task, message in (
        (
            own_task(SHORT + 1, 5),
            "task 'own' makes prompts of 21 tokens and the model has 20 positions; try shorter prompts or another model",
        ),
        (own_task(SHORT, 61), f"{unfit} 61"),
        (own_task(SHORT, -2), f"{unfit} -2"),
    ):
        with pytest.raises(ct.TaskError) as found:
            ct.patch(short, task, "embed -> logits", lint=False)
        assert str(found.value) == message
    for kind in ("mamba", "rwkv"):
        ct.patch(model(kind), own_task(40, 5), "embed -> logits", lint=False, baseline=0)


def test_ids_that_the_model_cannot_read_are_refused_by_reading_and_splicing() -> None:
    for ids in (np.zeros((1, SHORT + 1), int), np.array([[61]]), np.array([[-1]])):
        with pytest.raises(CircuitryError, match=r"has positions for 20 tokens|has token ids from 0 to 60"):
            read(model("gpt2", n_positions=SHORT), ["resid[0]"], ids)
        with pytest.raises(CircuitryError, match=r"has positions for 20 tokens|has token ids from 0 to 60"):
            spliced(model("gpt2", n_positions=SHORT), ids, {}, ids >= 0)


# --- other doors -----------------------------------------------------------------------------------------------------------


def test_the_detector_the_scores_and_suites_refuse_what_they_do_not_use() -> None:
    ours, heads = model("gpt2"), ["head[0,0]"]
    calls: list[tuple[Any, str]] = [
        (lambda: ct.off_by_one(ours, TASK, baseline=3), "baseline=3 has no effect: a verdict compares positions"),
        (lambda: ct.off_by_one(ours, TASK, axes={}), "axes= is set by the detector"),
        (lambda: ct.off_by_one(ours, TASK, metric=["logit", "kl"]), "the detector measures one metric"),
        (lambda: ct.off_by_one([ours, ours], TASK), f"{ours.name} and {ours.name} have the same weights; each model is counted once"),
        (lambda: ct.score(ours, TASK, heads, baseline=3), "baseline=3 has no effect: a circuit is compared with random sets"),
        (lambda: ct.score(ours, TASK, heads, metric=["logit"]), "a circuit is scored by one metric"),  # type: ignore[call-overload]
        (lambda: ct.score(ours, TASK, heads, lint=True), "lint= is set by score()"),
        (lambda: ct.run("induction", ours, fresh=True), "fresh=True has no effect: without out= a run has no folder"),
        (lambda: ct.run("induction", ours, distances=[8, 16, 8]), "distances has 8 twice"),
        (lambda: Study(ours, TASK).over("distance", [8, 8], "t", ONE), "distance has 8 twice"),
    ]  # fmt: skip
    for call, message in calls:
        with pytest.raises(CircuitryError) as found:
            call()
        assert str(found.value).startswith(message)


def test_the_grid_counts_each_setting_once() -> None:
    path, ours = "mlp[{layer}] @ B -> logits freezing head", model("gpt2")
    for options, message in (
        ({"ablations": ["zero", "zero"]}, "ablations has 'zero' twice"),
        ({"directions": ["noising"] * 2}, "directions has 'noising' twice"),
        ({"frozen": {"a": ["head"]}}, "the frozen sets 'as written' and 'a' are the same"),
        ({"ablations": ["mean"], "directions": ["denoising"]}, "directions=['denoising'] has no effect: ablation 'mean'"),
        ({"metric": "kl"}, "metric= varies over the grid; give metrics=[...]"),
        ({"intervention": "zero"}, "intervention= varies over the grid; give ablations=[...]"),
    ):
        with pytest.raises(CircuitryError) as found:
            ct.sensitivity(ours, TASK, path, **options)
        assert str(found.value).startswith(message)


def test_a_path_that_ends_inside_is_one_column_of_the_grid() -> None:
    """Three metrics of one distance would count every setting three times."""
    path = "mlp[{layer}] @ B -> mlp[2] @ B"
    found = ct.sensitivity(model("gpt2"), TASK, path, ablations=["resample"])
    assert found.frame["metric"].unique().tolist() == ["distance"]
    assert len(found.frame) == len(found.tables) and found.plot() is not None
    with pytest.raises(CircuitryError, match=r"^metric has no effect: this path ends at mlp"):
        ct.sensitivity(model("gpt2"), TASK, path, ablations=["resample"], metrics=["logit"])


def test_a_suites_metric_is_of_its_tables_at_the_logits() -> None:
    study = Study(model("gpt2"), TASK, options={"metric": "logit_difference"})
    assert study.patch("t", ONE).unit == "change of logit(answer) - logit(foil)"
    assert study.patch("t", "embed -> mlp[{layer}]").unit == "L2 distance from the base run"
    with pytest.raises(CircuitryError, match=r"^metric='kl' has no effect"):
        study.patch("t", "embed -> mlp[{layer}]", metric="kl")


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"k": 32}, "k=32"),
        ({"kind": "topk", "l1": 2.0}, "l1=2.0"),
        ({"kind": "topk", "penalty_warmup": 0.1}, "penalty_warmup=0.1"),
        ({"resample_every": 5}, "resample_every=5"),
        ({"auxiliary": 0.1}, "auxiliary=0.1"),
        ({"features": 16, "expansion": 2}, "expansion=2"),
        ({"normalise": False, "measured": 9}, "measured=9"),
    ],
)
def test_settings_of_a_training_that_change_nothing(settings: dict[str, Any], name: str) -> None:
    for call in (Recipe.of, lambda **given: experiment(["a", "b"], **given)):
        with pytest.raises(CircuitryError, match=f"^{name} has no effect: "):
            call(**settings)


def test_a_training_on_given_activations_takes_nothing_that_makes_them(tmp_path: Path) -> None:
    stream, ours = torch.randn(4, 8, 4), model("gpt2")
    for options, name in (
        ({"texts": ["a"]}, "texts"),
        ({"batch": 16}, "batch=16"),
        ({"buffer": 99}, "buffer=99"),
        ({"context": 9}, "context=9"),
        ({"save_every": 2.0}, "save_every=2.0"),
    ):
        with pytest.raises(CircuitryError, match=f"^{name} has no effect: "):
            train_sae(None, "resid[0]", activations=stream, tokens=8, features=4, progress=False, **options)
    with pytest.raises(CircuitryError, match=r"^model has no effect: the activations are given already"):
        train_sae(ours, "resid[0]", activations=stream, tokens=8, features=4, progress=False)


def test_a_corpus_is_cut_already() -> None:
    ours = ct.load("bundled:gpt_neox")
    text = corpus(ours, ["Twenty characters or more."], progress=False)
    for call in (activations, train_sae):
        with pytest.raises(CircuitryError, match=r"^context=9 has no effect: the corpus is cut into documents already"):
            call(ours, "resid[0]", corpus=text, context=9)


def test_a_proxy_has_no_price() -> None:
    with pytest.raises(CircuitryError, match=r"^price has no effect: no scorer is asked"):
        experiment(["a", "b"], price=(1.0, 2.0))
