"""Jamba: attention heads and states are nodes of one graph, each in its own layers, and patching them is what overwriting them is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import circuitry as ct
from circuitry import Node, Site, parse
from circuitry.executing.rows import driver
from circuitry.executing.rows.executor import run_plan
from circuitry.executing.rows.schedule import schedule
from circuitry.models import mamba, mixers
from circuitry.planning import cells, plan
from circuitry.planning.frozen import matching
from circuitry.planning.metrics import metric
from support import agreement, tiny
from support.agreement import both, model, ragged
from support.rounding import only_rounded
from support.stub_kernels import check_without

EXACT = 1e-10
SMALL = ct.graph("jamba", layer=4, head=2, lag=3, layout=("mamba mlp", "attention mlp"))
TASK = ct.task("induction", distance=8, examples=4)
KINDS = ("jamba", "jamba-moe")


def logits(hf: Any, ids: Tensor, **more: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = hf(ids, use_cache=False, **more).logits
    return found


def tokens(rows: int = 3, length: int = 20, seed: int = 0) -> Tensor:
    return torch.randint(1, 61, (rows, length), generator=torch.Generator().manual_seed(seed))


# --- the graph -------------------------------------------------------------------------------------------------------------


def test_a_layer_has_heads_or_a_state() -> None:
    heads, states = ({n.indices[0] for n in SMALL.nodes(family)} for family in ("head", "ssm_state"))
    assert (heads, states) == ({1, 3}, {0, 2})
    for family in SMALL.families:
        if family.indices[:1] == ("layer",):
            layers = {indices[0] for indices in SMALL.indices(family.name)}
            usual = {"resid": {0, 1, 2, 3, 4}, "resid_mid": {0, 1, 2, 3}, "mlp": {0, 1, 2, 3}, "head": heads, "attn": heads}
            assert layers == usual.get(family.name, states), family.name
    assert SMALL.indices("conv_tap") == tuple((layer, lag) for layer in (0, 2) for lag in range(3))


def test_roles_find_both_halves() -> None:
    by_role = {role: [f.name for f in SMALL.by_role(role)] for role in ("resid", "mixer", "head", "state", "mlp")}
    assert by_role == {
        "resid": ["resid", "resid_mid"],
        "mixer": ["attn", "mixer_out"],
        "head": ["head"],
        "state": ["ssm_state"],
        "mlp": ["mlp"],
    }
    assert SMALL.node("h[2].read") == Node("ssm_state", (2,), "read") and SMALL.node("head[1,0].z") == Node("head", (1, 0))


def test_a_hybrid_is_the_layers_of_two_architectures() -> None:
    """Layer 0 is wired inside as Mamba's, layer 1 as Llama's; what leaves a block goes to the stream in the middle."""

    def inside(graph: ct.Graph, layer: int) -> set[tuple[str, str, str]]:
        ours = [e for e in graph.edges if all(n.indices[:1] == (layer,) and "resid" not in n.family for n in e[:2])]
        return {(str(s).replace(f"[{layer}", "[0", 1), str(t).replace(f"[{layer}", "[0", 1), rule.name) for s, t, rule in ours}

    assert inside(SMALL, 0) == inside(SMALL, 2) == inside(ct.graph("mamba", layer=1, lag=3), 0)
    assert inside(SMALL, 1) == inside(SMALL, 3) == inside(ct.graph("llama", layer=1, head=2), 0)
    assert set(map(str, SMALL.nx.successors(Node("mixer_out", (2,))))) == {"resid_mid[2]"}
    assert set(map(str, SMALL.nx.predecessors(Node("resid_mid", (1,))))) == {"attn[1]", "resid[1]"}


def test_ancestors_run_through_both_kinds() -> None:
    above = {str(n) for n in SMALL.ancestors("head[3,0].q")}
    assert {"ssm_state[2].read", "head[1,1].v", "conv_tap[0,2]", "embed"} <= above and "head[3,0].k" not in above
    below = {str(n) for n in SMALL.descendants("ssm_state[0]")}
    assert {"head[1,0].k", "ssm_state[2].carry", "logits"} <= below and "gate[0]" not in below


@pytest.mark.parametrize(
    ("source", "target", "least", "most"),
    [
        ("conv_in[0]", "head[1,0].q", 0, float("inf")),
        ("conv_in[0]", "ssm_in[0]", 0, 2),
        ("ssm_in[0].skip", "head[1,0].k", 0, 0),
        ("head[1,0].q", "ssm_state[2].read", 0, float("inf")),
        ("ssm_state[0].carry", "mlp[0]", 1, float("inf")),
        ("head[1,1].pattern", "mlp[1]", 0, 0),
    ],
)
def test_how_far_a_change_moves(source: str, target: str, least: float, most: float) -> None:
    rule = SMALL.reach([SMALL.node(source)])[SMALL.node(target)]
    assert (rule.least, rule.most) == (least, most)


def test_reach_is_that_of_the_unrolled_graph() -> None:
    """With everything else that moves along the text held, what is left of a lag and a query is what the unrolled graph says."""
    length, source = 6, SMALL.node("conv_in[0]")
    held = {n for n in SMALL.nx if n.family in ("ssm_state", "head") and n.port in (None, "v", "carry")}
    full = SMALL.unroll(length)
    full.remove_nodes_from([(n, p) for n in held for p in range(length)])
    seen: dict[Node, set[int]] = {source: {0}}
    for node, position in nx.descendants(full, (source, 0)):
        seen.setdefault(node, set()).add(position)
    reach = SMALL.reach([source], held)
    assert set(reach) == set(seen)
    for node, positions in seen.items():
        assert positions == {k for k in range(length) if reach[node].reaches(k)}, node


# --- names and axes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "problem", "hint"),
    [
        ("head[0,0] -> logits", "layer 0 of this model is a mamba layer: it has no 'head'", "head is in layers 1, 3"),
        ("head[0] -> logits", "layer 0 of this model is a mamba layer: it has no 'head'", "head is in layers 1, 3"),
        ("h[3].read -> logits", "layer 3 of this model is an attention layer: it has no 'h'", "ssm_state is in layers 0, 2"),
        (
            "embed -> logits freezing attn[2]",
            "layer 2 of this model is a mamba layer: it has no 'attn'",
            "attn is in layers 1, 3",
        ),
        ("head[9,0] -> logits", "layer 9 of 'head' does not exist", "jamba has layers 1, 3 there"),
        ("head[1,2] -> logits", "head 2 of 'head' does not exist", "jamba has heads 0 to 1 there"),
        ("head[{l},2] -> logits", "head 2 of 'head' does not exist", "jamba has heads 0 to 1 there"),
        ("mlp[4] -> logits", "layer 4 of 'mlp' does not exist", "jamba has layers 0 to 3 there"),
        (
            "ssm_state[{l}] -> head[{l},0].q -> logits",
            "no layer of this model has ssm_state and head, so {l} has no value",
            "name two axes",
        ),
    ],
)
def test_a_node_of_the_other_kind_of_layer_is_refused(path: str, problem: str, hint: str) -> None:
    with pytest.raises(ct.PathError) as caught:
        plan(path, SMALL)
    assert caught.value.problem == problem and str(caught.value).splitlines()[-1] == hint


def test_open_axes_run_over_the_layers_that_have_the_node() -> None:
    def values(path: str, **axes: Any) -> list[tuple[Any, ...]]:
        return [tuple(v for _, v in cell.values) for cell in cells(parse(path), SMALL, chosen=axes)]

    assert values("head[{l},{h}] -> logits") == [(1, 0), (1, 1), (3, 0), (3, 1)]
    assert values("ssm_state[{l}] -> logits freezing ssm_state except ssm_state[{l}]") == [(0,), (2,)]
    assert values("mlp[{l}] -> logits") == [(0,), (1,), (2,), (3,)] and len(values("resid[{l}] -> logits")) == 5
    assert values("(mlp[{l}], attn[{l}]) -> logits") == [(1,), (3,)]
    assert values("head[{l},0] -> ssm_state[{m}]") == [(1, 0), (1, 2), (3, 0), (3, 2)]
    assert values("head[{l},0] -> logits", l=[3]) == [(3,)]
    with pytest.raises(ct.CircuitryError, match=r"^l=2 is out of range; \{l\} has values 1, 3$"):
        values("head[{l},0] -> logits", l=[2])


def test_names_without_indices_mean_the_nodes_there_are() -> None:
    assert {n.indices[0] for n in matching(SMALL, Node("head"))} == {1, 3}
    made = plan("embed -> logits freezing head, ssm_state", SMALL).cells[0].passes[0]
    assert sorted(map(str, made.frozen)) == [
        *(f"head[{layer},{head}]" for layer in (1, 3) for head in (0, 1)),
        *("ssm_state[0]", "ssm_state[2]"),
    ]
    whole = plan("head[3] @ 1 -> logits @ 1", SMALL).cells[0].passes[0]
    assert [str(write.node) for write in whole.writes] == ["head[3,0]", "head[3,1]"]
    direct = plan("head[1,0] @ 2 -> logits @ 2 directly", SMALL).cells[0].passes[0]
    assert {n.family for n in direct.frozen} == {"attn", "mixer_out", "mlp"}


# --- the instrumented model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16))
@pytest.mark.parametrize("padded", (False, True))
def test_an_instrumented_jamba_gives_the_same_bits(kind: str, dtype: torch.dtype, padded: bool) -> None:
    hf = tiny.stock(kind, dtype=dtype)
    hf.set_attn_implementation("eager")
    ids, mask = tokens(), torch.ones(3, 20, dtype=torch.long)
    for row in range(3):
        mask[row, 20 - 2 * row :] = 0
    more = {"attention_mask": mask} if padded else {}
    stock = logits(hf, ids, **more)
    ours = ct.load(hf, dtype=dtype)
    with mixers.exact(ours.mixers):
        assert torch.equal(logits(ours.hf, ids, **more), stock)
    if "moe" not in kind:  # rounding may send a token to another expert
        assert only_rounded(logits(ours.hf, ids, **more), stock, tiny.stock(kind, dtype=dtype), ids, **more)


def test_sizes_are_those_of_the_model() -> None:
    """With another kernel, other heads and another number of layers than the usual ones."""
    ours = tiny.model("jamba", layers=5, num_hidden_layers=5, mamba_d_conv=3, num_attention_heads=2, attn_layer_offset=0)
    assert ours.graph.sizes == {"layer": 5, "head": 2, "lag": 3}
    taps = {(n, len(m.circuitry.conv_tap)) for n, m in zip((1, 3), ours.mixers, strict=True)}
    assert taps == {(1, 3), (3, 3)} and {i[1] for i in ours.graph.indices("conv_tap")} == {0, 1, 2}
    assert [i[0] for i in ours.graph.indices("attn")] == [0, 2, 4]


def test_float64_is_not_rounded_in_the_mixer() -> None:
    """Stock norms compute in float32; ours on the step size, B and C follow a change of 1e-9 that float32 cannot."""
    ours = tiny.model("jamba")
    mixer, hidden = ours.mixers[0], torch.randn(1, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        base, near = mixer(hidden), mixer(hidden + 1e-9)
        slope = (mixer(hidden + 1e-5) - base) / 1e-5
    assert ((near - base) / 1e-9 - slope).abs().max() < 1e-3 * slope.abs().max()


@pytest.mark.parametrize(("period", "offset", "heads", "states"), [(8, 4, 0, 4), (1, 0, 4, 0), (3, 2, 1, 3)])
def test_a_jamba_of_one_kind_of_layer_loads(period: int, offset: int, heads: int, states: int) -> None:
    ours = tiny.model("jamba", attn_layer_period=period, attn_layer_offset=offset)
    names = {f.name for f in ours.graph.families}
    found = [len(ours.graph.nodes(family)) if family in names else 0 for family in ("attn", "ssm_state")]
    assert found == [heads, states] and len(ours.mixers) == states
    (cell,) = both(ours, "embed @ B -> logits", ragged())
    assert cell.error < EXACT < cell.effect


def test_stock_kernels_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where mamba-ssm is importable without a GPU stock Jamba fails: the check of attention, too, must run on our mixers."""
    from transformers.models.jamba import modeling_jamba

    check_without(monkeypatch, "jamba", modeling_jamba, "mamba_selective_scan")


