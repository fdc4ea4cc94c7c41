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
NOT_YET = ("opt", "phi", "cohere", "stablelm")


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
        hf.set_attn_implementation("eager")
    stock = logits(hf)
    ours = ct.load(hf)
    for mixer in ours.mixers:
        mixer.circuitry.exact = True
    if kind == "granite_swa":  # its sinks are factors of what heads give, ours are keys
        assert 0 < (logits(ours.hf) - stock).abs().max() < 1e-5
    else:
        assert torch.equal(logits(ours.hf), stock)


@pytest.mark.parametrize("kind", [kind for kind, _ in WORKS])
def test_a_type_that_works_is_patched_as_the_reference_says(kind: str) -> None:
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
OLD: dict[str, Any] = {"vocab_size": 61, "n_embd": 16, "n_head": 4, "n_layer": 2}
LLAMA = SIZES | tiny.LLAMA
REASONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "bloom": (SIZES, "BloomAttention", "in each of 2 layers, got 0"),
    "codegen": (SIZES | {"rotary_dim": 4}, "CodeGenAttention", "in each of 2 layers, got 0"),
    "falcon": (SIZES, "FalconAttention", "in each of 2 layers, got 0"),
    "gpt_neo": (
        {"vocab_size": 61, "hidden_size": 16, "num_heads": 4, "num_layers": 2, "attention_types": [[["global", "local"], 1]]},
        "GPTNeoSelfAttention",
        "in each of 2 layers, got 0",
    ),
    "gptj": (SIZES | {"rotary_dim": 4}, "GPTJAttention", "in each of 2 layers, got 0"),
    "mpt": ({"vocab_size": 61, "d_model": 16, "n_heads": 4, "n_layers": 2}, "MptAttention", "in each of 2 layers, got 0"),
    "openai-gpt": (OLD, "Attention", "in each of 2 layers, got 0"),
    "xglm": (
        {"vocab_size": 61, "d_model": 16, "attention_heads": 4, "num_layers": 2, "ffn_dim": 32},
        "XGLMAttention",
        "in each of 2 layers, got 0",
    ),
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


def test_every_instrument_is_used() -> None:
    used = {tap for kind in model_types() for tap in definition_for(kind).instrumentation.values()}
    assert used == instrumentation.INSTRUMENTATION.keys()
