"""Latents and errors as nodes: what the executors do with them, what the reference does by itself, and what must add up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import circuitry as ct
from circuitry.autoencoders import SAE, SAEConfig
from circuitry.errors import CircuitryError, PathError
from circuitry.executing.activations import read, spliced
from circuitry.executing.executor import ALONE
from circuitry.executing.open import EXECUTORS
from support import termed, tiny
from support.agreement import apart, planned, ragged
from support.random_paths import experiment, few

EXACT = 1e-9
TASK = ct.task("induction", distance=8, examples=4)
QUIET: dict[str, Any] = {"baseline": 0, "lint": False}


@pytest.mark.parametrize("kind", tiny.CONFIGS)
@given(seed=st.integers(0, 10**9))
@few(3)
def test_any_experiment_on_terms(kind: str, seed: int) -> None:
    ours: Any = termed.model(kind)
    drawn = experiment(ours, seed, draw=termed.termed)
    others = ("rows", "reference") if drawn.plan.intervention.from_source else ("rows",)
    assert apart(ours, drawn.plan, drawn.prompts, drawn.metrics, drawn.memory, others) < EXACT, drawn


@pytest.mark.parametrize("kind", ["gpt2", "mamba", "mamba2", "rwkv", "jamba"])
def test_latents_and_error_together_are_the_node(kind: str) -> None:
    ours: Any = termed.model(kind)
    for host in ours.graph.terms.latents:
        try:
            made = planned(ours, [f"{host} @ B -> logits", f"({host}.latent @ B, {host}.error @ B) -> logits"], ragged())
        except PathError:
            continue  # some nodes cannot reach the answer from there
        effects = ct.executing.suffix.executor.Suffix(ours, memory=1 << 30, progress=False).run(
            made, ragged(), [ct.planning.METRICS["logit"]]
        )[0]
        assert np.abs(effects.effect[0] - effects.effect[1]).max() < EXACT, host


HOST = next(str(host) for host in termed.model("gpt2").graph.terms.latents if host.family == "mlp")
OTHERS = [f"{HOST}.latent[{k}]" for k in range(1, termed.LATENTS)]


@pytest.mark.parametrize("executor", ["rows", "suffix", "reference"])
@pytest.mark.parametrize(
    ("path", "same"),
    [
        (f"{HOST} @ B -> logits freezing {HOST}.latent[0]", f"({' @ B, '.join(OTHERS)} @ B, {HOST}.error @ B) -> logits"),
        (
            f"({HOST}.latent @ B, {HOST}.error @ B) -> logits freezing {HOST}.latent[0]",
            f"({' @ B, '.join(OTHERS)} @ B, {HOST}.error @ B) -> logits",
        ),
        (
            f"(embed @ B, {HOST}.latent[0] @ B) -> logits freezing {HOST}.latent",
            f"(embed @ B, {HOST}.latent[0] @ B) -> logits freezing {', '.join(OTHERS)}",
        ),
    ],
)
def test_a_single_latent_is_the_more_exact_name(executor: str, path: str, same: str) -> None:
    """What is frozen of a node that is written stays, and what is written of latents that are frozen is written."""
    ours: Any = termed.model("gpt2")
    opened = EXECUTORS[executor](ours, memory=1 << 30, progress=False, team=ALONE)
    one, other = (
        opened.run(planned(ours, [text], ragged()), ragged(), [ct.planning.METRICS["logit"]])[0].effect for text in (path, same)
    )
    assert np.abs(one - other).max() < EXACT
    assert np.abs(one).max() > 1e-4


@pytest.mark.parametrize("executor", ["rows", "suffix"])
def test_what_is_frozen_of_ablated_latents_stays(executor: str) -> None:
    ours: Any = termed.model("gpt2")
    opened = EXECUTORS[executor](ours, memory=1 << 30, progress=False, team=ALONE)
    paths = [f"{HOST}.latent @ B -> logits freezing {HOST}.latent[0]", f"({' @ B, '.join(OTHERS)} @ B) -> logits"]
    for what in ("zero", ct.given(0.7)):
        one, other = (
            opened.run(planned(ours, [text], ragged(), intervention=what), ragged(), [ct.planning.METRICS["logit"]])[0].effect
            for text in paths
        )
        assert np.abs(one - other).max() < EXACT
        assert np.abs(one).max() > 1e-4


@pytest.mark.parametrize("executor", ["rows", "suffix", "reference"])
def test_terms_are_read_before_any_is_written(executor: str) -> None:
    """Holding other terms of a node does not change what is read of it."""
    ours: Any = termed.model("gpt2")
    opened = EXECUTORS[executor](ours, memory=1 << 30, progress=False, team=ALONE)
    for read_term in ("latent[0]", "latent", "error"):
        held = f"{HOST}.latent[1], {HOST}.latent[2]" + (f", {HOST}.error" if read_term != "error" else "")
        free, frozen = (
            opened.run(
                planned(ours, [f"embed @ B -> {HOST}.{read_term} @ B{more}"], ragged()), ragged(), [ct.planning.METRICS["logit"]]
            )[0]
            for more in ("", f" freezing {held}")
        )
        assert np.abs(free.effect - frozen.effect).max() < EXACT
        assert np.abs(free.effect).max() > 1e-4


def test_a_node_with_some_terms_frozen_lets_the_others_through() -> None:
    """Freezing the latents of the stream leaves its error; freezing both leaves nothing."""
    model = _bundled()
    table = ct.patch(model, TASK, "embed @ B -> logits freezing resid[2].latent", executor=ct.executor(verify=1), **QUIET)
    assert table.frame.effect.abs().min() > 1e-3
    with pytest.raises(PathError, match="cuts every path"):
        ct.patch(model, TASK, "embed @ B -> logits freezing resid[2].latent, resid[2].error", **QUIET)


def _bundled(node: str = "resid[2]", features: int = 256, **options: Any) -> Any:
    model = ct.load("bundled:mamba", dtype="float64")
    sae = SAE(SAEConfig(128, features, **options), seed=1)
    with torch.no_grad():
        sae.b_enc.uniform_(-0.3, 0.1, generator=torch.Generator().manual_seed(0))
    return model.attach({node: sae})


def test_a_latent_is_written_along_its_direction() -> None:
    """The same as the node moved by hand by the change of the latent times its direction."""
    model = _bundled()
    (latent, *_), prompts = model.latents("resid[2]", TASK, top=1, at="B"), TASK.prompts(model.vocabulary)
    sae, at = model.saes[model.graph.node("resid[2]")], prompts.where["B"]
    clean, corrupted = (
        read(model, [f"resid[2].latent[{latent}]"], ids).popitem()[1] for ids in (prompts.clean, prompts.corrupted)
    )
    table = ct.patch(model, TASK, f"resid[2].latent[{latent}] @ B -> logits", **QUIET)
    change = (corrupted - clean)[..., None] * sae.W_dec[latent].double()
    moved = spliced(model, prompts.clean, {"resid[2]": lambda x: x + change}, np.arange(prompts.length) == at[:, None])
    base = spliced(model, prompts.clean, {}, prompts.clean >= 0)
    rows = np.arange(len(prompts))
    by_hand = [(run[rows, prompts.where["END"], prompts.answer]) for run in (moved, base)]
    assert np.abs(table.frame.effect.to_numpy() - (by_hand[0] - by_hand[1]).numpy()).max() < EXACT
    assert table.frame.effect.abs().max() > 1e-4


@pytest.mark.parametrize("executor", ["rows", "suffix"])
@pytest.mark.parametrize(("what", "value"), [("zero", 0.0), (ct.given(1.5), 1.5)])
def test_ablation_and_steering(executor: str, what: Any, value: float) -> None:
    model = _bundled()
    (latent, *_), prompts = model.latents("resid[2]", TASK, top=1, at="B"), TASK.prompts(model.vocabulary)
    table = ct.patch(model, TASK, f"resid[2].latent[{latent}] @ B -> logits", intervention=what, executor=executor, **QUIET)
    feature = read(model, [f"resid[2].latent[{latent}]"], prompts.clean).popitem()[1]
    direction = model.saes[model.graph.node("resid[2]")].W_dec[latent].double()
    chosen = np.arange(prompts.length) == prompts.where["B"][:, None]
    moved = spliced(model, prompts.clean, {"resid[2]": lambda x: x + (value - feature)[..., None] * direction}, chosen)
    rows, end = np.arange(len(prompts)), prompts.where["END"]
    by_hand = (moved - spliced(model, prompts.clean, {}, chosen))[rows, end, prompts.answer]
    assert np.abs(table.frame.effect.to_numpy() - by_hand.numpy()).max() < EXACT


def test_a_path_that_ends_at_a_latent_has_a_sign() -> None:
    model = _bundled("resid[3]")
    (latent, *_) = model.latents("resid[3]", TASK, top=1, at="END")
    table = ct.patch(model, TASK, f"embed @ B -> resid[3].latent[{latent}] @ END", executor=ct.executor(verify=1), **QUIET)
    prompts = TASK.prompts(model.vocabulary)
    ours, theirs = (
        read(model, [f"resid[3].latent[{latent}]"], ids).popitem()[1][np.arange(4), prompts.where["END"]].numpy()
        for ids in (prompts.clean, prompts.corrupted)
    )
    assert table.unit == "change of the latent"
    assert np.allclose(table.frame.base, ours)
    assert np.allclose(table.frame.source, theirs)
    assert np.allclose(table.frame.effect, theirs - ours)  # B is all that differs


def test_a_thousand_latents_cost_nothing_until_they_are_named() -> None:
    graph = ct.graph("mamba").attached({ct.Node("resid", (2,)): 10**8})
    assert len(graph.nx) == len(ct.graph("mamba").nx)
    assert str(graph.node(f"resid[2].latent[{10**8 - 1}]"))
    with pytest.raises(CircuitryError, match=r"no latent 100000000: it has 100,000,000; count from 0 to 99,999,999"):
        graph.node(f"resid[2].latent[{10**8}]")


def test_only_live_tokens_are_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One latent at one token: its features are computed at that token of the patched and the source run, no more."""
    model, seen = _bundled(), list[int]()
    encode = SAE.encode_at

    def counted(sae: SAE, x: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return encode(sae, x, latents)

    monkeypatch.setattr(SAE, "encode_at", counted)
    plan, prompts = ct.patching.experiment.compile_path(model, TASK, "resid[2].latent[3] @ B -> logits", lint=False)
    ct.executing.rows.executor.run_plan(model, plan, prompts, [ct.planning.METRICS["logit"]], memory=1 << 30)
    assert sum(seen) == 2 * len(prompts)


def test_the_random_latents_fire_on_the_prompts() -> None:
    model = _bundled()
    change, _ = model.changing("resid[2]", TASK.prompts(model.vocabulary), ct.Position("B"))
    table = ct.patch(model, TASK, "resid[2].latent[3] @ B -> logits", baseline=8, lint=False)
    assert table.random is not None
    names = set(table.random.node)
    assert len(names) > 3
    assert all(name.endswith(" @ B") and change[int(name.split("[")[2].split("]")[0])] > 0 for name in names)


def test_the_record_names_the_autoencoder() -> None:
    tables = [
        ct.patch(_bundled(features=features), TASK, "resid[2].latent[3] @ B -> logits", **QUIET).provenance["autoencoders"]
        for features in (256, 512)
    ]
    assert [table["resid[2]"]["latents"] for table in tables] == [256, 512]
    assert tables[0]["resid[2]"]["digest"] != tables[1]["resid[2]"]["digest"]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("resid[2].latent[256] @ B -> logits", r"resid\[2\] has no latent 256: it has 256"),
        ("resid[1].latent[3] @ B -> logits", r"resid\[1\] has no autoencoder"),
        ("resid[2].latent[3] @ B -> resid[2].latent[4] @ B", r"terms of resid\[2\] are read before any of them is written"),
        ("resid[2] @ B -> resid[2].error @ B", r"terms of resid\[2\] are read before"),
        ("(resid[2] @ B, resid[2].latent[3] @ B) -> logits", r"resid\[2\]\.latent\[3\] @ B is part of resid\[2\] @ B"),
        ("(resid[2].latent @ B, resid[2].latent[3] @ B) -> logits", r"is part of resid\[2\]\.latent @ B"),
        ("resid[2].latents[3] @ B -> logits", "expected '->' or '@'"),
        ("resid[1] @ B -> logits freezing resid[2].latent, resid[2].error", "cuts every path"),
        ("resid[2].latent[3] @ B -> logits freezing resid[2].latent[3]", "is an end of this leg"),
    ],
)
def test_refusals(path: str, problem: str) -> None:
    with pytest.raises(PathError, match=problem):
        ct.patch(_bundled(), TASK, path, **QUIET)


