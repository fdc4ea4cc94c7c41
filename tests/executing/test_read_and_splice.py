"""Every node read at every position, and values replaced in a run: against the independent reference, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from circuitry.errors import CircuitryError
from circuitry.executing.activations import Change, read, spliced
from circuitry.executing.reference.hooks import Reference
from circuitry.paths import Node
from support import agreement, tiny

IDS = np.random.default_rng(0).integers(0, 61, (3, 7))
SOURCE = np.random.default_rng(1).integers(0, 61, (3, 7))
WHERE = np.arange(7) != np.array([[0], [3], [6]])


def key(node: Node) -> tuple[str, tuple[int, ...], str]:
    return node.family, tuple(int(i) for i in node.indices if isinstance(i, int)), node.port or ""


def own_places(model: Any) -> list[Node]:
    """Nodes that some module holds, the logits aside."""
    return [n for n in model.graph.nodes() if n.family != "logits" and model.graph.family(n.family).place is not None]


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_every_node_is_what_the_reference_says(kind: str) -> None:
    model = agreement.model(kind)
    expected = Reference(model.hf).run(torch.from_numpy(IDS), {})
    nodes = own_places(model)
    found = read(model, nodes, IDS)
    assert list(found) == nodes
    compared = 0
    for node, value in found.items():
        if key(node) in expected:
            wanted = expected[key(node)]
            assert value.shape == wanted.shape, node
            assert (value - wanted).abs().max() < 1e-10, node
            compared += 1
    assert compared >= len(nodes) * 0.6, f"only {compared} of {len(nodes)} are in the reference"


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_logits_are_read_at_every_position(kind: str) -> None:
    model = agreement.model(kind)
    with torch.no_grad():
        wanted = model.hf(torch.from_numpy(IDS), use_cache=False).logits
    for nodes in (["logits"], ["resid[1]", "logits"]):
        found = read(model, nodes, IDS)[Node("logits")]
        assert found.shape == (3, 7, 61)
        exact = 1e-10 if wanted.dtype == torch.float64 else 1e-6  # stock Mamba ends in float32, whatever its weights are
        assert (found - wanted).abs().max() < exact


def test_a_node_named_twice_is_read_once() -> None:
    found = read(agreement.model("mamba"), ["h[0]", "ssm_state[0]", "resid[1]", "resid[1]"], IDS)
    assert {str(node): value.shape[:2] for node, value in found.items()} == {"ssm_state[0]": (3, 7), "resid[1]": (3, 7)}


def test_threads_may_share_a_model() -> None:
    """One trace at a time: where a recurrent layer stops is said for each."""
    model = agreement.model("mamba")
    lengths = [3, 4, 5, 6, 7] * 4
    alone = {n: read(model, ["ssm_state[1]"], IDS[:, :n]) for n in set(lengths)}
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda n: read(model, ["ssm_state[1]"], IDS[:, :n]), lengths))
    for n, found in zip(lengths, together, strict=True):
        assert all(torch.equal(value, alone[n][node]) for node, value in found.items())


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_a_node_replaced_where_asked_changes_what_follows_as_the_reference_says(kind: str) -> None:
    model, where = agreement.model(kind), torch.from_numpy(WHERE)
    given = Reference(model.hf).run(torch.from_numpy(SOURCE), {})
    families = {node.family: node for node in own_places(model) if key(node) in given}
    assert len(families) >= 4
    for node in families.values():
        new = given[key(node)]

        def edit(value: torch.Tensor, at: int | None, new: torch.Tensor = new) -> torch.Tensor:
            if at is None:
                return torch.where(where.view(*where.shape, *[1] * (value.dim() - 2)), new, value)
            return torch.where(where[:, at].view(-1, *[1] * (value.dim() - 1)), new[:, at], value)

        expected = Reference(model.hf).run(torch.from_numpy(IDS), {key(node): edit})[("logits", (), "")]
        stops = iter(range(7))
        one_by_one = model.graph.place(node).position is None  # a state

        def change(
            _: torch.Tensor, new: torch.Tensor = new, stops: Iterator[int] = stops, one: bool = one_by_one
        ) -> torch.Tensor:
            return new[:, [next(stops)]] if one else new

        got = spliced(model, IDS, {node: change}, WHERE)
        exact = 1e-10 if got.dtype == torch.float64 else 1e-6  # stock Mamba ends in float32, whatever its weights are
        assert (got - expected).abs().max() < exact, node
        if model.graph.place(node).position is not None:
            assert (got - spliced(model, IDS, {}, WHERE)).abs().max() > 1e-6, node


def test_heads_of_a_layer_are_replaced_together() -> None:
    model = agreement.model("gpt_neox")
    everywhere = np.ones_like(WHERE)
    none: dict[str, Change] = {f"head[1,{h}]": torch.zeros_like for h in range(2)}
    got = spliced(model, IDS, none, everywhere)
    bias = model.hf.get_submodule("gpt_neox.layers.1.attention.dense").bias
    expected = spliced(model, IDS, {"attn[1]": lambda x: torch.zeros_like(x) + bias}, everywhere)
    assert (got - expected).abs().max() < 1e-10


def test_padding_on_the_right_changes_nothing_before_it() -> None:
    for kind in ("gpt_neox", "llama", "jamba", "mamba2", "rwkv"):
        model = agreement.model(kind)
        nodes = own_places(model)
        padded = np.concatenate([IDS, np.zeros((3, 4), np.int64)], 1)
        short, long = read(model, nodes, IDS), read(model, nodes, padded)
        assert max(float((long[n][:, :7] - short[n]).abs().max()) for n in nodes) < 1e-10, kind


def test_what_is_not_possible_is_refused() -> None:
    model = agreement.model("mamba")
    with pytest.raises(CircuitryError, match="has no node 'head'"):
        read(model, ["head[0,0]"], IDS)
    with pytest.raises(CircuitryError, match=r"returned shape .*, expected"):
        spliced(model, IDS, {"resid[1]": lambda x: x[..., :3]}, WHERE)
    assert model.mixers[0].circuitry.stops == ()  # also after an error
