"""The logits node is what the model returns, whatever it does after its output layer: scaling, softcap or a change of dtype."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry.architecture import Place, model_types
from circuitry.executing.activations import spliced
from circuitry.executing.places import execution_order
from circuitry.models import Model, attention
from circuitry.patching.experiment import compile_path
from support import tiny

EXACT = 1e-10
TASK = ct.task("induction", distance=8, examples=3, prefix=2)
FACTORS: dict[str, list[dict[str, Any]]] = {
    "gpt2": [{"scale_attn_by_inverse_layer_idx": True}, {"scale_attn_weights": False}],
    "granite": [
        {name: factor}
        for name in ("logits_scaling", "residual_multiplier", "embedding_multiplier", "attention_multiplier")
        for factor in (0.25, 3.0)
    ],
    "nemotron": [{"partial_rotary_factor": 0.5}],
    "olmo": [{"clip_qkv": 0.5}],
    "olmoe": [{"clip_qkv": 0.5}],
    "phimoe": [{"lm_head_bias": True}],
    "rwkv": [{"rescale_every": 1}],
}
"""Configurations with a factor somewhere between the embedding and the logits."""
EVERY = [(kind, changes) for kind in model_types() for changes in ({}, *FACTORS.get(kind, ()))]

COHERE = '''
"""Cohere: attention and MLP read one norm of the same stream; logits are scaled."""

from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="cohere", model_types=("cohere",), citations=(),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 1},
    embed="model.embed_tokens", layers="model.layers.{layer}", attention="self_attn", middle="input_layernorm",
    final_norm="model.norm", example={"layer": 2, "head": 4, "parallel": 1},
)
'''
OLD = '''
"""A file as they were written before: the logits are those of the output layer."""

from dataclasses import replace

from circuitry.architecture import Place, definition

LLAMA = definition("llama")
ARCHITECTURE = replace(
    LLAMA, name="mine",
    families=tuple(replace(f, place=Place("lm_head")) if f.name == "logits" else f for f in LLAMA.families),
)
'''


def logits(hf: Any, ids: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = hf(torch.as_tensor(ids), use_cache=False).logits
    return found


def with_one_block_replaced(model: Model, clean: Any, corrupted: Any, at: Any) -> Tensor:
    """Logits on the clean prompts with what the first block gives to the stream at one position taken from the corrupted ones."""
    block = model.hf.get_submodule(model.graph.place(_writer(model)).module)
    seen: list[Tensor] = []

    def other(_: Any, __: Any, out: Any) -> None:
        seen.append((out[0] if isinstance(out, tuple) else out).clone())

    def write(_: Any, __: Any, out: Any) -> Any:
        value = (out[0] if isinstance(out, tuple) else out).clone()
        value[torch.arange(len(at)), at] = seen[0][torch.arange(len(at)), at]
        return (value, *out[1:]) if isinstance(out, tuple) else value

    handle = block.register_forward_hook(other)
    logits(model.hf, corrupted)
    handle.remove()
    handle = block.register_forward_hook(write)
    patched = logits(model.hf, clean)
    handle.remove()
    return patched


def _writer(model: Model) -> ct.Node:
    return model.graph.nodes(model.graph.by_role("mixer")[-1].name)[0]


@pytest.mark.parametrize(("kind", "changes"), EVERY)
def test_probability_and_kl_are_those_of_what_the_model_says(kind: str, changes: dict[str, Any]) -> None:
    """By hand, with plain hooks and a softmax, on the logits of ``model(ids)``."""
    model = tiny.model(kind, **changes)
    path = f"{_writer(model)} @ B -> logits"
    _, prompts = compile_path(model, TASK, path)
    end, rows = torch.from_numpy(prompts.where["END"]), torch.arange(len(prompts))
    clean = logits(model.hf, prompts.clean)[rows, end].log_softmax(-1)
    patched = with_one_block_replaced(model, prompts.clean, prompts.corrupted, prompts.where["B"])[rows, end].log_softmax(-1)
    answer = torch.from_numpy(prompts.answer)
    wanted = {
        "probability": patched.exp()[rows, answer] - clean.exp()[rows, answer],
        "kl": (clean.exp() * (clean - patched)).sum(-1),
    }
    for metric, by_hand in wanted.items():
        table = ct.patch(model, TASK, path, metric=metric, executor=ct.executor(verify=1), lint=False, baseline=0)
        assert np.abs(table.frame["effect"].to_numpy() - by_hand.numpy()).max() < EXACT < by_hand.abs().max(), metric


@pytest.mark.parametrize(("kind", "changes"), EVERY)
def test_both_engines_read_what_the_stock_model_returns(kind: str, changes: dict[str, Any]) -> None:
    """The stock model computes norms, softmax and states in float32 whatever its dtype, so up to that."""
    hf, ids = tiny.stock(kind, **changes), torch.arange(24).reshape(2, 12) + 3
    hf.set_experts_implementation("eager")  # the products of experts in groups stop at float32
    hf.config.rescale_every = 0  # RWKV's rescaling of its weights is not the same function
    with attention.new_tensors(hf.dtype):
        stock = logits(hf, ids)
    model = ct.load(hf, dtype="float64")
    assert (logits(model.hf, ids) - stock).abs().max() < 1e-4
    assert torch.equal(spliced(model, ids.numpy(), {}, np.ones((2, 12), bool)), logits(model.hf, ids))
    task = ct.task("induction", distance=8, examples=2, prefix=2)
    _, prompts = compile_path(model, task, "embed -> logits")
    other = logits(model.hf, prompts.corrupted)[range(2), prompts.where["END"]].softmax(-1)[range(2), prompts.answer]
    for engine in ("suffix", "rows", "reference"):
        table = ct.patch(model, task, "embed -> logits", metric="probability", executor=engine, lint=False, baseline=0)
        assert np.abs(table.frame["source"].to_numpy() - other.numpy()).max() < EXACT, engine


def replaced(block: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A plain hook that changes what a block gives."""
    return block.register_forward_hook(lambda _, __, out: (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out))


