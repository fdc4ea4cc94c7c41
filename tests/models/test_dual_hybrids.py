"""Hybrids with Mamba-2 layers: their mixers compute what the stock ones do, and heads and states are nodes of one graph."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import circuitry as ct
from circuitry import Node
from circuitry.executing.reference.naive import mamba2 as naive
from circuitry.executing.suffix import driver
from circuitry.models import mamba2, mixers
from circuitry.planning.frozen import own_way
from circuitry.planning.regions import Region
from support import tiny
from support.agreement import apart, model, planned, ragged

EXACT = 1e-10
KINDS = (
    "bamba",
    "falcon_h1",
    "falcon_h1-normed",
    "granitemoehybrid",
    "granitemoehybrid-moe",
    "nemotron_h",
    "zamba2",
    "zamba2-adapted",
)
NORMED_AFTER: dict[str, Any] = {"mamba_rms_norm": True, "mamba_norm_before_gate": False}


def logits(hf: Any, ids: Tensor, **more: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = hf(ids, use_cache=False, **more).logits
    return found


def tokens(rows: int = 3, length: int = 11) -> Tensor:
    return torch.randint(1, 61, (rows, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("padded", (False, True))
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
@pytest.mark.parametrize("kind", (*KINDS, "falcon_h1-after"))
def test_an_instrumented_hybrid_gives_the_same_bits(kind: str, dtype: torch.dtype, padded: bool) -> None:
    changes = NORMED_AFTER if kind == "falcon_h1-after" else {}
    hf, ids = tiny.stock(kind.removesuffix("-after"), dtype=dtype, **changes), tokens()
    mask = (torch.arange(ids.shape[1]) >= torch.tensor([[0], [2], [5]])).long() if padded else torch.ones_like(ids)
    hf.set_attn_implementation("eager")
    stock = logits(hf, ids, attention_mask=mask)
    ours = ct.load(hf)
    with mixers.exact(ours.mixers):
        assert torch.equal(logits(ours.hf, ids, attention_mask=mask)[mask > 0], stock[mask > 0])


@pytest.mark.parametrize("kind", KINDS)
def test_no_function_that_may_be_a_compiled_kernel_is_called(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, name = tiny.model(kind, dtype=torch.float32), kind.split("-")[0]
    before = logits(ours.hf, tokens())

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError

    module = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    for function in (
        "causal_conv1d_fn",
        "mamba2_chunk_scan",
        "mamba2_split_conv1d_scan_combined",
        "mamba2_selective_state_update",
    ):
        monkeypatch.setattr(module, function, fail)
    assert torch.equal(logits(ours.hf, tokens()), before)


@pytest.mark.parametrize(("attribute", "kind"), [("ssm_in_multiplier", "falcon_h1"), ("mup_vector", "falcon_h1")])
def test_a_multiplier_that_is_left_out_is_found(attribute: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = mamba2._projected

    def without(mixer: Any, x: Tensor) -> Tensor:
        found: Tensor = stock(mixer, x) / getattr(mixer, attribute)
        return found

    monkeypatch.setattr(mamba2, "_projected", without)
    with pytest.raises(ct.ModelError, match=r"Mamba-2: instrumented logits differ from the stock model's by"):
        tiny.model(kind, dtype=torch.float32)


@pytest.mark.parametrize("changes", ({}, NORMED_AFTER, NORMED_AFTER | {"mamba_norm_before_gate": True}))
def test_the_equations_are_those_of_the_stock_mixer(changes: dict[str, Any]) -> None:
    """Falcon-H1 with a norm after the gate, before it, and without one."""
    hf = tiny.stock("falcon_h1", dtype=torch.float32, **changes)
    mixer, x = hf.model.layers[1].mamba, torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, wanted = naive.mixer(mixer, x, 1, lambda key, value, at=None: value), mixer(x)
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_a_router_in_float64_computes_in_float64() -> None:
    """The weights that a token gives its experts do not depend on what shares its batch."""
    experts, seen = tiny.model("nemotron_h").hf.model.layers[4].mixer, list[tuple[Tensor, ...]]()
    experts.gate.register_forward_hook(lambda _, given, out: seen.append((*given, *out)))
    experts(torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    ((x, logits, _, chosen),) = seen
    assert logits.dtype == torch.float64 and torch.equal(logits, F.linear(x.view(5, 16), experts.gate.weight))
    assert chosen.shape == (5, 2)


# --- Zamba2 ----------------------------------------------------------------------------------------------------------------


def test_shared_attention_goes_into_the_mixer_of_its_layer() -> None:
    graph = model("zamba2").graph
    assert {str(n) for n in graph.nx.successors(Node("attn", (1,)))} == {"mlp[1]"}
    into = {"conv_in[1]", "gate[1]", *(f"delta[1,{head}]" for head in range(4))}
    assert {str(n) for n in graph.nx.successors(Node("mlp", (1,)))} == into
    assert {n.family for n in graph.adding} == {"mixer_out"}
    assert graph.place(Node("mixer_out", (1,))).module == "model.layers.1.mamba_decoder.mamba"
    assert graph.place(Node("mixer_out", (2,))).module == "model.layers.2.mamba"


def test_the_embedding_has_no_other_way_into_the_stream() -> None:
    """It is read beside the stream too, but what the readers add is not its own."""
    graph = model("zamba2").graph
    assert own_way(graph, [Node("embed")]) == {Node("embed")}
    assert Node("mixer_out", (1,)) in own_way(graph, [Node("head", (1, 0))])
    assert own_way(graph, [Node("mixer_out", (1,))]) == {Node("mixer_out", (1,))}


BEGIN_ALIKE = ["(embed @ A, mlp[3] @ B)", "embed @ A", "(embed @ A, head[3,1] @ B)"]


def test_runs_that_begin_alike_see_the_same_embedding() -> None:
    ours, prompts = model("zamba2"), ragged()
    made = planned(ours, [f"{one} -> logits" for one in BEGIN_ALIKE], prompts)
    assert apart(ours, made, prompts) < EXACT


def test_an_embedding_of_the_base_row_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def own_or_base(layout: Any, current: Any) -> Tensor:
        found: Tensor = current.index(layout.tokens[Region(-1)].of(current.row, current.position))
        return found

    monkeypatch.setattr(driver, "_embedded", own_or_base)
    ours, prompts = model("zamba2"), ragged()
    made = planned(ours, [f"{one} -> logits" for one in BEGIN_ALIKE], prompts)
    assert apart(ours, made, prompts) > 1e-4


def test_edges_over_the_stream_are_refused() -> None:
    task = ct.task("induction", distance=8, examples=8, prefix=2)
    ours = tiny.model("zamba2", dtype=torch.float32)
    with pytest.raises(ct.CircuitryError, match=r"reads the embedding beside the stream.*use level='node'"):
        ct.discover(ours, task, lint=False)
    assert "nodes at positions" in str(ct.discover(ours, task, level="node", lint=False))