def _two_heads() -> ct.Model:
    """Autoencoders on two heads of different layers."""
    return ct.load("bundled:gpt_neox").attach({node: SAE(SAEConfig(32, 16), seed=1) for node in ("head[1,0]", "head[2,3]")})


def test_open_indices_run_over_the_nodes_with_autoencoders() -> None:
    for path, cells in (("head[{layer},{head}]", [(1, 0), (2, 3)]), ("head[1,{head}]", [0]), ("head[{layer},3]", [2])):
        assert list(ct.patch(_two_heads(), TASK, f"{path}.latent @ B -> logits", **QUIET).mean().index) == cells


@pytest.mark.parametrize(
    ("path", "axes", "problem"),
    [
        (
            "head[1,{head}].latent[0] @ B",
            {"head": [2]},
            r"head=2 is out of range; {head} has values 0; attached are: head\[1,0\], head",
        ),
        (
            "head[3,{head}].latent[0] @ B",
            {"head": [0]},
            r"head\[3,{head}\] has no autoencoder(?s:.*)attached are: head\[1,0\], head",
        ),
        ("head[{layer},{head}].error @ B", {"layer": [1], "head": [3]}, r"out of range|head\[1,3\] has no autoencoder"),
        (
            "head[2].latent[0] @ B",
            None,
            r"head\[2\] without its head is all 4 of them(?s:.*)name one, such as head\[2,3\].latent\[0\]",
        ),
        ("head[2].error @ B", None, r"and head\[2,0\] has no autoencoder"),
    ],
)
def test_what_has_no_latents_says_which_nodes_have(path: str, axes: Any, problem: str) -> None:
    with pytest.raises(CircuitryError, match=problem):
        ct.patch(_two_heads(), TASK, f"{path} -> logits", axes=axes, **QUIET)


