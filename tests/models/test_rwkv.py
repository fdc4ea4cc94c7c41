"""RWKV-4: what its nodes mean, against the stock model's own state and the recurrence in closed form."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import RwkvForCausalLM
from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu

import circuitry as ct
from circuitry import Graph, ModelError, Node, PathError, parse
from circuitry.models import rwkv
from circuitry.models import wkv as module
from circuitry.models.wkv import wkv
from support import tiny
from support.agreement import both, by_reference, model, ragged
from support.drawn_paths import drawn
from support.position_graph import distances

EXACT = 1e-10
PROMPTS = ragged()
SMALL = ct.graph("rwkv", layer=2)


def tokens(rows: int = 3, length: int = 20, seed: int = 0) -> Tensor:
    return torch.randint(1, 61, (rows, length), generator=torch.Generator().manual_seed(seed))


def logits(hf: Any, ids: Tensor, **more: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = hf(ids, **{"use_cache": False, **more}).logits
    return found


# --- parity with the stock model -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16))
def test_an_instrumented_rwkv_gives_the_same_bits(dtype: torch.dtype) -> None:
    hf, ids = tiny.stock("rwkv", dtype=dtype), tokens()
    stock = logits(hf, ids)
    ours = ct.load(hf, dtype=dtype)
    assert torch.equal(logits(ours.hf, ids), stock)
    for mixer in ours.mixers:
        mixer.circuitry.stops = (0, 4, 5, 19)
    assert torch.equal(logits(ours.hf, ids), stock), "stops that change nothing change no bit"


def test_weights_that_stay_in_float32_give_the_same_bits(tmp_path: Any) -> None:
    """transformers keeps time_decay and time_first in float32 when it loads a model in float16."""
    tiny.stock("rwkv", dtype=torch.float32).save_pretrained(tmp_path)
    hf = RwkvForCausalLM.from_pretrained(tmp_path, dtype=torch.float16).eval()
    assert hf.rwkv.blocks[0].attention.time_decay.dtype == torch.float32
    stock = logits(hf, tokens())
    assert torch.equal(logits(ct.models.wrap(hf).hf, tokens()), stock)


def test_padding_on_the_right_changes_nothing_before_it() -> None:
    ours, ids = model("rwkv"), tokens()
    padded = torch.cat([ids, torch.zeros(3, 4, dtype=torch.long)], 1)
    assert (logits(ours.hf, padded)[:, :20] - logits(ours.hf, ids)).abs().max() < 1e-12


def test_in_float64_the_state_is_float64() -> None:
    """The stock model keeps its state in float32 even then; ours is what the reference says to the last digits."""
    hf = tiny.stock("rwkv")
    stock = logits(hf, tokens())
    ours = logits(ct.load(hf, dtype="float64").hf, tokens())
    assert 1e-10 < (ours - stock).abs().max() < 1e-4
    assert both(model("rwkv"), "embed -> logits", PROMPTS)[0].error < EXACT


def test_a_model_that_is_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rwkv, "wkv", lambda *args: 1.01 * wkv(*args))
    with pytest.raises(ModelError, match=r"RWKV: instrumented logits differ from the stock model's by"):
        tiny.model("rwkv")


def test_with_a_state_to_keep_the_stock_method_runs() -> None:
    hf, ids = tiny.stock("rwkv", dtype=torch.float32, attention_hidden_size=16), tokens()
    with torch.no_grad():
        stock = hf(ids, use_cache=True)
        with ct.load(hf) as ours:
            out = ours.hf(ids, use_cache=True)
    assert torch.equal(out.logits, stock.logits)
    assert all(torch.equal(one, other) for one, other in zip(out.state, stock.state, strict=True))


# --- rescaling -------------------------------------------------------------------------------------------------------------


def test_rescaling_is_turned_off() -> None:
    """Three layers, rescaled after every one: the first forward pass of the stock model would divide weights in place."""
    hf = tiny.stock("rwkv", dtype=torch.float32, rescale_every=1)
    before = {name: value.clone() for name, value in hf.state_dict().items()}
    ours = ct.load(hf)
    found = logits(ours.hf, tokens())
    assert all(torch.equal(value, before[name]) for name, value in ours.hf.state_dict().items() if name in before)
    assert torch.equal(found, logits(tiny.stock("rwkv", dtype=torch.float32, rescale_every=0), tokens()))


def test_a_model_that_was_rescaled_is_refused() -> None:
    hf = tiny.stock("rwkv", dtype=torch.float32, rescale_every=2)
    logits(hf, tokens())
    with pytest.raises(
        ModelError, match=r"has run with config\.rescale_every=2, which divided its weights in place; set it to 0"
    ):
        ct.load(hf)
    for harmless in (0, 3):  # with three layers the fourth would be the first to be divided
        hf = tiny.stock("rwkv", dtype=torch.float32, rescale_every=harmless)
        logits(hf, tokens())
        ct.load(hf)


# --- the recurrence --------------------------------------------------------------------------------------------------------


def inputs(seed: int, batch: int = 2, length: int = 12, channels: int = 5, scale: float = 2.0) -> list[Tensor]:
    """Keys, values, decay (negative) and the bonus, in float64."""
    make = torch.Generator().manual_seed(seed)
    keys, values = (scale * torch.randn(batch, length, channels, generator=make, dtype=torch.float64) for _ in range(2))
    decay, first = (torch.randn(channels, generator=make, dtype=torch.float64) for _ in range(2))
    return [keys, values, -torch.exp(decay), first]


@given(st.integers(0, 99), st.sets(st.integers(0, 14), max_size=5), st.sampled_from((0.1, 3.0, 100.0)))
@settings(max_examples=40, deadline=None)
def test_wkv_is_a_weighted_mean(seed: int, stops: set[int], scale: float) -> None:
    """In closed form: a softmax over the past, with a bonus for the token itself; also where exp overflows."""
    keys, values, decay, first = inputs(seed, scale=scale)
    with torch.no_grad():
        found = wkv((keys, values), (keys, values), decay, first, sorted(stops))
    for t in range(keys.shape[1]):
        past = keys[:, :t] + (t - 1 - torch.arange(t))[:, None] * decay
        weights = torch.softmax(torch.cat([past, (keys[:, t] + first)[:, None]], 1), 1)
        assert ((weights * values[:, : t + 1]).sum(1) - found[:, t]).abs().max() < EXACT * scale


@pytest.mark.parametrize("rows", (1, 2, 100))
def test_rows_in_groups_give_the_same_bits(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, values, decay, first = (t.float() for t in inputs(0, batch=7, length=30, channels=19))
    wanted = rwkv_linear_attention_cpu(torch.log(-decay), first, keys, values)[0]
    monkeypatch.setattr(module, "_ROWS", rows * 19)
    with torch.no_grad():
        found = wkv((keys, values), (keys, values), -torch.exp(torch.log(-decay)), first, (3, 4, 29))
    assert torch.equal(found, wanted)


def test_what_is_read_and_what_is_carried_are_two_things() -> None:
    """A patch at 4 is read at 5, never at 4; what is carried on is read from 6."""
    keys, values, decay, first = inputs(1)

    def changed(at_stop: Any) -> list[bool]:
        runs = [wkv((keys, values), (keys, values), decay, first, (4,), change) for change in (lambda h: (h, h), at_stop)]
        return ((runs[0] - runs[1]).abs().amax((0, 2)) > 1e-12).tolist()

    other = torch.tensor([1.0, 0.5, 3.0], dtype=torch.float64)
    assert changed(lambda h: (h + other, h)) == [k == 5 for k in range(12)]
    assert changed(lambda h: (h, h + other)) == [k > 5 for k in range(12)]
    assert changed(lambda h: (h + other, h + other)) == [k > 4 for k in range(12)]


def test_a_state_of_zeros_is_one_to_which_nothing_was_written() -> None:
    keys, values, decay, first = inputs(2)
    found = wkv((keys, values), (keys, values), decay, first, (4,), lambda h: (0 * h, 0 * h))
    rest = keys[:, 5:], values[:, 5:]
    assert (found[:, 5:] - wkv(rest, rest, decay, first)).abs().max() < EXACT
    assert (found[:, 5] - values[:, 5]).abs().max() < EXACT


def test_a_state_means_something_only_whole() -> None:
    """The three numbers in another scale are the same state; the numerator alone in another scale is not."""
    keys, values, decay, first = inputs(3)

    def rescaled(h: Tensor) -> tuple[Tensor, Tensor]:
        above, below, most = h.unbind(-1)
        moved = torch.stack([above * torch.e, below * torch.e, most - 1], -1)
        return moved, moved

    plain, same = (wkv((keys, values), (keys, values), decay, first, (4,), f) for f in (lambda h: (h, h), rescaled))
    assert (plain - same).abs().max() < EXACT
    one = torch.tensor([torch.e, 1.0, 1.0], dtype=torch.float64)
    other = wkv((keys, values), (keys, values), decay, first, (4,), lambda h: (h * one, h * one))
    assert (plain - other).abs().max() > 1e-3


def test_gradients_flow_through_an_instrumented_rwkv() -> None:
    ours, ids = tiny.model("rwkv", dtype=torch.float32), tokens(1, 9)
    plain = tiny.stock("rwkv", dtype=torch.float32)
    for hf in (ours.hf, plain):
        hf(ids, use_cache=False).logits.sin().sum().backward()
    found = dict(ours.hf.named_parameters())
    for name, p in plain.named_parameters():
        assert (found[name].grad - p.grad).abs().max() < 1e-4 * p.grad.abs().max(), name


# --- what a patch means ----------------------------------------------------------------------------------------------------


def continued(hf: Any, ids: Tensor, at: int, state: list[Tensor]) -> Tensor:
    """Logits after position ``at``, by the stock model, from a state of its own kind."""
    return logits(hf, ids[:, at + 1 :], state=[part.clone() for part in state], use_cache=True)


@pytest.mark.parametrize("layer", range(3))
def test_a_state_patch_is_the_stock_model_continued_from_another_state(layer: int) -> None:
    """The oracle: run the stock model to B+1 on both inputs, exchange one layer's three numbers, and go on from there."""
    hf = tiny.stock("rwkv", dtype=torch.float32, attention_hidden_size=16)
    hf.config.rescale_every = 0
    clean, corrupted, at = tokens(2, 12, 1), tokens(2, 12, 2), 5
    corrupted[:, at + 1 :] = clean[:, at + 1 :]
    with torch.no_grad():
        base, other = (hf(ids[:, : at + 1], use_cache=True).state for ids in (clean, corrupted))
    for part in (2, 3, 4):
        base[part][:, :, layer] = other[part][:, :, layer]
    wanted = continued(hf, clean, at, base)[:, -1]
    plain = logits(hf, clean)[:, -1]
    ours = ct.load(hf)
    prompts = ct.prompting.Prompts(
        clean.numpy(), corrupted.numpy(), clean[:, 0].numpy(), clean[:, 1].numpy(), {"END": torch.full((2,), 11).numpy()}, ()
    )
    (found,) = both(ours, f"wkv_state[{layer}] @ {at} -> logits", prompts)
    assert (found.engine - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert (wanted - plain).abs().max() > 1e-2


@pytest.mark.parametrize(("lag", "port"), [(lag, port) for lag in (0, 1) for port in ("key", "value", "receptance")])
def test_a_tap_of_one_consumer_moves_exactly_what_the_weights_say(lag: int, port: str) -> None:
    """One consumer's view of the token ``lag`` back: its part of wkv_in moves by weight times change, the others not at all."""
    ours = model("rwkv")
    (part,) = both(ours, f"shift_tap[1,{lag}].{port} @ B+{lag} -> wkv_in[1] @ B+{lag}", PROMPTS)
    base, other, _ = by_reference(ours, parse("embed -> shift_in[1] @ B"), PROMPTS)
    weight = getattr(ours.mixers[1], f"time_mix_{port}")[0, 0].detach()
    wanted = (other - base) * (1 - weight if lag else weight)
    width, at = 16, ("key", "value", "receptance").index(port)
    change = part.engine - part.base
    assert (change[:, at * width : (at + 1) * width] - wanted).abs().max() < EXACT < wanted.abs().max()
    change[:, at * width : (at + 1) * width] = 0
    assert change.abs().max() < 1e-14


@pytest.mark.parametrize(("lag", "port", "target"), [(1, "key", "mlp_hidden"), (0, "receptance", "mlp_gate")])
def test_a_tap_of_channel_mixing_is_seen_by_its_consumer_alone(lag: int, port: str, target: str) -> None:
    ours = model("rwkv")
    (found,) = both(ours, f"mlp_tap[1,{lag}].{port} @ B+{lag} -> {target}[1] @ B+{lag}", PROMPTS)
    assert found.error < EXACT < found.effect
    other = "mlp_gate" if target == "mlp_hidden" else "mlp_hidden"
    with pytest.raises(PathError, match=f"nothing flows from .* to {other}"):
        both(ours, f"mlp_tap[1,{lag}].{port} @ B+{lag} -> {other}[1] @ B+{lag}", PROMPTS)


def test_held_keys_and_values_hold_the_trajectory_bit_for_bit_and_not_the_bonus() -> None:
    ours, seen = tiny.model("rwkv", dtype=torch.float32), list[Tensor]()
    taps = ours.mixers[1].circuitry
    taps.stops = tuple(range(20))
    handles = [taps.state.register_forward_hook(lambda _, __, out: seen.append(out.clone()))]
    for place in ours.graph.freezing_places(ours.graph.node("wkv_state[1]")):
        hold = ours.hf.get_submodule(place.module)
        handles.append(hold.register_forward_hook(lambda _, __, out: out[:1].expand_as(out)))
    handles.append(taps.wkv_out.register_forward_hook(lambda _, __, out: seen.append(out.clone())))
    logits(ours.hf, tokens(2))
    *states, read_out = seen
    assert len(states) == 20 and all(torch.equal(h[0], h[1]) for h in states)
    assert (read_out[0] - read_out[1]).abs().amin(-1).min() > 0, "each token still sees itself"
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("dropped", range(2))
def test_mutant_that_holds_half_of_what_writes_a_state_is_caught(dropped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    freezing_places, path = Graph.freezing_places, "embed @ B -> logits freezing wkv_state"
    assert both(model("rwkv"), path, PROMPTS)[0].error < EXACT
    monkeypatch.setattr(Graph, "freezing_places", lambda self, node: freezing_places(self, node)[dropped : dropped + 1])
    assert both(model("rwkv"), path, PROMPTS)[0].error > 1e-6


# --- the graph -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "least", "most"),
    [
        ("wkv_state[0].read", "wkv_out[0]", 1, 1),
        ("wkv_state[0].carry", "wkv_out[0]", 2, inf),
        ("wkv_state[0]", "wkv_out[0]", 1, inf),
        ("wkv_state[0]", "wkv_state[0].read", 0, inf),
        ("wkv_state[1]", "logits", 1, inf),
        ("wkv_in[0].key", "wkv_out[0]", 0, inf),
        ("wkv_in[0].receptance", "mixer_out[0]", 0, 0),
        ("shift_in[0]", "gate[0]", 0, 1),
        ("shift_in[0]", "shift_tap[0,1].key", 1, 1),
        ("mlp_in[1]", "logits", 0, 1),
        ("resid_mid[0]", "mlp_hidden[0]", 0, 1),
    ],
)
def test_how_far_a_change_moves(source: str, target: str, least: float, most: float) -> None:
    rule = SMALL.reach([SMALL.node(source)])[SMALL.node(target)]
    assert (rule.least, rule.most) == (least, most)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_reach_is_what_the_unrolled_graph_reaches(data: st.DataObject) -> None:
    """An edge to the next position that leaves the family keeps the order of computation, and adds one to every distance."""
    nodes = st.sampled_from(SMALL.nodes(ports=True))
    source, without = data.draw(nodes), data.draw(st.sets(nodes, max_size=5))
    reach, seen = SMALL.reach([source], without), distances(SMALL, source, without)
    assert {node for node, rule in reach.items() if rule.least < 7} == set(seen)
    for node, found in seen.items():
        assert found == {k for k in range(7) if reach[node].reaches(k)}


def test_the_order_of_computation_has_the_state_before_the_read_out() -> None:
    order = [str(node) for node in SMALL.nodes(layer=0, ports=True)]
    assert order.index("wkv_state[0]") < order.index("wkv_state[0].read") < order.index("wkv_out[0]")


def test_a_state_at_the_answer_is_refused() -> None:
    with pytest.raises(PathError, match="out of reach: from wkv_state\\[1\\] to logits information moves at least 1 token"):
        both(model("rwkv"), "wkv_state[1] @ END -> logits", PROMPTS)
    base, _, patched = by_reference(model("rwkv"), parse("wkv_state[1] @ END -> logits"), PROMPTS)
    assert (patched == base).all()


def test_short_names_are_those_of_mamba() -> None:
    assert [str(ct.graph("rwkv").node(f"{short}[0]")) for short in "xchgso"] == [
        *("shift_in[0]", "wkv_in[0]", "wkv_state[0]", "gate[0]", "wkv_out[0]", "mixer_out[0]"),
    ]
    assert Node("mlp_tap", (0, 1), "key") in set(SMALL.nodes("mlp_tap", ports=True))


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_engines_agree_on_any_path(data: st.DataObject) -> None:
    path = data.draw(drawn(model("rwkv").graph))
    try:
        found = both(model("rwkv"), str(path), PROMPTS)
    except PathError as error:
        alone = len(path.sources) == len(path.legs) == 1
        if alone and ("exactly zero" in error.problem or "nothing flows" in error.problem or "out of reach" in error.problem):
            base, _, patched = by_reference(model("rwkv"), path, PROMPTS)
            assert (patched - base).abs().max() < 1e-12
        return
    assert max(cell.error for cell in found) < EXACT


# --- suites ----------------------------------------------------------------------------------------------------------------


def test_the_induction_suite_runs_and_finds_nothing_in_random_weights() -> None:
    found = ct.run("induction", tiny.model("rwkv", dtype=torch.float32), distances=[8], distance=8, examples=4)
    assert set(found.tables["state_by_position"].frame["layer"]) == {0, 1, 2}


def test_evidence_works_on_states_that_are_read_by_the_next_token() -> None:
    ours, task = tiny.model("rwkv", dtype=torch.float32), ct.task("induction", distance=8, examples=10)
    assert ct.off_by_one(ours, task).models[0].kind == "none"
    assert "faithfulness" in ct.score(ours, task.but(examples=4), {"state": ["wkv_state[1]"]}).text()