def recorded(model: Model, blocks: dict[str, Any], ids: Any) -> dict[str, Tensor]:
    """What each block gives on some prompts."""
    seen: dict[str, Tensor] = {}
    hooks = [replaced(block, lambda t, name=name: seen.setdefault(name, t.clone())) for name, block in blocks.items()]  # type: ignore[misc]
    logits(model.hf, ids)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("source", ("embed", "attn[0]", "mlp[0]"))
@pytest.mark.parametrize("changes", FACTORS["granite"][1::2])
def test_multipliers_lie_between_the_nodes(changes: dict[str, Any], source: str) -> None:
    """What goes directly to the logits, by hand: every block but the source gives what it gave on the clean prompts."""
    model = tiny.model("granite", **changes)
    path = f"{source} @ B -> logits @ B directly"
    _, prompts = compile_path(model, TASK, path)
    at, rows, inner = torch.from_numpy(prompts.where["B"]), torch.arange(len(prompts)), model.hf.model
    blocks = {"embed": inner.embed_tokens}
    for number, layer in enumerate(inner.layers):
        blocks |= {f"attn[{number}]": layer.self_attn, f"mlp[{number}]": layer.mlp}
    clean, corrupted = (recorded(model, blocks, ids) for ids in (prompts.clean, prompts.corrupted))
    before = logits(model.hf, prompts.clean)
    clean[source][rows, at] = corrupted[source][rows, at]
    hooks = [replaced(block, lambda t, name=name: clean[name]) for name, block in blocks.items()]  # type: ignore[misc]
    patched = logits(model.hf, prompts.clean)
    for hook in hooks:
        hook.remove()
    wanted = (patched - before)[rows, at, torch.from_numpy(prompts.answer)]
    found = ct.patch(model, TASK, path, executor=ct.executor(verify=1), lint=False, baseline=0).frame["effect"].to_numpy()
    assert np.abs(found - wanted.numpy()).max() < EXACT < wanted.abs().max()


