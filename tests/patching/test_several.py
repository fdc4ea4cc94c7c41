"""Several paths in one table, several metrics in one run, and prompts of different lengths in one batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry import CircuitryError, GuardError, PatchingTable, PathError
from circuitry.executing.reference.executor import by_reference
from circuitry.executing.rows import schedule
from circuitry.executing.rows.executor import run_plan
from circuitry.executing.suffix import builder
from circuitry.patching import METRICS
from circuitry.patching.experiment import compile_path
from circuitry.planning import join, plan
from circuitry.prompting import Prompts
from support.agreement import model

TASK = ct.task("induction", distance=5, examples=3, prefix=2)
RAGGED = ct.task("ioi", examples=5, order="both")


def patched(kind: str, path: Any, task: ct.Task = TASK, **options: Any) -> PatchingTable:
    return ct.patch(model(kind), task, path, **{"lint": False, "baseline": 0, **options})


def columns(table: PatchingTable) -> Any:
    return table.frame[["effect", "base", "source"]].to_numpy()


# --- several paths ---------------------------------------------------------------------------------------------------------

HEADS = {
    "nothing held": "head[{layer},1] @ B -> logits",
    "heads held": "head[{layer},1] @ END -> logits freezing head",
    "only mlps": "head[{layer},1] @ B -> logits freezing mlp except mlp[2]",
    "directly": "head[{layer},0] @ END -> logits directly",
    "two legs": "embed @ B -> head[{layer},1].k -> logits freezing mlp",
    "a set": "(head[{layer},0].q, head[{layer},1].v @ B) -> logits",
    "read elsewhere": "head[{layer},0] @ B -> logits @ B+2",
}
STATES = {
    "nothing held": "ssm_state[{layer}] @ B+1 -> logits",
    "states held": "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state",
    "all but one": "ssm_in[{layer}] @ B+1 -> logits freezing ssm_state, gate except ssm_state[{layer}]",
    "two legs": "conv_in[{layer}] @ B -> ssm_in[{layer}] @ B+1 -> logits",
    "a set": "(ssm_in[{layer}].value, gate[{layer}] @ END) -> logits",
    "read elsewhere": "ssm_state[{layer}].read @ B -> logits @ B",
}
PATHS = dict.fromkeys(("gpt_neox", "gpt_neox-sequential", "gpt2", "llama", "mistral", "qwen2", "qwen3"), HEADS)


@pytest.mark.parametrize(("kind", "paths"), [*PATHS.items(), ("mamba", STATES)])
@pytest.mark.parametrize("direction", ("noising", "denoising"))
def test_several_paths_are_each_path_alone(kind: str, paths: dict[str, str], direction: str) -> None:
    """With other legs, other frozen sets and other targets beside it, and in batches that cannot hold them all."""
    found = patched(kind, paths, direction=direction, executor=ct.executor(memory=20 * model(kind).bytes_per_row(8)))
    assert found.axes == ("path", "layer") and list(dict.fromkeys(found.frame["path"])) == list(paths)
    for label, path in paths.items():
        alone = patched(kind, path, direction=direction)
        one = found.select("path", label)
        assert one.frame[["layer", "example"]].equals(alone.frame[["layer", "example"]])
        np.testing.assert_allclose(columns(one), columns(alone), atol=1e-10, err_msg=label)
        assert alone.frame["effect"].abs().max() > 1e-6, f"{label} tells nothing"
    assert found.pivot().round(6).drop_duplicates().shape[0] == len(paths), "each path has an effect of its own"


def test_other_interventions_work_on_several_paths() -> None:
    paths = {"mlp": "mlp[{layer}] @ B -> logits", "heads": "(head[{layer},0], head[{layer},1]) -> logits"}
    for options in ({"intervention": "zero"}, {"intervention": "mean"}, {"intervention": ct.given(0.25)}):
        found = patched("gpt2", paths, **options)
        for label, path in paths.items():
            alone = patched("gpt2", path, **options)
            np.testing.assert_allclose(columns(found.select("path", label)), columns(alone), atol=1e-10)


def test_paths_end_inside_the_model_too() -> None:
    paths = {"one": "embed @ B -> mlp[{layer}] @ END", "other": "embed @ B -> (mlp[{layer}], mlp[2]) freezing head"}
    found = patched("gpt2", paths)
    for label, path in paths.items():
        np.testing.assert_allclose(columns(found.select("path", label)), columns(patched("gpt2", path)), atol=1e-10)
    assert found.unit == "L2 distance from the base run"


def test_a_short_name_of_the_end_is_the_same_end() -> None:
    short, long = (patched("mamba", path).mean().item() for path in ("x[0] @ B -> h[1]", "conv_in[0] @ B -> ssm_state[1]"))
    assert short == long > 0
    assert patched("mamba", {"short": "x[0] @ B -> h[1]", "long": "conv_in[1] @ B -> ssm_state[1]"}).axes == ("path",)


def test_cells_that_cannot_have_an_effect_are_left_out_path_by_path() -> None:
    """In the last layer, an MLP at B does not reach the logits at END."""
    paths = {"mlps": "mlp[{layer}] @ B -> logits", "heads": "head[{layer},0] @ END -> logits"}
    found = patched("gpt2", paths)
    assert [k for k in found.mean().index if k[0] == "mlps"] == [("mlps", 0), ("mlps", 1)]
    assert len(found.provenance["skipped"]) == 1 and found.provenance["skipped"][0].startswith("{'path': 'mlps', 'layer': 2}: ")


@pytest.mark.parametrize(
    ("paths", "axis", "message"),
    [
        ({}, "path", "no path to patch; name at least one"),
        (
            {"a": "mlp[{layer}] @ B -> logits", "b": "mlp[0] @ B -> logits"},
            "path",
            "the paths of one table must have the same open axes; 'b' has (), not ('layer',)",
        ),
        (
            {"a": "mlp[0] @ B -> logits", "b": "mlp[0] @ B -> mlp[1]"},
            "path",
            "the paths of one table must end alike; 'b' ends at mlp, not logits",
        ),
        (
            {"a": "mlp[{layer}] @ B -> logits"},
            "layer",
            "{layer} is an open axis of the paths already; name the axis of their labels differently",
        ),
        *[
            (
                {"a": "mlp[0] @ B -> logits"},
                taken,
                f"every table has a column '{taken}', so no axis can be called that; try {{{taken}s}}",
            )
            for taken in ("example", "effect", "base", "source", "draw", "node")
        ],
    ],
)
def test_paths_that_share_no_table_are_refused(paths: Mapping[str, str], axis: str, message: str) -> None:
    with pytest.raises(CircuitryError) as found:
        patched("gpt2", ct.labelled(axis, paths))
    assert str(found.value) == message


def test_a_column_of_every_table_is_no_open_axis() -> None:
    with pytest.raises(
        CircuitryError, match=r"^every table has a column 'effect', so no axis can be called that; try \{effects\}"
    ):
        patched("gpt2", "mlp[{effect}] @ B -> logits")


def test_a_path_without_effect_among_several_is_refused() -> None:
    with pytest.raises(PathError, match=r"^freezing attn cuts every path from head\[0,0\] to logits"):
        patched("gpt2", {"good": "mlp[0] @ B -> logits", "bad": "head[0,0] @ B -> logits freezing attn"})


def test_the_reference_engine_and_verify_take_several_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {label: HEADS[label] for label in ("heads held", "two legs", "read elsewhere")}
    paths["one held"] = "head[{layer},1] @ B -> logits freezing head[2,0]"
    one, other = patched("llama", paths, executor=ct.executor(verify=9)), patched("llama", paths, executor="reference")
    assert one.frame[["path", "layer", "example"]].equals(other.frame[["path", "layer", "example"]])
    np.testing.assert_allclose(columns(one), columns(other), atol=1e-10)
    assert {**{k: v for k, v in one.provenance.items() if k != "verified"}, "executor": "reference"} == other.provenance
    for name, laying_out in (("suffix", builder), ("rows", schedule)):
        monkeypatch.setattr(laying_out, "units_frozen", lambda *_: {})
        with pytest.raises(GuardError, match="and the reference differ by"):
            patched("llama", paths, executor=ct.executor(name, verify=9))


def test_explain_lists_the_paths_and_stops_after_eight() -> None:
    paths = {
        f"to {n}": f"head[0,0] @ B -> head[{n % 2 + 1},{n % 2}] @ {at}"
        for n, at in enumerate(["B", "B+1", "B+2", "B+3", "END"] * 2)
    }
    said = ct.explain(model("gpt2"), TASK, paths).splitlines()
    assert said[:8] == [f"{label}: {path}" for label, path in list(paths.items())[:8]]
    assert said[8] == "(and 2 more paths)"
    assert said[9].split() == ["table", "10", "cells", "over", "path"]
    assert said[-1] == "(passes are those of the first cell, path=to 0)"
    eight = ct.explain(model("gpt2"), TASK, ct.labelled("receiver", dict(list(paths.items())[:8]))).splitlines()
    assert eight[8].split() == ["table", "8", "cells", "over", "receiver"]


def test_a_table_of_several_paths_says_which() -> None:
    found = patched("mamba", ct.labelled("how", STATES))
    assert found.provenance["paths"] == STATES and found.axes == ("how", "layer")
    assert patched("mamba", STATES["two legs"]).provenance["paths"] == {}


def test_random_nodes_of_several_paths_come_from_all_of_them() -> None:
    """The second path's sources are all heads of a layer, at every position, so its draws are such layers."""
    found = patched(
        "gpt2", {"one": "head[{layer},0] @ B -> logits", "two": "(head[{layer},0], head[{layer},1]) -> logits"}, baseline=20
    )
    assert found.random is not None
    assert {name.partition(" @ ")[0].count(",") for name in found.random["node"]} == {0, 1}
    assert found.random["draw"].nunique() == 20 and "path" not in found.random