def test_weights_that_are_no_numbers_are_refused_when_attached() -> None:
    sae = SAE(SAEConfig(128, 8, provenance={"node": "resid[1]"}))
    with torch.no_grad():
        sae.W_dec[0, :3] = float("nan")
    with pytest.raises(CircuitryError, match=r"3 of the 1,024 numbers in W_dec of the autoencoder of resid\[1\] are NaN"):
        ct.load("bundled:mamba").attach(sae)


def test_a_latent_that_does_not_change_has_no_effect() -> None:
    """In float32 its effect is at most the rounding of the logits, which may have one sign in every example."""
    sae = SAE(SAEConfig(128, 12, provenance={"node": "resid[1]"}))
    with torch.no_grad():
        sae.W_enc[:, :10] = 0
        sae.b_enc[:10] = 1
    model = ct.load("bundled:gpt_neox").attach(sae)
    table = ct.patch(model, TASK.but(examples=12), "resid[1].latent[{latent}] @ B -> logits", **QUIET)
    assert np.abs(table.values()[:10]).max() < 1e-4
    assert (table.statistics()[["p", "q"]][:10] == 1).all(axis=None) and (table.statistics()["p"][10:] < 1).all()


def test_attaching_refuses_what_does_not_fit(tmp_path: Any) -> None:
    model = ct.load("bundled:mamba")
    with pytest.raises(CircuitryError, match=r"resid\[1\] has 128 numbers at a token, its autoencoder takes 64"):
        model.attach({"resid[1]": SAE(SAEConfig(64, 256))})
    with pytest.raises(CircuitryError, match=r"no node resid\[9\]"):
        model.attach({"resid[9]": SAE(SAEConfig(128, 256))})
    with pytest.raises(CircuitryError, match="the folder does not exist"):
        model.attach(tmp_path / "nothing")
    with pytest.raises(CircuitryError, match="does not say which node"):
        model.attach(SAE(SAEConfig(128, 256)))
    with pytest.raises(CircuitryError, match="expected an SAE, a folder"):
        model.attach(3)  # type: ignore[arg-type]
    with pytest.raises(CircuitryError, match="the logits are the end"):
        model.attach({"logits": SAE(SAEConfig(2048, 4))})
    assert model.saes == {}
    model.attach({"resid[1]": SAE(SAEConfig(128, 256))})
    with pytest.raises(CircuitryError, match=r"resid\[1\].latent is a term of resid\[1\]"):
        model.attach({"resid[1].latent": SAE(SAEConfig(128, 256))})
    with pytest.raises(CircuitryError, match="no fixed width"):
        ct.load("bundled:gpt_neox").attach({"head[1,1].pattern": SAE(SAEConfig(3, 4))})


