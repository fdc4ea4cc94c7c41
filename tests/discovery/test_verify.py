"""Exact effects of edges and nodes, also where a position comes too late in some prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from circuitry.discovery.positions import ALL, REST, Labels
from circuitry.discovery.verify import able, patched, path_of
from support import asking, by_hooks


@pytest.mark.parametrize("kind", ["gpt2", "mamba"])
def test_nodes_at_positions_are_patches_with_plain_hooks(kind: str) -> None:
    """B is END in the last prompt alone, and only there can what is late in the model have an effect at B."""
    question = asking.about(asking.small(kind), level="node")
    clean, corrupted = asking.ids(question.prompts)
    items, label = question.items, question.labels.names.index("B")
    cells = [(number, label) for number in range(len(items))]
    exact = patched(question, cells)
    base, _ = by_hooks.run(question.model, clean)
    _, source = by_hooks.run(question.model, corrupted, items)
    elsewhere = _tokens(question, "B")
    for cell in cells:
        node = items[cell[0]]
        patch = {node: by_hooks.mixed(source[node], ~elsewhere)}
        logits, _ = by_hooks.run(question.model, clean, (), patch)
        wanted = asking.difference(question.prompts, logits) - asking.difference(question.prompts, base)
        got = exact.get(cell, np.zeros(len(question.prompts)))
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-9, err_msg=str(node))
    late = {"gpt2": "mlp[1]", "mamba": "gate[1]"}[kind]
    effects = exact[items.index(question.wiring.graph.node(late)), label]
    assert (effects[:2] == 0).all() and effects[2] != 0


def _tokens(question: Any, name: str) -> Any:
    return torch.from_numpy(question.labels.mask[:, question.labels.names.index(name)])


def test_able_says_in_which_prompts_a_path_can_have_an_effect() -> None:
    question = asking.about(asking.small("gpt2"))
    assert able(question, "head[1,0] @ B -> logits") == (2,)
    assert able(question, "head[1,0].k @ B -> logits") == (0, 1, 2)
    part = question.part(np.array([0, 2]))
    assert able(part, "head[1,0] @ B -> logits") == (1,)
    cell = part.wiring.number[part.wiring.find("head[1,0] -> logits")], part.labels.names.index("B")
    whole = patched(question, [cell])[cell]
    np.testing.assert_allclose(patched(part, [cell])[cell], whole[[0, 2]], atol=1e-12)


def test_without_positions_all_tokens_are_patched() -> None:
    question = asking.about(asking.small("gpt2"), positions=False)
    number = question.wiring.number[question.wiring.find("embed -> mlp[0]")]
    assert path_of(question, question.items[number], ALL) == "embed -> mlp[0] directly -> logits"
    model, (clean, corrupted) = question.model, asking.ids(question.prompts)
    mlp, stage = question.wiring.graph.node("mlp[0]"), question.wiring.stages[1]
    _, ends = by_hooks.run(model, clean, [stage])
    _, other = by_hooks.run(model, corrupted, [question.wiring.stages[0]])
    _, first = by_hooks.run(model, clean, [question.wiring.stages[0]])
    change = other[question.wiring.stages[0]] - first[question.wiring.stages[0]]
    _, alone = by_hooks.run(model, clean, [mlp], {stage: by_hooks.put(ends[stage] + change)})
    logits, _ = by_hooks.run(model, clean, (), {mlp: by_hooks.put(alone[mlp])})
    wanted = asking.difference(question.prompts, logits) - asking.difference(question.prompts, by_hooks.run(model, clean)[0])
    np.testing.assert_allclose(patched(question, [(number, 0)])[number, 0], wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["gpt2", "mamba"])
def test_tokens_without_a_name_are_verified_by_the_run_that_keeps_all_other_edges(kind: str) -> None:
    """The same token, once as a position of a path and once as one of the rest."""
    question = asking.about(asking.small(kind))
    token = int(question.prompts.first_changed.max())
    chosen = np.broadcast_to(np.arange(question.prompts.length) == token, (len(question.prompts), question.prompts.length))
    mask = np.stack([chosen, ~chosen], 1)
    cells = [(number, 0) for number in range(0, len(question.items), 3)]
    by_path = patched(replace(question, labels=Labels((str(token), "others"), mask)), cells)
    by_run = patched(replace(question, labels=Labels((REST, "others"), mask)), cells)
    assert max(np.abs(values).max() for values in by_path.values()) > 1e-3
    for cell in cells:
        np.testing.assert_allclose(by_run[cell], by_path.get(cell, 0), atol=1e-9)
