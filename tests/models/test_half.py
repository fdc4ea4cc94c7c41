"""Half precision: ``verify=`` tells a wrong engine from rounding, and nothing overflows that need not."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch

import circuitry as ct
from circuitry.models import attention
from circuitry.models import mamba as mamba_module
from circuitry.models import mamba2 as mamba2_module
from circuitry.models import rwkv as rwkv_module
from support import tiny
from support.rounding import only_rounded

HALF = ("bfloat16", "float16")
PATHS = {
    "gpt2": "mlp[{layer}] @ B -> logits freezing head[2]",
    "llama": "head[{layer},1].k @ B -> logits",
    "mamba": "ssm_state[{layer}] @ B -> logits freezing ssm_state",
    "falcon_mamba": "embed @ B -> logits",
    "mamba2": "ssm_state[{layer},1] @ B -> logits freezing ssm_state",
    "rwkv": "wkv_state[{layer}] @ B -> logits freezing wkv_state",
    "rwkv7": "value[{layer},1] @ B -> logits",
    "jamba": "ssm_state[{layer}] @ B -> logits",
    "recurrent_gemma": "ssm_state[{layer}] @ B -> logits freezing ssm_state",
    "lfm2": "conv_in[{layer}] @ B -> logits",
    "qwen3_next": "ssm_state[{layer},1] @ B -> logits freezing ssm_state",
    "kimi_linear": "ssm_state[{layer},1] @ B -> logits freezing ssm_state",
    "jamba-moe": "mlp[{layer}] @ B -> logits",
    "gemma2": "head[{layer},1] @ B -> logits freezing mlp",
    "gpt_oss": "head[{layer},1].k @ B -> logits",
    "minicpm3": "head[{layer},1].v @ B -> logits",
    "bamba": "ssm_state[{layer},1] @ B -> logits freezing ssm_state",
    "falcon_h1": "ssm_state[{layer},1] @ B -> logits freezing ssm_state",
    "falcon_h1-normed": "gate[{layer}] @ B -> logits",
    "granitemoehybrid-moe": "experts[{layer}] @ B -> logits",
    "nemotron_h": "mlp[{layer}] @ END -> logits",
    "zamba2": "head[{layer},1] @ B -> logits",
}
TASK = ct.task("induction", distance=8, examples=4, prefix=2)


def patch(model: ct.Model, path: str, **options: Any) -> ct.PatchingTable:
    return ct.patch(model, TASK, path, **{"lint": False, "baseline": 0, **options})


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kind", PATHS)
def test_verify_raises_no_false_alarm(kind: str, dtype: str) -> None:
    """And says how far rounding moved the effects, here computed again on a float32 model of the same weights."""
    model = tiny.model(kind, dtype=getattr(torch, dtype))
    table = patch(model, PATHS[kind], executor=ct.executor(verify=9))
    found = re.fullmatch(
        rf"\d of \d cells agree (exactly|within (\S+) \(relative\)) with the reference on 2 examples, both in float32; {dtype} "
        r"moves these effects by up to (\S+) \(relative\)",
        table.provenance["verified"],
    )
    assert found is not None and float(found[2] or 0) < 1e-5
    wide = patch(ct.load(copy.deepcopy(tiny.stock(kind, dtype=getattr(torch, dtype))), dtype="float32"), PATHS[kind])
    first = table.frame["example"] < 2
    moved, *metric = (
        np.abs(column[first].to_numpy()).max()
        for column in (table.frame["effect"] - wide.frame["effect"], table.frame["base"], table.frame["source"])
    )
    assert float(found[3]) == pytest.approx(moved / max(1, *metric), rel=0.06)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(
    ("kind", "module", "name"),
    [
        ("mamba", mamba_module, "scan"),
        ("mamba2", mamba2_module, "ssd"),
        ("rwkv", rwkv_module, "wkv"),
        ("gpt2", attention, "_attend"),
    ],
)
@pytest.mark.parametrize("executor", ("suffix", "rows"))
def test_verify_finds_an_engine_that_is_wrong(
    executor: str, kind: str, module: Any, name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong by a fifth inside each layer: in float32 that is far from rounding."""
    from transformers import AttentionInterface

    if executor == "suffix" and module is not attention:
        name += "_packed"
    model, real = tiny.model(kind, dtype=getattr(torch, dtype)), getattr(module, name)

    def wrong(*args: Any, **options: Any) -> Any:
        out = real(*args, **options)
        return tuple(1.2 * part for part in out) if isinstance(out, tuple) else 1.2 * out

    monkeypatch.setattr(module, name, wrong)
    if module is attention:
        AttentionInterface.register(attention.NAME, wrong)
    try:
        with pytest.raises(ct.GuardError, match="and the reference differ by"):
            patch(model, "embed @ B -> logits", executor=ct.executor(executor, verify=1))
    finally:
        AttentionInterface.register(attention.NAME, real if module is attention else attention._attend)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kind", PATHS)
