"""Prompts longer than the sliding window, and than the chunk of Mamba-2's scan: both engines agree, and ``verify=`` tells right from wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry.architecture import model_types
from circuitry.models import Model, attention, ssd
from support import tiny
from support.agreement import both, ragged

EXACT = 1e-10
WINDOW, CHUNK, LENGTH = 3, 4, 12
MIXED = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
SLIDING: dict[str, dict[str, Any]] = {
    "cohere2": MIXED,
    "cohere2_moe": MIXED,
    "cwm": {"sliding_window": WINDOW},
    "dots1": {"sliding_window": WINDOW, "max_window_layers": 1},
    "exaone_moe": MIXED,
    "mellum": MIXED,
    "ministral": MIXED,
    "ministral3": {"sliding_window": WINDOW},
    "exaone4": MIXED,
    "flint": MIXED,
    "gemma2": {"sliding_window": WINDOW},
    "gemma3_text": MIXED,
    "gpt_oss": MIXED,
    "granite_swa": MIXED,
    "kolibri1": MIXED,
    "mimo_v2_flash": MIXED,
    "mistral": {"sliding_window": WINDOW},
    "mixtral": {"sliding_window": WINDOW},
    "olmo3": MIXED,
    "phi3": {"sliding_window": WINDOW},
    "phimoe": {"sliding_window": WINDOW},
    "qwen2": {"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 1},
    "qwen2_moe": {"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 3},
    "qwen3": {"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 2},
    "qwen3_moe": {"sliding_window": WINDOW, "use_sliding_window": True},
    "recurrent_gemma": {"attention_window_size": WINDOW, "block_types": ["attention"]},
    "smollm3": {"sliding_window": WINDOW, "use_sliding_window": True, "no_rope_layers": [0, 1, 0]},
    "starcoder2": {"sliding_window": WINDOW},
    "vaultgemma": MIXED,
}
"""Every type that has a window, with one shorter than the prompt."""
LOCAL = SLIDING | {"gpt_neo": {"window_size": WINDOW}}
"""With the type whose window is in attention code of its own."""
LAYERS: dict[str, tuple[int, ...]] = dict.fromkeys([kind for kind in SLIDING if SLIDING[kind] is MIXED], (0, 2))
LAYERS |= {
    "cwm": (1, 2),
    "gemma2": (0, 2),
    "dots1": (1, 2),
    "gpt_neo": (1, 2),
    "qwen2": (1, 2),
    "qwen2_moe": (0, 2),
    "qwen3": (2,),
    "smollm3": (0, 2),
}
"""The layers that have it, where not all do."""
PATHS = """
embed @ B -> logits
embed @ A -> logits @ END
mlp[0] @ B -> logits @ B+2 freezing head[1]
head[0,1].k @ B -> logits
head[1,0].v @ B -> mlp[2] @ B+1 freezing mlp[1]
head[2,1].pattern @ END -> logits directly
""".strip().splitlines()
HYBRIDS = ("bamba", "falcon_h1", "granitemoehybrid", "nemotron_h", "zamba2")
PROMPTS = ragged(length=LENGTH)
TASK = ct.task("induction", distance=8, examples=3, prefix=2)


@pytest.fixture
def wrong_attention() -> Iterator[Callable[..., None]]:
    """Puts another attention behind the taps of models that are loaded already; the real one comes back afterwards."""
    from transformers import AttentionInterface

    yield lambda function: AttentionInterface.register(attention.NAME, function)
    AttentionInterface.register(attention.NAME, attention._attend)


def logits(hf: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = hf(ids, use_cache=False).logits
    return found


def patterns(model: Model, layer: int) -> Tensor:
    """Attention of head 0 of a layer on the prompts [example, query, key]."""
    from circuitry.executing.activations import read

    return next(iter(read(model, [f"head[{layer},0].pattern"], PROMPTS.clean).values()))


@functools.cache
def windowed(kind: str) -> Model:
    """A model with a window shorter than the prompt."""
    model: Model = tiny.model(kind, **LOCAL[kind])
    return model


def gemma2(**caps: Any) -> Any:
    return tiny.model("gemma2", sliding_window=WINDOW, **caps)


def test_every_type_that_has_a_window_is_here() -> None:
    """A window given to a type that has none changes nothing (or is no field of it)."""
    ids = torch.from_numpy(PROMPTS.clean)
    for kind in model_types():
        config = tiny.config(kind)
        given = {"sliding_window": WINDOW} | ({"use_sliding_window": True} if hasattr(config, "use_sliding_window") else {})
        if hasattr(config, "sliding_window") and kind != "nemotron_h":
            assert kind in SLIDING
        elif kind not in ("mamba", "mamba2", "falcon_mamba", "rwkv", "jamba", *HYBRIDS) or kind == "nemotron_h":
            both_ways: tuple[dict[str, Any], ...] = ({}, given)
            stock, windowed = (tiny.stock(kind, dtype=torch.float32, **more) for more in both_ways)
            for hf in (stock, windowed):
                hf.set_attn_implementation("eager")
                hf.set_experts_implementation("eager")
            assert torch.equal(logits(stock, ids), logits(windowed, ids)), kind


@pytest.mark.parametrize("kind", LOCAL)
def test_a_window_hides_what_is_farther_away(kind: str) -> None:
    """Otherwise the tests below would say nothing."""
    model = windowed(kind)
    far = torch.ones(LENGTH, LENGTH).tril(-WINDOW).bool()
    for layer in range(3):
        assert (patterns(model, layer)[:, far] == 0).all() == (layer in LAYERS.get(kind, (0, 1, 2))), layer
    assert (
        logits(model.hf, torch.from_numpy(PROMPTS.clean)) - logits(tiny.model(kind).hf, torch.from_numpy(PROMPTS.clean))
    ).abs().max() > 0.01


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", LOCAL)
def test_both_engines_agree_beyond_the_window(kind: str, path: str) -> None:
    (cell,) = both(windowed(kind), path, PROMPTS)
    assert cell.error < EXACT < cell.effect


@pytest.mark.parametrize("kind", SLIDING)
def test_verify_passes_where_the_engine_is_right_and_not_where_it_is_wrong(
    kind: str, wrong_attention: Callable[..., None]
) -> None:
    model, path = windowed(kind), "mlp[0] @ B -> logits @ B+2 freezing head[2]"
    assert "agree" in ct.patch(model, TASK, path, executor=ct.executor(verify=1), lint=False, baseline=0).provenance["verified"]

    def without_window(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, **more: Any) -> Any:
        causal = torch.full(mask.shape[-2:], torch.finfo(mask.dtype).min, dtype=mask.dtype).triu(1)
        return attention._attend(module, q, k, v, causal, **more)

    wrong_attention(without_window)
    with pytest.raises(ct.GuardError, match="and the reference differ"):
        ct.patch(model, TASK, path, executor=ct.executor(verify=1), lint=False, baseline=0)


@pytest.mark.parametrize("path", PATHS)
def test_scores_and_logits_with_a_cap(path: str) -> None:
    capped, open_ = (gemma2(attn_logit_softcapping=cap, final_logit_softcapping=cap) for cap in (0.5, 1e6))
    (cell,) = both(capped, path, PROMPTS)
    assert cell.error < EXACT
    ids = torch.from_numpy(PROMPTS.clean)
    assert logits(capped.hf, ids).abs().max() <= 0.5 < logits(open_.hf, ids).abs().max()


def test_a_cap_that_the_engine_leaves_out_is_found(wrong_attention: Callable[..., None]) -> None:
    model = gemma2(attn_logit_softcapping=0.2)
    wrong_attention(lambda *args, softcap=None, **more: attention._attend(*args, **more))
    with pytest.raises(ct.GuardError, match="and the reference differ"):
        ct.patch(model, TASK, "embed @ B -> logits", executor=ct.executor(verify=1), lint=False, baseline=0)


def test_a_mask_that_is_not_what_the_config_says_is_refused() -> None:
    """Mistral has the same window in all layers: kinds of layers in its config are not looked at by the stock model."""
    model = tiny.model("mistral", sliding_window=WINDOW)
    model.hf.config.sliding_window = WINDOW + 1
    both(model, "embed @ B -> logits", PROMPTS)  # the stock mask follows the config, and so does the reference
    model.hf.config.layer_types = ["full_attention"] * 3
    with pytest.raises(ct.GuardError, match=r"layer 0.*the mask of the stock model.*full attention"):
        both(model, "embed @ B -> logits", PROMPTS)


# --- chunks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    (
        "embed @ B -> logits",
        "ssm_state[0] @ B -> logits freezing ssm_state",
        "ssm_state[1,0].carry @ B -> logits",
        "delta[0,1] @ A -> ssm_state[2,0] @ END",
        "ssm_in[1].B @ B -> logits freezing gate",
    ),
)
@pytest.mark.parametrize(("kind", "chunk"), [("mamba2", CHUNK), ("mamba2", 5), ("mamba2-single", CHUNK), ("mamba2-single", 256)])
def test_both_engines_agree_beyond_the_chunk(kind: str, chunk: int, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock model's chunk and the fast scan's own; what is patched stands chunks before what is read."""
    monkeypatch.setattr(ssd, "CHUNK", CHUNK)
    (cell,) = both(tiny.model(kind, chunk_size=chunk), path, ragged(length=3 * CHUNK + 1))
    assert cell.error < EXACT < cell.effect


@pytest.mark.parametrize(
    "path",
    (
        "embed @ B -> logits",
        "ssm_state[0,1] @ B -> logits freezing ssm_state",
        "delta[0,1] @ A -> ssm_state[2,0] @ END",
        "head[1,0] @ B -> ssm_state[2] @ END",
        "ssm_state[0,0].carry @ A -> head[1,2].k @ END",
    ),
)
@pytest.mark.parametrize("kind", [kind for kind in HYBRIDS if kind != "falcon_h1"])
def test_both_engines_agree_beyond_the_chunk_of_a_hybrid(kind: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssd, "CHUNK", CHUNK)
    for cell in both(tiny.model(kind), path, ragged(length=2 * CHUNK + 1)):
        assert cell.error < EXACT < cell.effect