# --- several metrics -------------------------------------------------------------------------------------------------------


def spread(logits: Tensor, answer: Tensor, foil: Tensor) -> Tensor:
    return logits.std(-1)


def test_several_metrics_are_each_metric_alone() -> None:
    wanted: list[Any] = [*METRICS, spread]
    path = "head[{layer},{head}] @ B -> logits freezing mlp"
    found = patched("gpt2", path, metric=wanted, baseline=6)
    assert found.axes == ("metric", "layer", "head") and found.unit == "change of the metric, each in its own unit"
    assert list(dict.fromkeys(found.frame["metric"])) == [*METRICS, "spread"] == found.provenance["metric"]
    for metric, name in zip(wanted, [*METRICS, "spread"], strict=True):
        alone, one = patched("gpt2", path, metric=metric, baseline=6), found.select("metric", name)
        np.testing.assert_allclose(columns(one), columns(alone), atol=1e-12, err_msg=name)
        assert one.random is not None and alone.random is not None
        np.testing.assert_allclose(one.random["effect"], alone.random["effect"], atol=1e-12)
        assert one.random["node"].equals(alone.random["node"])
        np.testing.assert_allclose(one.statistics(), alone.statistics(), atol=1e-9)


def test_several_metrics_of_several_paths() -> None:
    paths = {label: STATES[label] for label in ("states held", "two legs")}
    found = patched("mamba", ct.labelled("which", paths), metric=("logit", "kl"))
    assert found.axes == ("metric", "which", "layer")
    for metric in ("logit", "kl"):
        for label, path in paths.items():
            one = found.select("metric", metric).select("which", label)
            np.testing.assert_allclose(columns(one), columns(patched("mamba", path, metric=metric)), atol=1e-12)