def test_the_reference_computes_in_float32(kind: str, dtype: str) -> None:
    narrow = tiny.model(kind, dtype=getattr(torch, dtype))
    wide = ct.load(tiny.stock(kind, dtype=getattr(torch, dtype)), dtype="float32")
    found, wanted = (patch(model, "embed @ B -> logits", executor="reference").frame["effect"] for model in (narrow, wide))
    assert np.abs(found - wanted).max() < 1e-5 < np.abs(wanted).max()


@pytest.mark.parametrize("intervention", ("mean", "zero"))
@pytest.mark.parametrize(
    ("kind", "state"),
    [("rwkv", "wkv_state[1]"), ("mamba", "ssm_state[1]"), ("mamba2", "ssm_state[1,0]"), ("rwkv7", "wkv_state[1,0]")],
)
def test_a_state_is_wider_than_a_model_in_half_precision(kind: str, state: str, intervention: str) -> None:
    """Its mean is that of the float32 state, not rounded, and it does not overflow."""
    model = tiny.model(kind, dtype=torch.float16)
    wide = ct.load(tiny.stock(kind, dtype=torch.float16), dtype="float32")
    for path in (f"{state} @ B -> logits", f"{state} -> logits"):
        found, wanted = (patch(one, path, intervention=intervention).frame["effect"].to_numpy() for one in (model, wide))
        assert np.isfinite(found).all() and np.abs(found - wanted).max() < 0.05 * max(1, np.abs(wanted).max())


def test_means_are_not_rounded_to_the_models_dtype() -> None:
    from circuitry.executing.means import means
    from circuitry.patching.experiment import compile_path
    from circuitry.paths import Site

    model = tiny.model("rwkv", dtype=torch.float16)
    _, prompts = compile_path(model, TASK, "wkv_state[1] @ B -> logits")
    site = Site(model.graph.node("wkv_state[1]"), ct.Position("B"))
    assert means(model, [site], prompts, 1 << 28)[site].dtype == torch.float32


def test_effects_that_overflow_in_half_precision_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from circuitry.executing import verified

    real, model = verified._apart, tiny.model("gpt2", dtype=torch.float16)
    monkeypatch.setattr(verified, "_apart", lambda one, other: real(one, other) if real(one, other) < 1e-5 else float("nan"))
    with pytest.raises(ct.GuardError, match="in float16 some effects are not numbers"):
        patch(model, "embed @ B -> logits", executor=ct.executor(verify=1))


def test_a_wider_model_is_its_own_wide_model() -> None:
    model = tiny.model("gpt2", dtype=torch.float32)
    assert model.widened() is model
    narrow = tiny.model("gpt2", dtype=torch.bfloat16)
    before = {name: value.clone() for name, value in narrow.hf.state_dict().items()}
    assert narrow.widened().dtype == torch.float32 and narrow.dtype == torch.bfloat16
    assert all(torch.equal(value, before[name]) for name, value in narrow.hf.state_dict().items())


# --- the bound on rounding that tests of the scans use ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
@pytest.mark.parametrize(("kind", "module", "name"), [("mamba", mamba_module, "scan"), ("mamba2", mamba2_module, "ssd")])
def test_a_scan_that_is_wrong_is_not_taken_for_rounding(
    kind: str, module: Any, name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a thousandth in float32, by half in bfloat16, where one rounding is four thousandths."""
    ids, model, real = torch.arange(20)[None] + 3, tiny.model(kind, dtype=dtype), getattr(module, name)

    def logits() -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = model.hf(ids, use_cache=False).logits
        return found

    right = logits()
    wrong_by = 1.001 if dtype == torch.float32 else 1.5
    monkeypatch.setattr(module, name, lambda *args, **options: real(*args, **options) * wrong_by)
    wrong = logits()
    monkeypatch.undo()
    assert only_rounded(right, right, tiny.stock(kind, dtype=dtype), ids)
    assert not only_rounded(wrong, right, tiny.stock(kind, dtype=dtype), ids)