@pytest.mark.parametrize("kind", ("mamba", "falcon_mamba", "mamba2"))
def test_logits_in_float64_are_not_rounded_to_float32(kind: str) -> None:
    model = tiny.model(kind)
    found = logits(model.hf, [[3, 4, 5]])
    assert found.dtype == torch.float64 and not torch.equal(found, found.float().double())


def shapes_of_logits(model: Model, **options: Any) -> list[tuple[int, ...]]:
    """What the output layer gives, pass by pass, for two cells on three examples."""
    execution_order(model)  # once a model, by a run of its own
    shapes: list[tuple[int, ...]] = []
    handle = model.hf.lm_head.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
    ct.patch(model, TASK, "mlp[{layer}] @ B -> logits", lint=False, baseline=0, **options)
    handle.remove()
    return shapes


def test_only_the_positions_that_are_read_have_logits() -> None:
    """A whole vocabulary at every token would be the largest tensor by far: there is one for each run, of a cell or of a guard."""
    model, runs = tiny.model("granite"), 3 + 3 + 2 * 3 + 2 * 2 + 2
    assert {positions for _, positions, _ in shapes_of_logits(model, executor="rows")} == {1}
    assert shapes_of_logits(model, metric="kl") == [(1, runs, 61)]


def test_only_the_logits_that_a_metric_reads_are_computed() -> None:
    """The answer's and the foil's; one metric that reads them all is enough that all are there."""
    model, runs = tiny.model("granite"), 3 + 3 + 2 * 3 + 2 * 2 + 2
    assert shapes_of_logits(model, metric=["logit", "logit_difference", "foil_logit"]) == [(1, runs, 2)]
    assert shapes_of_logits(model, metric=["logit", "probability"]) == [(1, runs, 61)]


def test_logits_are_read_and_never_written() -> None:
    model, ids = tiny.model("granite"), np.arange(8).reshape(2, 4) + 3
    with pytest.raises(ct.CircuitryError, match="nothing comes after the logits"):
        spliced(model, ids, {"logits": lambda t: 0 * t}, ids > 0)


# --- files of one's own ----------------------------------------------------------------------------------------------------


def test_an_architecture_that_scales_its_logits(tmp_path: Path) -> None:
    """Cohere multiplies its logits by ``logit_scale``; a file of one's own says nothing of it."""
    from transformers import CohereConfig, CohereForCausalLM

    (tmp_path / "cohere.py").write_text(COHERE)
    torch.manual_seed(0)
    hf = CohereForCausalLM(CohereConfig(vocab_size=61, hidden_size=16, num_hidden_layers=2, logit_scale=0.25, **tiny.LLAMA))
    model = ct.load(hf.eval(), dtype="float64", graph=str(tmp_path / "cohere.py"))
    _, prompts = compile_path(model, TASK, "embed -> logits")
    table = ct.patch(model, TASK, "embed -> logits", lint=False, baseline=0)
    end = logits(model.hf, prompts.clean)[range(3), prompts.where["END"]]
    assert np.abs(table.frame["base"].to_numpy() - end[range(3), prompts.answer].numpy()).max() < EXACT


def test_a_file_that_names_the_output_layer_goes_on_working(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text(OLD)
    model = ct.load(tiny.stock("llama"), dtype="float64", graph=str(tmp_path / "old.py"))
    assert model.graph.place(model.graph.node("logits")) == Place("lm_head")
    new, old = (
        ct.patch(m, TASK, "mlp[0] @ B -> logits", lint=False, baseline=0).frame["effect"].to_numpy()
        for m in (tiny.model("llama"), model)
    )
    assert np.abs(new - old).max() < EXACT


def test_a_file_that_names_the_output_layer_of_a_model_that_scales_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text(OLD)
    with pytest.raises(ct.ModelError, match=r"logits.*lm_head.*not what the model returns.*Place\(\"\"\)"):
        ct.load(tiny.stock("granite"), dtype="float64", graph=str(tmp_path / "old.py"))