def test_one_metric_in_a_list_is_an_axis_of_one() -> None:
    assert patched("gpt2", "mlp[0] @ B -> logits", metric=["logit"]).axes == ("metric",)


def test_the_reference_and_verify_take_several_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    path, metrics = "mlp[{layer}] @ B -> logits freezing head[1]", ["logit", "kl"]
    one, other = (
        patched("gpt2", path, metric=metrics, **how) for how in ({"executor": ct.executor(verify=2)}, {"executor": "reference"})
    )
    np.testing.assert_allclose(columns(one), columns(other), atol=1e-10)
    seen = by_reference
    monkeypatch.setattr(
        "circuitry.executing.verified.by_reference",
        lambda *a: [seen(*a)[0], *(replace(e, effect=e.effect + 1e-3) for e in seen(*a)[1:])],
    )
    with pytest.raises(GuardError, match="and the reference differ by"):
        patched("gpt2", path, metric=metrics, executor=ct.executor(verify=2))


def _lambda() -> Callable[..., Tensor]:
    return lambda logits, answer, foil: logits[:, 0]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([], "no metric to measure; name at least one"),
        (["logit", "logits"], "no metric 'logits'; did you mean 'logit'?"),
        (["logit", "logit"], "two metrics are called 'logit'; give each function a name of its own, and each metric once"),
        (
            [_lambda(), _lambda()],
            "two metrics are called '<lambda>'; give each function a name of its own, and each metric once",
        ),
    ],
)
def test_metrics_that_no_table_tells_apart_are_refused(metrics: list[Any], message: str) -> None:
    with pytest.raises(CircuitryError) as found:
        patched("gpt2", "mlp[0] @ B -> logits", metric=metrics)
    assert str(found.value) == message


