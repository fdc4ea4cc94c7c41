"""The page on models says which model types work and which are refused and why; each one listed does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry.architecture import definition_for, model_types
from circuitry.architecture.definitions import REFUSED
from circuitry.executing.activations import read
from circuitry.models import attention, instrumentation
from support import tiny
from support.agreement import both, ragged

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
EXACT = 1e-10


def rows(section: str) -> list[list[str]]:
    """The cells of the table under a heading of the page."""
    found = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, section
    lines = [line for line in found[1].splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def kinds(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


WORKS = [(kind, kinds(graph)[0]) for types, graph, _ in rows("Supported") for kind in kinds(types)]
REFUSALS = [(kind, why) for types, why in rows("Refused") for kind in kinds(types)]
NOT_YET = ("ctrl", "dbrx", "doge", "llama4_text")


def logits(hf: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = hf(torch.arange(24).reshape(2, 12) + 3, use_cache=False).logits
    return found


def test_the_page_lists_every_type_once() -> None:
    assert dict(WORKS) == {kind: f"graphs/{name}.py" for kind, name in model_types().items()} and len(dict(WORKS)) == len(WORKS)
    assert dict(REFUSALS) == REFUSED and len(dict(REFUSALS)) == len(REFUSALS)
    assert not REFUSED.keys() & model_types().keys()


@pytest.mark.parametrize("kind", [kind for kind, _ in WORKS])
def test_a_type_that_works_computes_what_the_stock_model_does(kind: str) -> None:
    hf = tiny.stock(kind, dtype=torch.float32)
    if "attn" in definition_for(kind).instrumentation:
        attention.use(hf, "eager")
    stock = logits(hf)
    ours = ct.load(hf)
    for mixer in ours.mixers:
        mixer.circuitry.exact = True
    if kind == "granite_swa":  # its sinks are factors of what heads give, ours are keys
        assert 0 < (logits(ours.hf) - stock).abs().max() < 1e-5
    else:
        assert torch.equal(logits(ours.hf), stock)


@pytest.mark.parametrize("kind", [kind for kind, _ in WORKS if kind not in tiny.CONFIGS])
def test_a_type_that_works_is_patched_as_the_reference_says(kind: str) -> None:
    """Of types in ``tiny.CONFIGS``, every layer is compared (tests/executing/test_engines.py)."""
    ours = tiny.model(kind)
    for family in ours.graph.families:
        if family.role == "logits":
            continue
        node = ours.graph.nodes(family.name)[-1 if family.role != "resid" else 1]
        for port in ("", *family.ports):
            (cell,) = both(ours, f"{node}{port and '.' + port} -> logits", ragged())
            assert cell.error < EXACT < cell.effect, (node, port)


@pytest.mark.parametrize(("kind", "why"), REFUSALS)
def test_a_type_that_is_refused_says_why(kind: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    with pytest.raises(ct.ModelError) as caught:
        ct.load(tmp_path)
    assert str(caught.value) == f"models of type {kind!r} are refused: {why}"


@pytest.mark.parametrize("kind", NOT_YET)
def test_a_type_without_a_graph_says_what_would_do(kind: str) -> None:
    assert f"`{kind}`" in PAGE
    with pytest.raises(ct.ModelError, match=rf"^no graph for models of type '{kind}'.*graph='\./mine\.py'\)$"):
        definition_for(kind)


# --- the reasons are true --------------------------------------------------------------------------------------------------

SIZES: dict[str, Any] = {"vocab_size": 61, "hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2, "pad_token_id": 0}
LLAMA = SIZES | tiny.LLAMA
REASONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "diffllama": (LLAMA, "DiffLlamaAttention", "in each of 2 layers, got 4"),
    "hy_v4": (LLAMA | tiny.LATENT | tiny.ROUTED | {"num_key_value_heads": 4, "index_topk": 4}, "HYV4Attention", "logits differ"),
}


def made(kind: str, sizes: dict[str, Any]) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    hf = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)).eval()
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return hf


@pytest.mark.parametrize("kind", REASONS)
def test_the_hook_points_do_not_fit_this_attention(kind: str) -> None:
    sizes, name, says = REASONS[kind]
    hf = made(kind, sizes)
    blocks = [module for module in hf.modules() if type(module).__name__ == name]
    assert len(blocks) == 2
    with pytest.raises(ct.ModelError, match=says):
        attention.attach(hf, blocks)


@pytest.mark.parametrize("kind", ("exaone4", "flex_olmo", "gemma2", "gemma3_text", "glm4", "olmo2", "olmo3", "llama"))
def test_attn_and_mlp_are_what_is_added_after_a_norm_and_heads_come_before_it(kind: str) -> None:
    model = tiny.model(kind)
    graph, ids = model.graph, torch.arange(24).reshape(2, 12) + 3
    nodes = [graph.node(name) for name in ("resid[1]", "attn[1]", "resid_mid[1]", "mlp[1]", "resid[2]")]
    before, attn, middle, mlp, after = (read(model, [node], ids.numpy())[node] for node in nodes)
    assert torch.equal(before + attn, middle) and torch.equal(middle + mlp, after)
    first, added = graph.node("head[1,0]"), list[Tensor]()
    for factor in (0.0, 1.0, 2.0):
        hook = model.hf.get_submodule(graph.place(first).module).register_forward_hook(lambda _, __, z, k=factor: k * z)
        added.append(read(model, [nodes[1]], ids.numpy())[nodes[1]])
        hook.remove()
    additive = torch.allclose(added[2] - added[1], added[1] - added[0], atol=1e-4)
    assert additive is not graph.normed(nodes[1]) and additive is (kind == "llama")


@pytest.mark.parametrize("kind", ("bitnet", "laguna", "llama"))
def test_what_heads_give_is_not_what_attention_adds(kind: str) -> None:
    """Heads that are given twice as much give twice as much to the stream in Llama, whatever the stream is."""
    from transformers import AttentionInterface

    hf = made(kind, LLAMA | ({"num_experts": 4, "num_experts_per_tok": 2, "head_dim": 4} if kind == "laguna" else {}))
    block, seen = hf.model.layers[0].self_attn, list[Tensor]()
    block.register_forward_hook(lambda _, __, out: seen.append(out[0]))
    for stream, factor in ((0, 0.0), (0, 1.0), (1, 2.0)):

        def constant(module: Any, q: Tensor, *_: Any, factor: float = factor, **__: Any) -> tuple[Tensor, None]:
            fixed = torch.arange(q.numel(), dtype=q.dtype).view(q.transpose(1, 2).shape)
            return factor * fixed / q.numel(), None

        AttentionInterface.register("constant", constant)
        attention.use(hf, "constant")
        with torch.no_grad():
            hf(torch.arange(12)[None] + 3 + stream, use_cache=False)
    assert torch.allclose(seen[2] - seen[1], seen[1] - seen[0], atol=1e-4) is (kind == "llama")


@pytest.mark.parametrize("kind", ("nanochat", "llama"))
def test_the_norm_after_all_layers_is_used_before_them_too(kind: str) -> None:
    hf, calls = made(kind, LLAMA), list[int]()
    hf.model.norm.register_forward_hook(lambda *_: calls.append(1))
    logits(hf)
    assert len(calls) == (2 if kind == "nanochat" else 1)


def test_the_stream_itself_is_normalised() -> None:
    """What is twice as long before OpenAI's GPT adds its attention is as long as before after it."""
    hf = made("openai-gpt", {"vocab_size": 61, "n_embd": 16, "n_head": 4, "n_layer": 2})
    layer, x = hf.transformer.h[0], torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0))
    layer.attn.register_forward_hook(lambda _, __, out: [torch.zeros_like(out[0])])
    with torch.no_grad():
        assert torch.allclose(layer(x)[0], layer(2 * x)[0], atol=1e-3)


