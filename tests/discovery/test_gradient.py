"""Gradients are those of finite differences, and the attributions of each scheme add up to what they should."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from circuitry.discovery.gradient import Gradients
from circuitry.discovery.methods import METHODS
from circuitry.discovery.methods.blocks import saturated
from circuitry.discovery.question import Question
from circuitry.discovery.rows import Point, Rows, legendre
from circuitry.discovery.schemes import OfActivations, OfBlocks, OfInput, Scheme
from circuitry.discovery.search import asked as question_of
from support import asking, by_hooks

CLEAN = OfInput((Point(0.0, 1.0),))
STEP = 1e-5


@functools.cache
def asked(kind: str, level: str = "edge") -> Question:
    return asking.about(asking.smooth(kind), level=level)


def gradients(question: Question, scheme: Scheme = CLEAN, **options: Any) -> Gradients:
    return Gradients(question.model, question.wiring, question.prompts, question.metric, scheme, **options)


def blockwise(question: Question, count: int) -> Gradients:
    return gradients(question, OfBlocks(legendre(count)), within=lambda rows: saturated(question, rows))


def noise(like: Tensor, seed: int = 0) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)


def slope(question: Question, node: Any, towards: Tensor) -> Any:
    """The derivative [example] of the metric as a node's value on the clean prompts moves in a direction."""
    clean, _ = asking.ids(question.prompts)
    ends = [by_hooks.run(question.model, clean, (), {node: by_hooks.added(s * STEP * towards)})[0] for s in (1, -1)]
    up, down = (asking.difference(question.prompts, logits) for logits in ends)
    return (up - down) / (2 * STEP)


def ends_of(question: Question, nodes: Any) -> tuple[by_hooks.Values, by_hooks.Values]:
    """The values of nodes on the clean and the corrupted prompts."""
    clean, corrupted = (by_hooks.run(question.model, ids, nodes)[1] for ids in asking.ids(question.prompts))
    return clean, corrupted


@pytest.mark.parametrize("kind", asking.KINDS)
def test_a_node_has_the_derivative_of_finite_differences(kind: str) -> None:
    question = asked(kind)
    passed, nodes = gradients(question), question.wiring.nodes
    clean, corrupted = ends_of(question, nodes)
    for number, node in enumerate(nodes):
        change = corrupted[node] - clean[node]
        torch.testing.assert_close(passed.change(node), change, rtol=0, atol=1e-12)
        weight = noise(change.flatten(2)[..., 0] if change.dim() > 2 else change, number)
        wanted = slope(question, node, weight.reshape(*weight.shape, *[1] * (change.dim() - 2)) * change)
        got = (passed.of(node) * weight).sum(1).detach().numpy()
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7, err_msg=str(node))


@pytest.mark.parametrize("kind", asking.KINDS)
def test_what_a_reader_sees_has_the_derivative_of_finite_differences(kind: str) -> None:
    """The stream moves for this reader alone: its own value is taken from such a run, and put into the clean one."""
    question = asked(kind)
    passed, wiring = gradients(question), question.wiring
    clean, _ = ends_of(question, wiring.stages)
    ids = asking.ids(question.prompts)[0]
    for number, reader in enumerate(wiring.readers):
        stage = wiring.stages[wiring.before[reader]]
        towards = noise(clean[stage], number)
        moved = [clean[stage] + sign * STEP * towards for sign in (1, -1)]
        ends = []
        for stream in moved:
            write = {stage: by_hooks.put(stream)}
            if reader != wiring.readers[-1]:
                write = {reader: by_hooks.put(by_hooks.run(question.model, ids, [reader], write)[1][reader])}
            ends.append(asking.difference(question.prompts, by_hooks.run(question.model, ids, (), write)[0]))
        got = (passed.seen(reader) * towards).flatten(1).sum(1).detach().numpy()
        np.testing.assert_allclose(got, (ends[0] - ends[1]) / (2 * STEP), rtol=1e-5, atol=1e-7, err_msg=str(reader))


def by_edges(passed: Gradients, sender: Any) -> Tensor:
    readers = [reader for reader in passed.wiring.readers if sender in passed.wiring.sources(reader)]
    return torch.stack([passed.edge(sender, reader) for reader in readers]).sum(0)