def test_an_autoencoder_of_another_model_is_noticed() -> None:
    with pytest.warns(UserWarning, match="was trained on bundled:gpt_neox, and this is bundled:mamba"):
        ct.load("bundled:mamba").attach(SAE(SAEConfig(128, 8, provenance={"node": "resid[1]", "model": "bundled:gpt_neox"})))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("resid[1]", TASK), r"resid\[1\] has no autoencoder"),
        (("resid[2]", "induction"), "expected a task"),
        (("resid[2]", TASK, -1), "top"),
        (("resid[2]", TASK, 5, "B+99"), r"B\+99 is outside of the prompt in 4 of 4 examples"),
        (("resid[2]", TASK, 5, "C"), "names no position 'C'"),
    ],
)
def test_what_cannot_be_asked_of_latents(arguments: tuple[Any, ...], problem: str) -> None:
    with pytest.raises(CircuitryError, match=problem):
        _bundled().latents(*arguments)


@pytest.mark.parametrize("name", ["gpt_neox", "mamba", "rwkv"])
def test_terms_of_the_embedding(name: str) -> None:
    """Nothing comes before it, so no path ends at its terms; they are written like those of any other node."""
    model = ct.load(f"bundled:{name}", dtype="float64").attach({"embed": SAE(SAEConfig(128, 64), seed=1)})
    whole, both, one = (
        ct.patch(model, TASK, f"{source} -> logits", executor=ct.executor(verify=1), **QUIET).frame.effect
        for source in ("embed @ B", "(embed.latent @ B, embed.error @ B)", "embed.latent[3] @ B")
    )
    assert np.abs(whole - both).max() < EXACT
    assert 0 < np.abs(one).max() < np.abs(whole).max()
    with pytest.raises(PathError, match="nothing flows"):
        ct.patch(model, TASK, "embed.latent[3] @ B -> embed.latent[4] @ B", **QUIET)
    assert len(ct.discover(model, ct.task("induction", distance=8, examples=8), features=True, verify=2, method="eap").ranking)


