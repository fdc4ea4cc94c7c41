"""Latents and errors: attributions that add up, effects and runs of circuits as plain hooks have them, and known latents that are found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import circuitry as ct
from circuitry.autoencoders import SAE, SAEConfig
from circuitry.discovery.curve import measured
from circuitry.discovery.gradient import Gradients
from circuitry.discovery.latents import by_term, listed
from circuitry.discovery.methods import METHODS
from circuitry.discovery.methods.blocks import saturated
from circuitry.discovery.question import Question
from circuitry.discovery.rows import Point, legendre
from circuitry.discovery.schemes import OfActivations, OfBlocks, OfInput, Scheme
from circuitry.discovery.verify import patched
from support import asking, by_hooks, sparse, termed

KINDS = ("gpt2", "gpt_neox", "mamba", "mamba2", "rwkv")
STEP = 1e-5
SCHEMES: dict[str, Scheme] = {
    "clean": OfInput((Point(0.0, 1.0),)),
    "input": OfInput(legendre(3)),
    "activations": OfActivations(legendre(3), 1),
    "blocks": OfBlocks(legendre(2)),
}


def passed(question: Question, scheme: str = "clean") -> Gradients:
    within: Any = {"within": lambda rows: saturated(question, rows)} if scheme == "blocks" else {}
    return Gradients(question.model, question.wiring, question.prompts, question.metric, SCHEMES[scheme], **within)


def ends(question: Question, node: Any) -> tuple[Any, Any]:
    """The values [example, pos, D] of a node on the clean and the corrupted prompts."""
    clean, corrupted = (by_hooks.run(question.model, ids, [node])[1][node] for ids in asking.ids(question.prompts))
    return tuple(value.reshape(*value.shape[:2], -1) for value in (clean, corrupted))  # type: ignore[return-value]


def changes(question: Question, node: Any) -> tuple[Any, Any]:
    """What each latent [latent, example, pos, D] and the error [example, pos, D] change between the prompts."""
    sae, (clean, corrupted) = question.model.saes[node], ends(question, node)
    features = sae.encode(corrupted) - sae.encode(clean)
    latents = features.movedim(-1, 0)[..., None] * sae.W_dec[:, None, None]
    return latents, corrupted - clean - latents.sum(0)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_node_is_the_sum_of_its_latents_and_its_error(kind: str, scheme: str) -> None:
    question = sparse.question(kind)
    got = passed(question, scheme)
    largest = 0.0
    for host, sae in question.model.saes.items():
        terms = [*(host.latent[number] for number in range(termed.LATENTS)), host.error, host.latent]
        *single, error, together = by_term(got, sae, terms)
        whole = got.of(host).detach()
        torch.testing.assert_close(sum(single), together, rtol=0, atol=1e-12)
        torch.testing.assert_close(together + error, whole, rtol=0, atol=1e-12, msg=str(host))
        largest = max(largest, float(error.abs().max()), float(torch.stack(single).abs().max()))
    assert largest > 1e-3


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", [*KINDS, "granite"])
def test_the_stream_has_the_attribution_of_all_edges_that_cross_it(kind: str, scheme: str) -> None:
    """Edges that begin before a stage and end after it. RWKV norms the embedding first, so its first edges do not begin at the embedding."""
    question = asking.about(asking.smooth(kind))
    got, wiring = passed(question, scheme), question.wiring
    for number, stage in enumerate(wiring.stages[1:], 1):
        across = [
            got.edge(source, reader) for reader in wiring.readers if wiring.before[reader] >= number
            for source in wiring.sources(reader) if wiring.after[source] <= number
        ]  # fmt: skip
        torch.testing.assert_close(sum(across), got.of(stage), rtol=1e-7, atol=1e-9, msg=str(stage))


@pytest.mark.parametrize("kind", KINDS)
def test_a_term_has_the_derivative_of_finite_differences(kind: str) -> None:
    question = sparse.question(kind)
    got, clean = passed(question), asking.ids(question.prompts)[0]
    for host, sae in question.model.saes.items():
        latents, error = changes(question, host)
        number = int(latents.flatten(1).norm(dim=1).argmax())
        shape = by_hooks.run(question.model, clean, [host])[1][host].shape
        for term, towards in ((host.latent[number], latents[number]), (host.error, error)):
            weight = torch.rand(towards.shape[:2], dtype=towards.dtype, generator=torch.Generator().manual_seed(0))
            move = (weight[..., None] * towards).reshape(shape)
            runs = [by_hooks.run(question.model, clean, (), {host: by_hooks.added(sign * STEP * move)})[0] for sign in (1, -1)]
            up, down = (asking.difference(question.prompts, logits) for logits in runs)
            wanted = (up - down) / (2 * STEP)
            attributed = (by_term(got, sae, [term])[0] * weight).sum(1).numpy()
            np.testing.assert_allclose(attributed, wanted, rtol=1e-5, atol=1e-7, err_msg=str(term))


@pytest.mark.parametrize("kind", ["gpt2", "mamba"])
def test_exact_effects_are_those_of_plain_hooks_and_of_patch(kind: str) -> None:
    question = sparse.question(kind)
    host, label = next(iter(question.model.saes)), question.labels.names.index("A")
    at = torch.from_numpy(question.labels.mask[:, label])[..., None]
    latents, error = changes(question, host)
    clean = asking.ids(question.prompts)[0]
    base = asking.difference(question.prompts, by_hooks.run(question.model, clean)[0])
    numbers = [row for row, term in enumerate(question.terms) if term.host == host and term != host.latent]
    exact = patched(question, [(row, label) for row in numbers])
    singles = []
    for row in numbers:
        term = question.terms[row].term
        assert term is not None
        change = error if term.number is None else latents[term.number]
        logits, _ = by_hooks.run(question.model, clean, (), {host: by_hooks.added(change * at)})
        np.testing.assert_allclose(exact[row, label], asking.difference(question.prompts, logits) - base, atol=1e-9)
        singles += [] if term.number is None else [term.number]
    table = ct.patch(
        question.model, question.task, f"{host}.latent[{{latent}}] @ A -> logits", axes={"latent": singles},
        metric="logit_difference", baseline=0, lint=False,
    )  # fmt: skip
    by_patch = dict(zip(table.mean().index, table.values(), strict=True))
    for row in numbers:
        if (number := question.terms[row].term.number) is not None:  # type: ignore[union-attr]
            np.testing.assert_allclose(exact[row, label], by_patch[number], atol=1e-12)


@pytest.mark.parametrize("kind", ["gpt2", "mamba"])
def test_a_circuit_keeps_its_terms_and_takes_all_others_from_the_corrupted_run(kind: str) -> None:
    question = sparse.question(kind)
    rng = np.random.default_rng(0)
    kept = rng.random((len(question.items), len(question.labels))) < 0.5
    tokens = question.labels.tokens(kept)
    clean, corrupted = asking.ids(question.prompts)
    theirs = by_hooks.run(question.model, corrupted, question.model.saes)[1]
    writes = {host: _without(question, host, theirs[host], tokens) for host in question.model.saes}
    logits, _ = by_hooks.run(question.model, clean, (), writes)
    runs = measured(question, [kept, np.ones_like(kept), np.zeros_like(kept)])
    np.testing.assert_allclose(runs.values[0], asking.difference(question.prompts, logits), atol=1e-9)
    np.testing.assert_allclose(runs.values[1], runs.clean, atol=1e-9)
    np.testing.assert_allclose(runs.values[2], runs.corrupted, atol=1e-9)
    assert abs(runs.values[0] - runs.clean).max() > 1e-3


def _without(question: Question, host: Any, theirs: Any, tokens: Any) -> Any:
    """A write that moves every term that is not kept to its value in the corrupted run."""
    sae = question.model.saes[host]
    rows = {term.term.number: row for row, term in enumerate(question.terms) if term.host == host and term != host.latent}  # type: ignore[union-attr]

    def write(value: Any, call: int) -> Any:
        many = value.shape[1] == theirs.shape[1]
        at = slice(None) if many else slice(call, call + 1)
        now, other = (each.reshape(*each.shape[:2], -1) for each in (value, theirs[:, at]))
        features = sae.encode(other) - sae.encode(now)
        error = other - now - features @ sae.W_dec
        moved = now.clone()
        for number in range(termed.LATENTS):
            gone = (
                torch.from_numpy(~tokens[rows[number]][:, at]) if number in rows else torch.ones(now.shape[:2], dtype=torch.bool)
            )
            moved += (features[..., number] * gone)[..., None] * sae.W_dec[number]
        moved += error * torch.from_numpy(~tokens[rows[None]][:, at])[..., None]
        return moved.view_as(value)

    return write


def test_listed_are_the_latents_that_change_most() -> None:
    question = asking.about(sparse.attached("gpt2"), level="latent")
    host = list(question.model.saes)[1]
    latents, _ = changes(question, host)
    used = torch.from_numpy(question.labels.mask.any(1))
    sizes = (latents.norm(dim=-1) * used).sum((1, 2))
    order = [int(number) for number in sizes.argsort(descending=True) if sizes[number] > 0]
    got = [term for term in listed(question, most=5) if term.host == host]
    assert got == [*(host.latent[number] for number in order[:5]), host.latent, host.error]
    every = [term for term in listed(question) if term.host == host]
    assert len(every) == len(order) + 2 and 5 < len(order) < termed.LATENTS


@pytest.mark.parametrize(("corruption", "latent"), [("A", 272 + sparse.TRUE), ("B", sparse.TRUE)])
def test_the_latent_that_matters_is_found_where_it_matters(corruption: str, latent: int) -> None:
    """[A] acts on what is written at B about the token before it, [B] on the token at B."""
    model = sparse.compiled()
    found = ct.discover(model, sparse.same_tokens(model, corruption), features=True, verify=3, metric="logit")
    best = found.ranking.iloc[0]
    assert (best["latent"], best["position"], best["kind"]) == (f"resid[1].latent[{latent}]", "B", "latent")
    assert best["normalized"] == pytest.approx(1, abs=0.01)
    assert abs(found.ranking["attribution"][1:]).max() < 0.05 * abs(best["attribution"])
    whole = found.shares[found.shares["position"] == "all"].iloc[0]
    assert abs(whole["error_share"]) < 1e-4 and whole["attribution"] == pytest.approx(best["attribution"], rel=0.05)
    curve = found.curves(fractions=(0.01, 1.0), random=1)
    assert curve.frame["latents"][1] == np.count_nonzero(found.mean[found.question.ranked]) < found.size
    assert curve.frame["latents"][0] == 1 and curve.frame["faithfulness"][0] == pytest.approx(1, abs=0.01)
    assert "resid[1]: attribution" in found.text() and "latents and errors at positions ranked by block-ig" in found.text()


@pytest.mark.parametrize("method", [name for name in METHODS if name != "exact"])
def test_every_method_ranks_latents(method: str) -> None:
    question = sparse.question("gpt2")
    scores = METHODS[method].scores(question)
    assert np.isfinite(scores).all() and abs(scores).max() > 1e-3
    if method != "random":
        whole = METHODS[method].scores(replace(question, level="node"))
        nodes = list(question.wiring.nodes)
        for host in (host for host in question.model.saes if host in nodes):
            parts = [question.terms.index(term) for term in (host.latent, host.error)]
            np.testing.assert_allclose(scores[:, parts].sum(1), whole[:, nodes.index(host)], rtol=1e-4, atol=1e-6)


def test_the_sum_of_all_latents_is_not_ranked() -> None:
    """It would be counted twice."""
    model = sparse.attached("gpt2")
    host = next(iter(model.saes))
    task = asking.about(model, examples=4).task
    found = ct.discover(model, task, features=True, latents=2, verify=0, lint=False, method="eap", progress=False)
    shown = set(found.ranking["latent"])
    assert str(host.error) in shown and str(host.latent) not in shown
    assert found.size == (len(found.question.items) - len(model.saes)) * len(found.question.labels)
    every = [found.name(cell)[0] for cell in found.cells(10**6)]
    assert not any(name.endswith("latent") for name in every)
    assert found.inclusion(1)[0]["frequency"][0] > 0.3
    largest, single = abs(found.mean).max(1), [term.term.number is not None for term in found.question.terms]
    assert max(largest[~found.question.ranked]) > max(largest[single])
    ranked = found.shares.query("position == 'all' and node == @name", local_dict={"name": str(host)}).iloc[0]
    rows = [row for row, term in enumerate(found.question.terms) if term.host == host and term.term.number is not None]
    assert len(rows) == 2 and ranked["ranked"] == pytest.approx(found.mean[rows].sum(), rel=1e-6) != ranked["latents"]


def test_a_diagram_has_the_best_latents_by_layer_and_position() -> None:
    model = sparse.attached("gpt2")
    task = asking.about(model, examples=4).task
    found = ct.discover(model, task, features=True, verify=0, lint=False, method="eap", progress=False)
    drawn, cells = found.diagram(9), found.cells(9)
    assert [(node.name, node.effect) for node in drawn.nodes] == [
        (" @ ".join(found.name(cell)), pytest.approx(found.mean[cell])) for cell in cells
    ]
    assert drawn.edges == () and list(drawn.positions) == [
        position for position in found.question.labels.names if position in {node.position for node in drawn.nodes}
    ]
    order = model.graph.nodes(ports=True)
    by_depth = [model.graph.node(node.label).host for node in sorted(drawn.nodes, key=lambda node: node.depth)]
    assert [order.index(host) for host in by_depth] == sorted(order.index(host) for host in by_depth)
    with pytest.raises(ct.CircuitryError, match="count must be at least 1"):
        found.diagram(0)


def test_a_latent_carries_its_label(tmp_path: Any) -> None:
    model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4)
    plain = SAE(SAEConfig(128, 64, provenance={"node": "resid[4]"}), seed=1)
    latents = model.attach(plain).latents("resid[4]", task, top=2, at="END")
    plain.labelled({latents[0]: "a word that came before"}).save(tmp_path)
    found = ct.discover(ct.load("bundled:mamba").attach(tmp_path), task, features=True, verify=0, method="eap", lint=False)
    labels = dict(zip(found.ranking["latent"], found.ranking["label"], strict=True))
    assert (
        labels[f"resid[4].latent[{latents[0]}]"] == "a word that came before" and labels[f"resid[4].latent[{latents[1]}]"] == ""
    )
    assert found.ranking["label"].ne("").sum() == sum(found.ranking["latent"] == f"resid[4].latent[{latents[0]}]")
    drawn = found.diagram(len(found.ranking))
    assert {node.note for node in drawn.nodes if node.name.startswith(f"resid[4].latent[{latents[0]}] @")} == {
        "a word that came before"
    }
    boxes = [text.get_text() for text in drawn.draw().get_axes()[0].texts]
    for texts in (boxes, drawn.to_dot(), drawn.to_mermaid().replace("<br/>", "\\n")):
        assert any(f"resid[4].latent[{latents[0]}]{end}a word that came before" in str(texts) for end in ("\n", "\\n"))
    with pytest.raises(ct.CircuitryError, match="a label for feature 64; there are 0 to 63"):
        plain.labelled({64: "none"})