SCHEMES = {
    "clean": lambda question: gradients(question),
    "input": lambda question: gradients(question, OfInput(legendre(3))),
    "activations": lambda question: gradients(question, OfActivations(legendre(3), 1)),
    "blocks": lambda question: blockwise(question, 2),
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", [*asking.KINDS, "granite"])
def test_a_node_is_the_sum_of_its_edges(kind: str, scheme: str) -> None:
    """RWKV's first layer norms the embedding before anything is added, so there edges do not begin at the embedding's own value."""
    question = asked(kind)
    passed = SCHEMES[scheme](question)
    for sender in question.wiring.senders:
        if kind not in ("rwkv", "rwkv7") or sender != question.wiring.senders[0]:
            torch.testing.assert_close(by_edges(passed, sender), passed.of(sender), rtol=1e-7, atol=1e-9, msg=str(sender))
    assert max(float(passed.of(sender).abs().max()) for sender in question.wiring.senders[1:]) > 1e-3


@pytest.mark.parametrize("kind", asking.KINDS)
def test_blocks_are_complete(kind: str) -> None:
    """The edges into the logits add up to the whole effect. So do those that leave the embedding, if no softmax is averaged by itself."""
    question = asking.near(kind, {"qwen3_next": 0.02, "rwkv7": 0.03}.get(kind, 0.1))  # a short query or key turns quickly
    whole = np.subtract(*gradients(question).ends[::-1])
    logits, embed = question.wiring.readers[-1], question.wiring.senders[0]
    errors = []
    for count in (1, 2, 12):
        plain, passed = gradients(question, OfBlocks(legendre(count))), blockwise(question, count)
        into = torch.stack([passed.edge(sender, logits).sum(1) for sender in question.wiring.sources(logits)]).sum(0)
        out = by_edges(plain, embed).sum(1)
        errors.append([float(np.abs(total.detach().numpy() - whole).max()) for total in (into, out)])
    size = float(np.abs(whole).max())
    assert max(errors[0]) > 1e-3 * size > 1e-4 * size > max(errors[-1]), (errors, size)


@pytest.mark.parametrize("kind", asking.KINDS)
def test_activations_are_complete_for_the_block_that_is_moved(kind: str) -> None:
    """The positions of one block add up to the effect of patching them all."""
    question = asking.near(kind, 0.02)
    blocks = question.wiring.blocks
    for number in (0, len(blocks) - 2):
        block = blocks[number]
        passed = gradients(question, OfActivations(legendre(8), number))
        clean, corrupted = ends_of(question, [block])
        ids = asking.ids(question.prompts)[0]
        base, moved = (
            asking.difference(question.prompts, by_hooks.run(question.model, ids, (), {block: by_hooks.put(value[block])})[0])
            for value in (clean, corrupted)
        )
        got = passed.of(block).sum(1).detach().numpy()
        np.testing.assert_allclose(got, moved - base, rtol=1e-3, atol=1e-5, err_msg=str(block))
        assert np.abs(moved - base).max() > 3e-3


@pytest.mark.parametrize("kind", asking.KINDS)
def test_inputs_are_complete_at_the_embedding(kind: str) -> None:
    question = asking.near(kind, 0.02)
    embed = question.wiring.senders[0]
    for scheme in (OfInput(legendre(8)), OfActivations(legendre(8), -1)):
        passed = gradients(question, scheme)
        whole = passed.ends[1] - passed.ends[0]
        np.testing.assert_allclose(passed.of(embed).sum(1).detach().numpy(), whole, rtol=1e-3, atol=1e-5)
        assert np.abs(whole).max() > 3e-3


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "mamba", "mamba2", "rwkv", "qwen3_next"])
def test_tiny_differences_have_exact_effects_by_every_method(kind: str) -> None:
    """Where the corrupted token is nearly the clean one, everything is linear between them."""
    size = 1e-6
    question = asking.near(kind, size, examples=2, length=6)
    exact = METHODS["exact"].scores(question)
    assert np.abs(exact).max() > 0.01 * size
    series = np.array([".carry" in str(item) for item in question.items])
    for name in ("eap", "eap-ig-inputs", "eap-ig-activations", "ig-activations", "block-ig"):
        got = METHODS[name].scores(question)
        np.testing.assert_allclose(got[:, ~series] / size, exact[:, ~series] / size, rtol=1e-3, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("name", ["eap", "eap-ig-inputs", "eap-ig-activations", "ig-activations", "block-ig"])
@pytest.mark.parametrize("kind", ["gpt2", "mamba"])
def test_batches_and_padding_change_nothing(kind: str, name: str) -> None:
    question = asked(kind)
    whole = METHODS[name].scores(question)
    one_by_one = METHODS[name].scores(replace(question, memory=1))
    np.testing.assert_allclose(one_by_one, whole, rtol=1e-5, atol=1e-7)
    half = question.part(np.array([0, 2]))
    np.testing.assert_allclose(METHODS[name].scores(half), whole[[0, 2]], rtol=1e-5, atol=1e-7)


def test_one_example_a_batch_is_one_row_group(monkeypatch: pytest.MonkeyPatch) -> None:
    question = asked("gpt2")
    sizes = [len(prompts) for _, prompts in replace(question, memory=1).batches(3, "")]
    assert sizes == [1, 1, 1] and [len(prompts) for _, prompts in question.batches(3, "")] == [3]


@pytest.mark.parametrize("name", ["eap", "block-ig"])
def test_denoising_exchanges_the_prompts(name: str) -> None:
    """Denoising is noising of exchanged prompts; effects have the sign of the change from the corrupted run."""
    model = asking.small("gpt2")
    denoising = asking.about(model, direction="denoising")
    prompts = asking.about(model).prompts
    turned = question_of(model, asking.task(replace(prompts, clean=prompts.corrupted, corrupted=prompts.clean)), progress=False)
    np.testing.assert_allclose(METHODS[name].scores(denoising), METHODS[name].scores(turned), rtol=1e-6, atol=1e-9)


def test_a_metric_without_gradient_is_refused() -> None:
    from circuitry.errors import CircuitryError
    from circuitry.planning import Metric

    question = asked("gpt2")
    flat = Metric("steps", lambda logits, base, answer, foil: logits.argmax(-1).double())
    with pytest.raises(CircuitryError, match="'steps' has no gradient"):
        gradients(replace(question, metric=flat))


def test_a_stream_that_is_not_a_sum_is_refused() -> None:
    from circuitry.errors import CircuitryError

    question = asking.about(asking.smooth("gpt2"))
    question.model.hf.transformer.h[1].register_forward_hook(
        lambda module, args, output: (output[0] * 2, *output[1:]) if isinstance(output, tuple) else output * 2
    )
    with pytest.raises(CircuitryError, match="plus what its blocks add, so edges over the stream are not"):
        gradients(question).linear()


@pytest.mark.parametrize("kind", ["llama", "granite", "falcon_h1", "granitemoehybrid"])
def test_what_senders_add_is_the_stream_at_its_end(kind: str) -> None:
    """With one factor for all blocks, and with one for each kind of block."""
    passed = gradients(asked(kind))
    end = passed.change(passed.wiring.stages[-1])
    added = sum(passed.contributions.values())
    assert (added - end).abs().max() < 1e-9 * end.abs().max()
    factors = set(passed.linear().scales.values())
    assert len(factors) >= {"llama": 1, "granite": 1, "falcon_h1": 2, "granitemoehybrid": 1}[kind]
    assert (factors == {1.0}) is (kind == "llama")


def test_rows() -> None:
    rows = Rows(2, (Point(0.0, 0.5), Point(0.5, 0.5)))
    value = torch.arange(8.0)[:, None]
    assert rows.clean(value).flatten().tolist() == [0, 1]
    assert rows.change(value).flatten().tolist() == [2, 2]
    assert rows.line(value).flatten().tolist() == [0, 1, 1, 2]
    assert rows.mean(rows.between(value)).flatten().tolist() == [5, 6]
    assert sum(point.weight for point in legendre(7)) == pytest.approx(1)
    assert sum(p.weight * p.share**5 for p in legendre(3)) == pytest.approx(1 / 6)