def test_attaching_from_folders_and_taking_off(tmp_path: Any) -> None:
    for node in ("resid[1]", "resid[2]"):
        SAE(SAEConfig(128, 256, provenance={"node": node})).save(tmp_path / node)
    model = ct.load("bundled:mamba").attach(tmp_path)
    assert [str(node) for node in model.saes] == ["resid[1]", "resid[2]"]
    model.detach("resid[1]")
    assert [str(node) for node in model.saes] == ["resid[2]"]
    assert str(model.graph.node("resid[2].latent[3]"))


def test_text_and_operators_build_the_same_latent() -> None:
    g = ct.graph("mamba").attached({ct.Node("resid", (2,)): 16})
    assert (g.resid[2].latent[ct.axis("i")] @ "B" >> g.logits) == ct.parse("resid[2].latent[{i}] @ B -> logits")
    assert (g.resid[2].error @ "B" >> g.logits).freezing(g.resid[2].latent) == ct.parse(
        "resid[2].error @ B -> logits freezing resid[2].latent"
    )
    assert ct.paths.from_json(ct.paths.to_json(ct.parse("resid[2].latent[{i}] @ B -> logits"))).axes == ("i",)
    with pytest.raises(CircuitryError, match="no index"):
        g.resid[2].error[3]
    with pytest.raises(CircuitryError, match="one index"):
        g.resid[2].latent[3][4]
    with pytest.raises(CircuitryError, match="has no 'error'"):
        _ = g.resid[2].latent.error


def test_half_precision_computes_features_in_float32() -> None:
    model = ct.load("bundled:mamba", dtype="bfloat16").attach({"resid[2]": SAE(SAEConfig(128, 256), seed=1)})
    assert next(iter(model.saes.values())).W_enc.dtype == torch.float32
    table = ct.patch(model, TASK, "resid[2].latent @ B -> logits", executor=ct.executor(verify=1), **QUIET)
    assert "both in float32" in table.provenance["verified"]
    assert table.frame.effect.abs().max() > 0.1
