"""Models that are spread by device_map: what accelerate fetches from disk or from memory gives what the whole model gives."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import circuitry as ct
from circuitry.cli import app
from circuitry.errors import CircuitryError, ModelError
from circuitry.models import spread
from circuitry.models.gates import replace_forward, stock_forward
from support import tiny
from support.patching import TASK, effects

accelerate = pytest.importorskip("accelerate")

PATHS = ["resid[{layer}] @ B -> logits", "embed @ B -> resid[2] @ B+1"]
HEADS, STATES = "head[{layer},{head}] @ END -> logits freezing head", "{0}[{{layer}}] @ B+1 -> logits freezing {0}"
OWN_CODE = ["gpt_neox", "gpt2", "bloom", "llama", "mixtral", "gemma2", "mamba", "jamba-moe", "mamba2", "bamba", "falcon_h1", "nemotron_h", "zamba2",
            "rwkv", "rwkv7", "lfm2", "recurrent_gemma", "qwen3_next", "kimi_linear"]  # fmt: skip
"""One type of each code that reads weights: attention, experts, mixers, and layers that share them."""
GIVEN_WHOLE = ["gpt_neox", "gpt2", "llama", "rwkv"]
"""Whose blocks call every module whose weights they use, so that accelerate may fetch one weight at a time."""


def paths(model: ct.Model) -> list[str]:
    states = [family.name for family in model.graph.by_role("state")]
    return PATHS + ([HEADS] if model.graph.by_role("head") else []) + [STATES.format(name) for name in states]


def patched(model: ct.Model, executor: str = "suffix") -> list[Any]:
    task = TASK.but(examples=3)
    return [effects(ct.patch(model, task, path, lint=False, baseline=0, executor=executor)) for path in paths(model)]


def saved(kind: str, folder: Path, dtype: torch.dtype = torch.float32) -> str:
    tiny.stock(kind, dtype=dtype).save_pretrained(folder)
    return str(folder)


def second_half(whole: ct.Model, place: str = "disk") -> dict[str, Any]:
    """A map that puts the embedding and one layer elsewhere."""
    parts = (whole.graph.place(whole.graph.node(node)).module for node in ("embed", "resid[1]"))
    return {"": "cpu", **dict.fromkeys(parts, place)}


def same(found: list[Any], wanted: list[Any]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert abs(other).max() > 1e-3
        assert (one == other).all()


@pytest.mark.parametrize("kind", OWN_CODE)
def test_a_layer_and_the_embedding_on_disk_change_no_effect(kind: str, tmp_path: Path) -> None:
    name = saved(kind, tmp_path)
    whole = ct.load(name)
    parted = ct.load(name, device_map=second_half(whole))
    away = [key for key, value in parted.hf.named_parameters() if value.is_meta]
    assert away and len(away) < len(list(parted.hf.parameters()))
    assert parted.device == torch.device("cpu")
    assert parted.dtype == whole.dtype
    assert parted.fingerprint == whole.fingerprint
    assert parted.parameters == whole.parameters
    assert parted.bytes_per_row(9) == whole.bytes_per_row(9)
    same(patched(parted), patched(whole))
    same(patched(parted, "rows"), patched(whole, "rows"))
    assert [key for key, value in parted.hf.named_parameters() if value.is_meta] == away


def on_disk(kind: str, dtype: str, folder: Path) -> None:
    name = saved(kind, folder)
    whole, parted = ct.load(name, dtype=dtype), ct.load(name, dtype=dtype, device_map={"": "disk"})
    assert all(value.is_meta for value in parted.hf.parameters())
    assert parted.fingerprint == whole.fingerprint
    same(patched(parted), patched(whole))


@pytest.mark.parametrize("kind", ["gpt_neox", "llama", "mamba", "mamba2", "rwkv", "jamba"])
def test_everything_on_disk_in_half_precision(kind: str, tmp_path: Path) -> None:
    on_disk(kind, "bfloat16", tmp_path)


@pytest.mark.parametrize("kind", ["gpt_neox", "llama", "rwkv", "jamba", "mamba", "mamba2"])
def test_everything_on_disk_in_float64(kind: str, tmp_path: Path) -> None:
    on_disk(kind, "float64", tmp_path)


@pytest.mark.parametrize("kind", ["gpt2", "mamba", "rwkv"])
def test_the_reference_reads_weights_from_disk(kind: str, tmp_path: Path) -> None:
    name = saved(kind, tmp_path)
    whole = ct.load(name)
    parted = ct.load(name, device_map=second_half(whole))
    same(patched(parted, "reference"), patched(whole, "reference"))
    table = ct.patch(parted, TASK, PATHS[0], executor=ct.executor(verify=1), lint=False, baseline=0)
    assert table.provenance["verified"].startswith("1 of 3 cells agree")


def test_a_copy_for_comparison_is_refused(tmp_path: Path) -> None:
    parted = ct.load(saved("gpt2", tmp_path), dtype="bfloat16", device_map={"": "disk"})
    with pytest.raises(ModelError, match="is spread by device_map, so it cannot be copied; load it in float32"):
        ct.patch(parted, TASK, PATHS[0], executor=ct.executor(verify=1), lint=False, baseline=0)


def test_a_map_that_accelerate_infers(tmp_path: Path) -> None:
    name = saved("llama", tmp_path)
    whole = ct.load(name)
    for device_map in ("auto", "balanced", "balanced_low_0", "sequential", "cpu", {"": "cpu"}):
        one = ct.load(name, device_map=device_map)
        assert not spread.is_spread(one.hf)
        same(patched(one), patched(whole))


def test_what_is_written_to_disk_goes_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    parted: Any = ct.load(saved("gpt2", tmp_path / "model"), device_map={"": "disk"})
    assert len(list((tmp_path / "tmp").glob("circuitry-*/*.dat"))) == len(parted.hf.state_dict())
    parted.release()
    del parted
    gc.collect()
    assert not list((tmp_path / "tmp").iterdir())


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"device_map": {"transformer": "cpu"}},
        "device_map does not place lm_head.weight; add it, or use '' for everything that is not named",
    ),
    (
        {"device_map": {"": "cpu", "transformer.h.1.mlp": "disk"}},
        "device_map divides transformer.h.1; place it as a whole, on one device",
    ),
    (
        {"device_map": {"": "cpu", "transformer.hh": "disk"}},
        "device_map names 'transformer.hh', which is not a part of the model; did",
    ),
    ({"device_map": {"": "cpu", "transformer.h.1": "nowhere"}}, "device_map cannot be followed: "),
    ({"device_map": "nowhere"}, "device_map cannot be followed: "),
    (
        {"device_map": "auto", "device": "cpu"},
        "device='cpu' puts the whole model on one device, and device_map places its parts; give one of the two",
    ),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_map_that_cannot_be_followed(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(CircuitryError) as found:
        ct.load(saved("gpt2", tmp_path), **options)
    assert str(found.value).startswith(message)


def test_without_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"device_map needs accelerate: pip install 'circuitry-lm\[big\]'"):
        ct.load("bundled:gpt_neox", device_map="auto")


# A model object that its owner has spread.


@pytest.mark.parametrize("kind", GIVEN_WHOLE)
@pytest.mark.parametrize("how", ["disk", "memory"])
def test_a_module_that_its_owner_has_spread(kind: str, how: str, tmp_path: Path) -> None:
    hf, whole = tiny.stock(kind, dtype=torch.float32), ct.load(tiny.stock(kind, dtype=torch.float32))
    if how == "disk":
        accelerate.disk_offload(hf, tmp_path, execution_device="cpu")
    else:
        accelerate.cpu_offload(hf, execution_device="cpu")
    forwards = {name: vars(module).get("forward") for name, module in hf.named_modules()}
    assert all(value.is_meta for value in hf.parameters())
    with ct.load(hf) as model:
        assert model.device == torch.device("cpu")
        assert model.fingerprint == whole.fingerprint
        same(patched(model), patched(whole))
    assert {name: vars(module).get("forward") for name, module in hf.named_modules()} == forwards
    ids = torch.arange(5)[None]
    stock = tiny.stock(kind, dtype=torch.float32)
    assert torch.equal(hf(ids, use_cache=False).logits, stock(ids, use_cache=False).logits)


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "falcon_mamba"])
def test_weights_of_a_mixer_must_be_fetched_together(kind: str) -> None:
    hf = tiny.stock(kind, dtype=torch.float32)
    accelerate.cpu_offload(hf, execution_device="cpu")
    mixer = type(hf.backbone.layers[0].mixer).__name__
    with pytest.raises(ModelError, match=f"the weights of a {mixer} are fetched one by one, but are needed together; use "):
        ct.load(hf)
    assert not hasattr(hf.backbone.layers[0].mixer, "circuitry")


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
@pytest.mark.parametrize("part", ["Block", "Mixer"])
def test_mixers_that_their_owner_has_spread(kind: str, part: str, tmp_path: Path) -> None:
    hf, whole = tiny.stock(kind, dtype=torch.float32), ct.load(tiny.stock(kind, dtype=torch.float32))
    fetched = [type(hf.backbone.layers[0]).__name__.replace("Block", part)]
    accelerate.dispatch_model(
        hf, {"backbone": "disk", "lm_head": "disk"}, main_device="cpu", offload_dir=tmp_path, preload_module_classes=fetched
    )
    with ct.load(hf) as model:
        assert model.fingerprint == whole.fingerprint
        same(patched(model), patched(whole))


def test_a_forward_of_ours_is_called_between_the_hooks_of_accelerate() -> None:
    """Which has kept the forward that a module had; only within a trace nnsight asks the class."""
    module, hook = torch.nn.Identity(), accelerate.hooks.ModelHook()
    hook.post_forward = lambda module, output: 2 * output
    accelerate.hooks.add_hook_to_module(module, hook)
    replace_forward(module, lambda self, x: stock_forward(self)(x) + 1)
    assert module(torch.ones(1)).item() == 4


@pytest.mark.parametrize(("what", "said"), [({"dtype": "float64"}, "torch.float64"), ({"device": "cpu"}, "cpu")])
def test_a_spread_module_stays_as_it_is(what: dict[str, Any], said: str) -> None:
    hf = tiny.stock("gpt2", dtype=torch.float32)
    accelerate.cpu_offload(hf, execution_device="cpu")
    with pytest.raises(ModelError, match=f"GPT2LMHeadModel is spread over devices by accelerate and cannot be moved to {said}; "):
        ct.load(hf, **what)


def test_a_map_does_not_go_with_a_module() -> None:
    with pytest.raises(
        CircuitryError, match="device_map needs a name, a folder or a file; spread a model object before you load it"
    ):
        ct.load(tiny.stock("gpt2"), device_map="auto")


def test_weights_that_are_nowhere() -> None:
    hf = tiny.stock("gpt2", dtype=torch.float32)
    accelerate.cpu_offload(hf.transformer.h[0], execution_device="cpu")
    hf.transformer.h[1].to("meta")
    with pytest.raises(
        ModelError, match=r"transformer\.h\.1\..* has no values \(it is on the device 'meta'\), and accelerate keeps"
    ):
        ct.load(hf)


@pytest.mark.parametrize("command", [["patch", "bundled:gpt2"], ["run", "induction", "--model", "bundled:gpt2"]])
def test_the_command_line_has_it(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And refuses a device beside it, as ``load`` does."""
    asked: list[dict[str, Any]] = []

    def load(name: str, **options: Any) -> None:
        asked.append(options)
        raise ZeroDivisionError

    monkeypatch.setattr("circuitry.models.loading.load", load)
    rest = [PATHS[0]] if command[0] == "patch" else []
    for more in ([], ["--device", "cuda"]):
        with pytest.raises(ZeroDivisionError):
            CliRunner().invoke(app, [*command, *rest, "--device-map", "auto", *more], catch_exceptions=False)
    assert [(one["device_map"], one["device"]) for one in asked] == [("auto", None), ("auto", "cuda")]