# --- what a patch means ----------------------------------------------------------------------------------------------------


def continued(hf: Any, ids: Tensor, at: int, changes: dict[int, Tensor]) -> Tensor:
    """The oracle: stock Jamba up to ``at``, the states of some layers overwritten in its cache, then token by token."""
    from transformers import DynamicCache

    cache = DynamicCache(config=hf.config)
    with torch.no_grad():
        hf(ids[:, : at + 1], past_key_values=cache, use_cache=True)
        for layer, state in changes.items():
            cache.layers[layer].recurrent_states[0].copy_(state)
        steps = [hf(ids[:, t : t + 1], past_key_values=cache, use_cache=True).logits for t in range(at + 1, ids.shape[1])]
    return torch.cat(steps, 1)


def states(hf: Any, ids: Tensor, layers: list[int]) -> dict[int, Tensor]:
    """What stock Jamba has in its cache after the last of ``ids``."""
    from transformers import DynamicCache

    cache = DynamicCache(config=hf.config)
    with torch.no_grad():
        hf(ids, past_key_values=cache, use_cache=True)
    return {layer: cache.layers[layer].recurrent_states[0].clone() for layer in layers}


@pytest.mark.parametrize("layers", [[0], [2], [0, 2]])
def test_carrying_another_state_on_is_overwriting_the_cache(layers: list[int]) -> None:
    hf, at = tiny.stock("jamba", dtype=torch.float32), 6
    prompts = ragged(2, 12)
    clean, other = (torch.from_numpy(ids) for ids in (prompts.clean, prompts.corrupted))
    plain = continued(hf, clean, at, {})
    wanted = continued(hf, clean, at, states(hf, other[:, : at + 1], layers))
    assert (wanted - plain).abs().max() > 1e-2
    ours = ct.load(hf)
    sites = ", ".join(f"ssm_state[{layer}].carry @ {at}" for layer in layers)
    for position in range(at + 1, int(prompts.where["END"].min()) + 1):
        (cell,) = both(ours, f"({sites}) -> logits @ {position}", prompts)
        assert (cell.engine - wanted[:, position - at - 1]).abs().max() < 2e-4