def test_the_axis_of_several_metrics_is_taken() -> None:
    path = ct.labelled("metric", {"a": "mlp[0] @ B -> logits"})
    assert patched("gpt2", path).axes == ("metric",)
    with pytest.raises(CircuitryError, match=r"^several metrics make an axis 'metric', so no other axis can be called that$"):
        patched("gpt2", path, metric=["logit", "kl"])


def test_a_metric_without_a_name_of_its_own_is_called_metric() -> None:
    found = patched("gpt2", "mlp[0] @ B -> logits", metric=["logit", functools.partial(spread)])
    assert list(dict.fromkeys(found.frame["metric"])) == ["logit", "metric"]


def test_the_first_of_several_metrics_is_linted() -> None:
    """KL from the base run is nothing that the model could do better; the answer's logit is, and a random model does not."""
    task = TASK.but(seed=1)
    with pytest.warns(UserWarning, match="so there is nothing to explain here"):
        patched("gpt2", "mlp[0] @ B -> logits", task, metric=["logit", "kl"], lint=True)
    patched("gpt2", "mlp[0] @ B -> logits", task, metric=["kl", "logit"], lint=True)


# --- prompts of different lengths ------------------------------------------------------------------------------------------


def prompts_of(kind: str) -> Prompts:
    return RAGGED.prompts(model(kind).vocabulary)


def one_by_one(kind: str, path: Any, prompts: Prompts, metrics: tuple[str, ...], intervention: Any) -> Any:
    """Effect, base and other [metric, 3, cell, example], each example alone and cut after its END by hand."""
    made, _ = compile_path(model(kind), RAGGED, path, intervention=intervention)
    found = []
    for k in range(len(prompts)):
        one, stop = prompts.take(slice(k, k + 1)), int(prompts.where["END"][k]) + 1
        cut = replace(one, clean=one.clean[:, :stop], corrupted=one.corrupted[:, :stop])
        effects = run_plan(model(kind), made, cut, [METRICS[m] for m in metrics], memory=1 << 30)
        found.append([(e.effect[:, 0], e.base[:, 0], e.source[:, 0]) for e in effects])
    return np.moveaxis(np.array(found), 0, -1)


