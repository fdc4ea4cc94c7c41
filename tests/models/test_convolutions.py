"""LFM2's gated short convolutions and RecurrentGemma's recurrent blocks: the stock model's bits, and what a patch means there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import circuitry as ct
from circuitry.models import mixers, rg_lru
from support import tiny
from support.agreement import both, ragged
from support.rounding import only_rounded
from support.stub_kernels import check_without

EXACT = 1e-10


def tokens(rows: int = 3, length: int = 20) -> Tensor:
    return torch.randint(1, 61, (rows, length), generator=torch.Generator().manual_seed(0))


def logits(hf: Any, ids: Tensor, **more: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = hf(ids, **{"use_cache": False, **more}).logits
    return found


@pytest.mark.parametrize("kind", ("lfm2", "lfm2_moe", "recurrent_gemma"))
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16))
@pytest.mark.parametrize("padded", (False, True))
def test_an_instrumented_model_gives_the_same_bits(kind: str, dtype: torch.dtype, padded: bool) -> None:
    hf = tiny.stock(kind, dtype=dtype)
    hf.set_attn_implementation("eager")
    ids, mask = tokens(), torch.ones(3, 20, dtype=torch.long)
    for row in range(3):
        mask[row, : 2 * row] = 0
    more = {"attention_mask": mask} if padded else {}
    stock = logits(hf, ids, **more)
    ours = ct.load(hf, dtype=dtype)
    with mixers.exact(ours.mixers):
        assert torch.equal(logits(ours.hf, ids, **more), stock)
    if "moe" not in kind:  # rounding may send a token to another expert
        assert only_rounded(logits(ours.hf, ids, **more), stock, tiny.stock(kind, dtype=dtype), ids, **more)


@pytest.mark.parametrize("kind", ("lfm2", "recurrent_gemma"))
def test_generation_is_that_of_the_stock_model(kind: str) -> None:
    hf = tiny.stock(kind, dtype=torch.float32)
    wanted = hf.generate(tokens(2, 5), max_new_tokens=6, do_sample=False, eos_token_id=None, use_cache=True)
    found = ct.load(hf).hf.generate(tokens(2, 5), max_new_tokens=6, do_sample=False, eos_token_id=None, use_cache=True)
    assert torch.equal(found, wanted) and wanted.shape == (2, 11)


def test_stock_kernels_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.lfm2 import modeling_lfm2

    check_without(monkeypatch, "lfm2", modeling_lfm2, "causal_conv1d_fn")


def test_one_edge_of_the_convolution_moves_what_its_weight_says() -> None:
    ours, ids = tiny.model("lfm2"), tokens(2, 9)
    block, lag, at = ours.mixers[1], 2, 6
    change = torch.randn(2, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    seen: dict[str, list[Tensor]] = {"conv_in": [], "conv_out": []}
    for name, values in seen.items():
        getattr(block.circuitry, name).register_forward_hook(lambda _, __, out, values=values: values.append(out.clone()))
    logits(ours.hf, ids)
    there = (torch.arange(9) == at)[None, :, None]
    block.circuitry.conv_tap[lag].register_forward_hook(lambda _, __, out: out + there * change[:, None])
    logits(ours.hf, ids)
    padded = F.pad(seen["conv_in"][0].transpose(1, 2), (3, 0))
    before = F.conv1d(padded, block.conv.weight, block.conv.bias, groups=16).transpose(1, 2)
    after = before + there * block.conv.weight[:, 0, 3 - lag] * change[:, None]
    for found, wanted in zip(seen["conv_out"], (before, after), strict=True):
        assert (found - wanted).abs().max() < EXACT
    assert (after - before).abs().max() > 1e-2


def test_a_convolution_reaches_no_further_than_its_width() -> None:
    """Without heads, two convolutions of 4 tokens carry a token to the 6 after it."""
    ours = tiny.model("lfm2", layers=2, full_attn_idxs=[])
    assert {family.role for family in ours.graph.families}.isdisjoint({"head", "state"}) and len(ours.mixers) == 2
    (cell,) = both(ours, "embed @ B -> logits @ B+6", ragged(length=16))
    assert cell.error < EXACT < cell.effect
    with pytest.raises(ct.PathError, match="information moves 0 to 6 tokens"):
        both(ours, "embed @ B -> logits @ B+7", ragged(length=16))


# --- RecurrentGemma: against the stock model's own cache -------------------------------------------------------------------


def continued(hf: Any, ids: Tensor, at: int, changes: dict[int, Tensor]) -> Tensor:
    """The oracle: stock RecurrentGemma up to ``at``, some layers' states overwritten in its cache, then token by token."""
    from transformers import DynamicCache

    cache = DynamicCache(config=hf.config)
    position = torch.arange(ids.shape[1])[None]
    hf.model._setup_cache(hf.config, len(ids), ids.device, hf.dtype)
    logits(hf, ids[:, : at + 1], past_key_values=cache, use_cache=True, position_ids=position[:, : at + 1])
    for layer, state in changes.items():
        hf.model.layers[layer].temporal_block.rg_lru.recurrent_states = state
    steps = [
        logits(hf, ids[:, t : t + 1], past_key_values=cache, use_cache=True, position_ids=position[:, t : t + 1])
        for t in range(at + 1, ids.shape[1])
    ]
    return torch.cat(steps, 1)


@pytest.mark.parametrize("layers", [[0], [0, 2]])
def test_carrying_another_state_on_is_overwriting_the_cache(layers: list[int]) -> None:
    hf, at = tiny.stock("recurrent_gemma", dtype=torch.float32), 6
    prompts = ragged(2, 12)
    clean, other = (torch.from_numpy(ids) for ids in (prompts.clean, prompts.corrupted))
    continued(hf, other[:, : at + 1], at - 1, {})
    states = {layer: hf.model.layers[layer].temporal_block.rg_lru.recurrent_states.clone() for layer in layers}
    plain, wanted = continued(hf, clean, at, {}), continued(hf, clean, at, states)
    assert (wanted - plain).abs().max() > 1e-2
    ours = ct.load(hf)
    sites = ", ".join(f"ssm_state[{layer}].carry @ {at}" for layer in layers)
    for position in range(at + 1, int(prompts.where["END"].min()) + 1):
        (cell,) = both(ours, f"({sites}) -> logits @ {position}", prompts)
        assert (cell.engine - wanted[:, position - at - 1]).abs().max() < 2e-4


@pytest.mark.parametrize("broken", ("_gate", "_written"))
def test_another_recurrence_is_caught(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(rg_lru, broken)
    if broken == "_gate":
        monkeypatch.setattr(rg_lru, broken, lambda c, weight, bias: real(c, weight, 0 * bias))
    else:
        monkeypatch.setattr(rg_lru, broken, lambda block, c, first: real(block, c, first & False))
    with pytest.raises(ct.ModelError, match=r"RecurrentGemma: instrumented logits differ from the stock model's by"):
        tiny.model("recurrent_gemma", dtype=torch.float32)
