"""The router of a mixture of experts is a node: its value is what each expert is taken with, and freezing it keeps the choice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry.discovery.wiring import Wiring
from circuitry.executing.activations import read
from circuitry.executing.rows import driver
from circuitry.executing.rows.schedule import schedule
from circuitry.models.routers import Routing, router_of
from support import tiny
from support.agreement import apart, both, model, planned, ragged

EXACT = 1e-10
ROUTED = [kind for kind in (*tiny.CONFIGS, *tiny.OTHERS) if "router" in {family.name for family in model(kind).graph.families}]
IDS = torch.arange(24).reshape(2, 12) + 3


def chosen(hf: Any, block: Any) -> Tensor:
    """The experts [token, k] that a block takes on ``IDS``, each token's in order."""
    seen: list[Tensor] = []
    handle = router_of(block).register_forward_hook(lambda _, __, out: seen.append(out[2]))
    with torch.no_grad():
        hf(IDS, use_cache=False)
    handle.remove()
    return seen[0].sort(-1).values


def test_every_type_with_experts_has_routers() -> None:
    """A module that is called an expert is in a layer whose graph has a router, and nowhere else; but not in Granite 4."""
    for kind in (*tiny.CONFIGS, *tiny.OTHERS):
        if kind == "granitemoehybrid-moe":
            assert not model(kind).graph.experts
            continue
        loaded = model(kind)
        blocks = {name.partition(".experts")[0] for name, _ in loaded.hf.named_modules() if ".experts" in name}
        graph = loaded.graph
        assert blocks == {graph.block(graph.node(f"mlp[{layer}]")) for layer in graph.experts}, kind
    assert len(ROUTED) > 20


@pytest.mark.parametrize("kind", ROUTED)
def test_the_value_is_the_weight_of_each_expert_and_zero_for_the_others(kind: str) -> None:
    ours = model(kind)
    (layer, *_) = ours.graph.experts
    node = ours.graph.node(f"router[{layer}]")
    value = read(ours, [node], IDS.numpy())[node]
    block = ours.hf.get_submodule(ours.graph.block(ours.graph.node(f"mlp[{layer}]")))
    assert value.shape == (2, 12, 4) and ((value != 0).sum(-1) == 2).all()
    assert torch.equal(value.flatten(0, 1).abs().topk(2).indices.sort(-1).values, chosen(ours.hf, block))


@pytest.mark.parametrize("kind", ROUTED)
def test_freezing_routers_keeps_the_choice_of_experts(kind: str) -> None:
    """Other tokens choose other experts, and do not where routers are frozen; the reference agrees about both."""
    ours = model(kind)
    layer = ours.graph.experts[-1]
    free, frozen = (both(ours, f"embed -> mlp[{layer}] @ B{end}", ragged())[0] for end in ("", f" freezing router[{layer}]"))
    assert free.error < EXACT > frozen.error and (free.reference - frozen.reference).abs().max() > 1e-4
    (of_router,) = both(ours, f"embed -> router[{layer}] @ B", ragged())
    before, after = ((values != 0) for values in (of_router.base, of_router.engine))
    assert not torch.equal(before, after), "the patch changes the choice"


@pytest.mark.parametrize("kind", ROUTED)
def test_an_mlp_is_computed_anew_although_its_router_is_frozen(kind: str) -> None:
    """It reads the stream past its router too, so tokens are live in it where none of its inner nodes moves."""
    ours, layer = model(kind), model(kind).graph.experts[-1]
    for path in ("embed @ B -> logits freezing router", f"resid_mid[{layer}] @ END -> mlp[{layer}] @ END freezing router"):
        path = path if "resid_mid" in {family.name for family in ours.graph.families} else path.replace("resid_mid", "resid")
        assert apart(ours, planned(ours, [path], ragged()), ragged(), others=("rows", "reference")) < EXACT, path


@pytest.mark.parametrize("frozen", (False, True))
def test_experts_under_a_patch_are_those_of_the_base_run_if_routers_are_frozen(frozen: bool) -> None:
    ours, prompts, seen = model("mixtral"), ragged(), list[Tensor]()
    made = planned(ours, ["embed -> logits" + frozen * " freezing router"], prompts)
    laid = schedule(made, made.cells, prompts)
    handle = ours.hf.model.layers[2].mlp.experts.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    driver.run(ours, laid, prompts)
    handle.remove()
    experts = seen[0].sort(-1).values.reshape(-1, prompts.length, 2)
    base, patched = (experts[torch.from_numpy(rows)] for rows in (laid.reading.base, laid.reading.rows[0]))
    assert torch.equal(base, patched) is frozen


@pytest.mark.parametrize("weights", ([0.7, 0.0, 0.3, 0.0], [0.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4], [-0.1, 0.0, 0.0, 0.9]))
def test_what_is_written_is_what_experts_are_taken_with(weights: list[float]) -> None:
    """However many have a weight, and whatever its sign: a mean over prompts takes more experts than one token does."""
    routing, written = Routing(), torch.tensor(weights)
    routing.tokens = 1, 1
    routing.router.register_forward_hook(lambda *_: written[None, None])
    taken, indices = routing(torch.tensor([[0.6, 0.4]]), torch.tensor([[1, 2]]), 4)
    assert torch.equal(torch.zeros(4).index_add(0, indices[0], taken[0]), written)
    assert len(set(indices[0].tolist())) == indices.shape[1] >= 2


def test_the_choice_stays_in_the_order_of_the_stock_model() -> None:
    routing = Routing()
    routing.tokens = 2, 1
    weights, indices = torch.tensor([[0.4, 0.6], [0.0, 0.0]]), torch.tensor([[3, 1], [2, 0]])
    assert all(map(torch.equal, routing(weights, indices, 4), (weights, indices)))


def test_a_layer_without_experts_says_where_routers_are() -> None:
    with pytest.raises(ct.PathError, match=r"(?s)layer 0 of 'router' does not exist.*layers 1 to 2"):
        both(model("glm4_moe"), "router[0] @ B -> logits", ragged())


def test_discovery_leaves_routers_inside_their_mlps() -> None:
    graph = model("mixtral").graph
    without, with_routers = Wiring(type(graph)(graph.architecture, graph.sizes)), Wiring(graph)
    assert set(with_routers.edges) == set(without.edges) and set(with_routers.nodes) == set(without.nodes)