RAGGED_PATHS = {
    "gpt2": {"s": "(head[{layer},0] @ S2, mlp[0] @ IO) -> logits freezing mlp", "all": "head[{layer},1] -> logits"},
    "llama": {"s": "head[{layer},3].v @ S1+1 -> logits", "all": "embed -> head[{layer},2].q @ END -> logits"},
    "mamba": {"s": "ssm_state[{layer}] @ S2 -> logits freezing ssm_state", "all": "ssm_in[{layer}] -> logits freezing gate"},
}


@pytest.mark.parametrize("kind", RAGGED_PATHS)
@pytest.mark.parametrize("intervention", ("resample", "zero", "mean", ct.given(0.3)), ids=str)
def test_padding_and_batches_change_no_effect(kind: str, intervention: Any) -> None:
    """Every way to cut the batches gives what each example gives alone; a mean is over all of them, so it is not one alone."""
    prompts, metrics = prompts_of(kind), ("logit", "kl")
    assert len(set(prompts.where["END"])) > 2, "prompts of several lengths"
    tables = [
        patched(
            kind, RAGGED_PATHS[kind], RAGGED, metric=metrics, intervention=intervention, executor=ct.executor(memory=rows * row)
        )
        for row in [model(kind).bytes_per_row(prompts.length)]
        for rows in (1, 9, 1000)
    ]
    for table in tables[1:]:
        np.testing.assert_allclose(columns(table), columns(tables[0]), atol=1e-10)
    assert tables[0].frame["effect"].abs().max() > 1e-3
    if intervention != "mean":
        alone = one_by_one(kind, RAGGED_PATHS[kind], prompts, metrics, intervention)
        for number, name in enumerate(("effect", "base", "source")):
            np.testing.assert_allclose(tables[0].frame[name], alone[:, number].ravel(), atol=1e-10)


def test_a_mean_is_over_all_examples_wherever_the_batches_are_cut() -> None:
    prompts, ours = prompts_of("gpt2"), model("gpt2")
    seen: list[Tensor] = []
    handle = ours.hf.get_submodule("transformer.h.1.mlp").register_forward_hook(lambda *a: seen.append(a[2].clone()))
    with torch.no_grad():
        ours.hf(torch.from_numpy(prompts.corrupted), use_cache=False)
    handle.remove()
    mean = seen[0][torch.arange(len(prompts)), torch.from_numpy(prompts.where["S2"])].mean(0)
    path, small = "mlp[1] @ S2 -> logits", 3 * ours.bytes_per_row(prompts.length)
    by_mean = patched("gpt2", path, RAGGED, intervention="mean", executor=ct.executor(memory=small))
    np.testing.assert_allclose(columns(by_mean), columns(patched("gpt2", path, RAGGED, intervention=ct.given(mean))), atol=1e-10)


@pytest.mark.parametrize(
    ("kind", "path"), [("gpt2", "embed -> mlp[1]"), ("llama", "embed -> head[1,0].pattern"), ("mamba", "x[0] -> h[1]")]
)
def test_a_distance_at_every_position_stops_at_the_end_of_the_prompt(kind: str, path: str) -> None:
    """What the model makes of the padding is no part of an example, so no batch changes the distance."""
    row = model(kind).bytes_per_row(prompts_of(kind).length)
    alone = one_by_one(kind, path, prompts_of(kind), ("logit",), "resample")
    for rows in (1, 1000):
        table = patched(kind, path, RAGGED, executor=ct.executor(memory=rows * row))
        np.testing.assert_allclose(table.frame["effect"], alone[0, 0, 0], rtol=1e-10)
        np.testing.assert_allclose(table.frame["source"], alone[0, 2, 0], rtol=1e-10)
    assert (alone[0, 0] > 0).all()


def test_several_plans_are_one() -> None:
    made = join({"a": plan("mlp[0] -> logits", ct.graph("gpt2")), "b": plan("mlp[1] -> logits", ct.graph("gpt2"))}, "which")
    assert made.axes == {"which": "label"} and [dict(c.values) for c in made.cells] == [{"which": "a"}, {"which": "b"}]
    assert {label: str(path) for label, path in made.named.items()} == {"a": "mlp[0] -> logits", "b": "mlp[1] -> logits"}