REFUSED_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "bloom": ({"apply_residual_connection_post_layernorm": True}, "normalises the residual stream itself"),
    "falcon": ({"alibi": True}, "adds the bias twice"),
    "hyperclovax": ({"use_post_norm": True}, "normalises what attention and MLP give"),
    "opt": ({"do_layer_norm_before": False}, "normalises the residual stream itself"),
}


@pytest.mark.parametrize("kind", REFUSED_SETTINGS)
def test_a_setting_that_is_refused_says_why(kind: str) -> None:
    changes, why = REFUSED_SETTINGS[kind]
    assert f"`{next(iter(changes))}" in PAGE
    with pytest.raises(ct.ModelError, match=why):
        tiny.model(kind, **changes)


def test_falcon_adds_its_alibi_twice_in_eager_attention() -> None:
    hf, found = tiny.stock("falcon", dtype=torch.float32, alibi=True), []
    for implementation in ("sdpa", "eager"):
        attention.use(hf, implementation)
        found.append(logits(hf))
    assert (found[0] - found[1]).abs().max() > 0.01


@pytest.mark.parametrize("kind", ("minimax", "llama"))
def test_what_attention_gives_is_not_what_is_added(kind: str) -> None:
    """Twice as much from the attention of a layer does not move the stream by as much again; in Llama it does."""
    hf = made(kind, LLAMA | ({"num_local_experts": 4} if kind == "minimax" else {"head_dim": 4}))
    layer, seen = hf.model.layers[0], list[Tensor]()
    layer.register_forward_hook(lambda _, __, out: seen.append(out[0] if isinstance(out, tuple) else out))
    layer.mlp.register_forward_hook(lambda _, __, out: torch.zeros_like(out[0] if isinstance(out, tuple) else out))
    for factor in (0.0, 1.0, 2.0):
        scale = layer.self_attn.register_forward_hook(lambda _, __, out, k=factor: (k * out[0], *out[1:]))
        logits(hf)
        scale.remove()
    additive = torch.allclose(seen[2] - seen[1], seen[1] - seen[0], atol=1e-4)
    assert additive is (kind == "llama")


def test_zambas_shared_block_reads_the_embedding_and_does_not_add_to_the_stream() -> None:
    hf = made("zamba", SIZES | {"num_hidden_layers": 12, "intermediate_size": 32, "num_key_value_heads": 4, "mamba_dt_rank": 3})
    layer = next(layer for layer in hf.model.layers if hasattr(layer, "shared_transf"))
    given, gave = list[Tensor](), list[Tensor]()
    layer.register_forward_pre_hook(lambda _, args: given.extend(args[:2]))
    layer.shared_transf.register_forward_hook(lambda _, __, out: gave.append(out))
    layer.register_forward_hook(lambda _, __, out: gave.append(out))
    layer.mamba_decoder.mamba.register_forward_hook(lambda _, __, out: torch.zeros_like(out))
    logits(hf)
    assert torch.equal(given[1], hf.model.embed_tokens.weight[torch.arange(24).reshape(2, 12) + 3])
    assert gave[0].abs().min() > 0 and torch.equal(gave[1], given[0])


def test_every_instrument_is_used() -> None:
    used = {tap for kind in model_types() for tap in definition_for(kind).instrumentation.values()}
    assert used == instrumentation.INSTRUMENTATION.keys()