def test_one_edge_of_the_convolution_moves_what_its_weight_says() -> None:
    ours, ids = tiny.model("jamba"), tokens(2, 9)
    mixer, lag, at = ours.mixers[1], 2, 6
    change = torch.randn(2, mixer.intermediate_size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    seen: dict[str, list[Tensor]] = {"conv_in": [], "ssm_in": []}
    for name, values in seen.items():
        getattr(mixer.circuitry, name).register_forward_hook(lambda _, __, out, values=values: values.append(out.clone()))
    logits(ours.hf, ids)
    there = (torch.arange(9) == at)[None, :, None]
    mixer.circuitry.conv_tap[lag].register_forward_hook(lambda _, __, out: out + there * change[:, None])
    logits(ours.hf, ids)
    padded = F.pad(seen["conv_in"][0].transpose(1, 2), (3, 0))
    before = F.conv1d(padded, mixer.conv1d.weight, mixer.conv1d.bias, groups=padded.shape[1]).transpose(1, 2)
    after = before + there * mixer.conv1d.weight[:, 0, 3 - lag] * change[:, None]
    for found, wanted in zip(seen["ssm_in"], (before, after), strict=True):
        assert (found - F.silu(wanted)).abs().max() < EXACT
    assert (F.silu(after) - F.silu(before)).abs().max() > 1e-2


def test_a_frozen_state_is_bitwise_the_clean_one() -> None:
    """Its trajectory under another input is that of the base run, at every position, though only what writes it is held."""
    ours, prompts = model("jamba"), ragged()
    state = Node("ssm_state", (2,))
    for frozen in (True, False):
        made = plan(f"embed -> logits freezing {'ssm_state, ' * frozen}ssm_in.C", ours.graph, where=agreement.where(prompts))
        cell = replace(made.cells[0], passes=(replace(made.cells[0].passes[0], reads=(Site(state),)),))
        laid = schedule(made, [cell], prompts)
        read = driver.run(ours, laid, prompts)[0]
        base, patched = (read[torch.from_numpy(rows)] for rows in (laid.reading.base, laid.reading.rows[0]))
        assert base.shape[1:] == (prompts.length, 32, 4) and torch.equal(patched, base) is frozen


def test_experts_are_chosen_for_each_token_alone() -> None:
    """Routing is inside ``mlp``: other examples in the batch change nothing, and a patch before it may change the expert."""
    ours, prompts = model("jamba-moe"), ragged(4)
    made = plan("ssm_state[0] @ B -> logits freezing head", ours.graph, where=agreement.where(prompts), length=prompts.length)
    whole = run_plan(ours, made, prompts, [metric("logit")], memory=1 << 30)[0].effect
    alone = [run_plan(ours, made, prompts.take(np.array([k])), [metric("logit")], memory=1 << 30)[0].effect for k in range(4)]
    np.testing.assert_allclose(np.concatenate(alone, 1), whole, atol=EXACT)
    chosen: list[Tensor] = []
    router = ours.hf.model.layers[1].feed_forward.router
    handle = router.register_forward_hook(lambda _, __, out: chosen.append(out[2]))
    for ids in (prompts.clean, prompts.corrupted):
        logits(ours.hf, torch.from_numpy(ids))
    handle.remove()
    assert not torch.equal(*chosen)


@pytest.mark.parametrize("broken", ("dt_layernorm", "b_layernorm", "c_layernorm"))
def test_a_norm_without_its_weights_is_caught(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    normed = mamba._normed
    hf = tiny.stock("jamba", dtype=torch.float32)
    weights = [getattr(layer.mamba, broken).weight for layer in hf.model.layers if hasattr(layer, "mamba")]
    monkeypatch.setattr(
        mamba, "_normed", lambda v, n: normed(v, n) / n.weight if any(n.weight is w for w in weights) else normed(v, n)
    )
    with pytest.raises(ct.ModelError, match=r"Mamba: instrumented logits differ from the stock model's by"):
        ct.load(hf)


# --- what uses the graph ---------------------------------------------------------------------------------------------------


def test_random_nodes_are_drawn_among_those_there_are() -> None:
    ours = model("jamba")
    for path, there in (("head[{layer},0] @ END -> logits", {1, 3}), ("ssm_state[{layer}] @ B -> logits", {0, 2})):
        table = ct.patch(ours, TASK, path, baseline=24, executor=ct.executor(verify=1), lint=False)
        assert table.random is not None
        assert {ct.parse(f"{n} -> logits").sources[0].node.indices[0] for n in table.random["node"]} == there
        assert set(table.frame["layer"]) == there


def test_where_a_token_is_taken_up_is_asked_of_every_layer() -> None:
    found = ct.off_by_one(tiny.model("jamba", dtype=torch.float32), TASK.but(examples=10, corruption="B"), resamples=100)
    assert set(found.frame["layer"]) >= {0, 1, 2, 3}


def test_either_kind_of_layer_is_drawn() -> None:
    from circuitry.drawing.architecture import draw_layer

    drawn = [{t.get_text() for t in draw_layer(SMALL, layer).get_axes()[0].texts} for layer in (0, 1)]
    assert "ssm_state[l].carry" in drawn[0] and "attn[l]" not in drawn[0]
    assert "head[l,0..1].pattern" in drawn[1] and "mixer_out[l]" not in drawn[1]
    assert all({"resid[l]", "resid_mid[l]", "mlp[l]", "resid[l+1]"} <= texts for texts in drawn)
