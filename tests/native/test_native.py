"""Original mamba-ssm, RWKV-4 and RWKV-7 checkpoints: read as they are, or converted; and against mamba-ssm itself."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import circuitry as ct
from circuitry import CircuitryError, cli
from circuitry.content import BUNDLED
from circuitry.native import mamba_ssm
from support import tiny
from support.checkpoints import CHECKPOINTS, FORMATS, RWKV, Weights, as_mamba_ssm, logits, read, rwkv, stock, written

# --- what they become ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "suffix"), FORMATS)
def test_a_converted_checkpoint_has_the_same_logits(name: str, suffix: str, tmp_path: Path) -> None:
    source, hf = written(name, tmp_path / "native", suffix), stock(name)
    made = ct.convert(source, tmp_path / "new" / "made")
    found = read(made.folder)
    assert torch.equal(logits(found), logits(hf))
    assert {n for n, _ in found.named_parameters()} == {n for n, _ in hf.named_parameters()}
    assert made.parameters == sum(p.numel() for p in hf.parameters())
    assert (made.kind, made.model_type, made.dtype) == (
        "RWKV" if name in RWKV else "mamba-ssm",
        hf.config.model_type,
        torch.float32,
    )
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["made"]
    assert not list(made.folder.glob("*.bin")) and list(made.folder.glob("*.safetensors"))
    if name == "rwkv":
        assert found.config.rescale_every == 0


@pytest.mark.parametrize("name", [*CHECKPOINTS, *RWKV])
def test_safetensors_load_as_they_are(name: str, tmp_path: Path) -> None:
    source = written(name, tmp_path / "native", ".safetensors")
    wanted = logits(ct.load(stock(name)).hf)
    ours = ct.load(source)
    assert torch.equal(logits(ours.hf), wanted)
    assert ours.name == str(source) and ours.tokenizer is None and not ours.hf.training
    if name in RWKV:
        assert torch.equal(logits(ct.load(tmp_path / "native").hf), wanted)  # the folder that holds the file


@pytest.mark.parametrize("name", ("lm_head.weight", "backbone.embedding.weight"))
def test_one_of_two_tied_weights_may_be_left_out(name: str, tmp_path: Path) -> None:
    """As in safetensors. transformers alone would read such a folder and make up the embedding."""
    folder = written("mamba", tmp_path, ".safetensors", lambda weights: weights.pop(name))
    assert torch.equal(logits(ct.load(folder).hf), logits(ct.load(stock("mamba")).hf))


def test_safetensors_come_before_pickle(tmp_path: Path) -> None:
    folder = written("mamba", tmp_path, ".safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    ct.load(folder)


def test_flat_time_mix_is_read_too(tmp_path: Path) -> None:
    def flat(weights: Weights) -> None:
        weights |= {name: value.flatten() for name, value in weights.items() if ".time_mix_" in name}

    made = ct.convert(written("rwkv", tmp_path, ".pth", flat), tmp_path / "made")
    assert torch.equal(logits(read(made.folder)), logits(rwkv()))


def test_a_converted_rwkv7_loads_again(tmp_path: Path) -> None:
    """transformers does not know its type."""
    source = written("rwkv7", tmp_path / "native", ".safetensors")
    made = ct.load(ct.convert(source, tmp_path / "made").folder)
    assert torch.equal(logits(made.hf), logits(ct.load(source).hf)) and made.graph.name == "rwkv7"


def test_an_rwkv7_may_have_one_layer_or_lack_the_weights_that_none_uses(tmp_path: Path) -> None:
    def first(weights: Weights) -> None:
        for name in [name for name in weights if name.startswith(("blocks.1", "blocks.2", "blocks.0.att.v0"))]:
            del weights[name]

    assert ct.load(written("rwkv7", tmp_path, ".safetensors", first)).graph.sizes["layer"] == 1


@pytest.mark.parametrize(("kept", "also", "wanted"), [("bfloat16", "bfloat16", "bfloat16"), ("float16", "float32", "float32")])
def test_conversion_rounds_nothing(kept: str, also: str, wanted: str, tmp_path: Path) -> None:
    def rounded(weights: Weights) -> None:
        for name in weights:
            weights[name] = weights[name].to(getattr(torch, also if name.endswith("A_log") else kept))

    weights: list[Weights] = []
    made = ct.convert(written("mamba", tmp_path / "x", ".bin", lambda w: (rounded(w), weights.append(w))), tmp_path / "y")  # type: ignore[func-returns-value]
    found = read(made.folder)
    assert found.dtype == made.dtype == getattr(torch, wanted)
    for name, value in as_mamba_ssm(found).items():
        assert torch.equal(value.double(), weights[0][name].double()), name


@given(st.integers(1, 60000), st.integers(1, 128))
def test_the_vocabulary_is_the_least_multiple_that_holds_it(size: int, multiple: int) -> None:
    settings = {"d_model": 16, "n_layer": 1, "vocab_size": size, "pad_vocab_size_multiple": multiple}
    stored = mamba_ssm.config(settings, "it").vocab_size
    assert stored % multiple == 0 and size <= stored < size + multiple


def test_sizes_that_are_not_given_are_those_of_mamba_ssm() -> None:
    """state-spaces/mamba-130m and mamba2-130m say little more than these."""
    one = mamba_ssm.config({"d_model": 768, "n_layer": 24, "ssm_cfg": {}}, "it")
    assert (one.vocab_size, one.state_size, one.conv_kernel, one.expand, one.time_step_rank) == (50280, 16, 4, 2, 48)
    assert one.use_conv_bias and not one.use_bias and one.tie_word_embeddings and one.residual_in_fp32
    two = mamba_ssm.config({"d_model": 768, "n_layer": 24, "ssm_cfg": {"layer": "Mamba2"}}, "it")
    assert (two.vocab_size, two.state_size, two.conv_kernel, two.expand, two.num_heads) == (50280, 128, 4, 2, 24)
    assert (two.head_dim, two.n_groups, two.chunk_size, two.tie_word_embeddings) == (64, 1, 256, True)


def test_tokenizer_files_come_along(tmp_path: Path) -> None:
    folder = written("mamba", tmp_path / "native", ".bin")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED / "mamba" / name, folder)
    made = ct.convert(folder, tmp_path / "made")
    assert made.tokenizer == ("tokenizer.json", "tokenizer_config.json")
    words = ct.load("bundled:mamba").tokenizer.encode("some words")
    assert ct.load(made.folder).tokenizer.encode("some words") == words
    written("mamba", folder, ".safetensors")
    assert ct.load(folder).tokenizer.encode("some words") == words


def test_a_pickled_hugging_face_folder_is_converted(tmp_path: Path) -> None:
    hf = tiny.stock("gpt2", dtype=torch.float32)
    hf.save_pretrained(tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").unlink()
    whole = dict(hf.state_dict())
    first = {name: whole.pop(name) for name in sorted(whole)[:9]}
    torch.save(first, tmp_path / "old" / "pytorch_model-00001-of-00002.bin")
    torch.save(whole, tmp_path / "old" / "pytorch_model-00002-of-00002.bin")
    made = ct.convert(tmp_path / "old", tmp_path / "made")
    assert torch.equal(logits(read(made.folder)), logits(hf))
    assert made.kind == "Hugging Face" and len(made.sources) == 2


# --- the folder that is written --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ("folder", "file"))
def test_nothing_is_overwritten(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "made"
    target.mkdir() if kind == "folder" else target.write_text("mine")
    with pytest.raises(CircuitryError, match=r"made already exists and is not overwritten; name a new folder$"):
        ct.convert(written("mamba", tmp_path / "native", ".bin"), target)
    assert not list(target.iterdir()) if kind == "folder" else target.read_text() == "mine"


def test_a_conversion_that_is_stopped_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, seen = written("mamba", tmp_path / "native", ".bin"), list[Path]()
    (folder / "tokenizer.json").write_text("{}")

    def stopped(_: Path, target: Path) -> None:
        seen.extend(target.parent.glob("*.safetensors"))
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copyfile", stopped)
    with pytest.raises(KeyboardInterrupt):
        ct.convert(folder, tmp_path / "made")
    assert seen and [path.name for path in tmp_path.iterdir()] == ["native"]


def test_the_command_says_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = written("rwkv", tmp_path, ".pth"), tmp_path / "made"

    def called() -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["circuitry", "convert", str(source), str(target)])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, out.getvalue(), err.getvalue()

    said = f"RWKV weights: {source}\nrwkv, 0.01M parameters, float32; no tokenizer beside them\nwritten: {target.resolve()}\n"
    assert called() == (0, said, "")
    assert called() == (2, "", f"{target} already exists and is not overwritten; name a new folder\n")


# --- the package itself ----------------------------------------------------------------------------------------------------

_WRITE = """
import json, sys, types, torch
sys.modules["selective_scan_cuda"] = types.ModuleType("selective_scan_cuda")  # built for GPUs only
from mamba_ssm import MambaLMHeadModel
from mamba_ssm.models.config_mamba import MambaConfig
from mamba_ssm.modules import mamba2, mamba_simple
from mamba_ssm.ops import selective_scan_interface as interface
from mamba_ssm.ops.triton import layer_norm, layernorm_gated, ssd_combined

# The package's own plain PyTorch stands in for its kernels.
layer_norm.RMSNorm.forward = lambda self, x, **_: layer_norm.rms_norm_ref(x, self.weight, self.bias, eps=self.eps)
layernorm_gated.RMSNorm.forward = lambda self, x, z=None: layernorm_gated.rms_norm_ref(
    x, self.weight, self.bias, z, self.eps, self.group_size, self.norm_before_gate)
mamba_simple.selective_scan_fn = interface.selective_scan_fn = interface.selective_scan_ref
unused = ("chunk_size", "seq_idx", "cu_seqlens", "return_final_states", "return_varlen_states")
mamba2.mamba_chunk_scan_combined = lambda *a, **k: ssd_combined.ssd_selective_scan(
    *a, **{name: value for name, value in k.items() if name not in unused})

folder, settings = sys.argv[1], json.loads(sys.argv[2])
torch.manual_seed(0)
model = MambaLMHeadModel(MambaConfig(**settings))
with torch.no_grad():
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder + "/native")
    ids = torch.randint(0, 61, (3, 37))
    torch.save((ids, model(ids).logits), folder + "/wanted.pt")
import circuitry as ct  # with the package importable
ct.convert(folder + "/native", folder + "/made")
with torch.no_grad():
    torch.save(ct.load(folder + "/made").hf(ids, use_cache=False).logits, folder + "/ours.pt")
"""
_READ = """
import sys, torch
sys.modules["mamba_ssm"] = sys.modules["causal_conv1d"] = None  # transformers would call their kernels
from transformers import AutoModelForCausalLM
ids, _ = torch.load(sys.argv[1] + "/wanted.pt")
with torch.no_grad():
    torch.save(AutoModelForCausalLM.from_pretrained(sys.argv[1] + "/made")(ids, use_cache=False).logits, sys.argv[1] + "/stock.pt")
"""
PACKAGE: dict[str, dict[str, Any]] = {
    "mamba": {"ssm_cfg": {"d_state": 4, "dt_rank": 3}},
    "mamba-bias": {"ssm_cfg": {"bias": True, "d_conv": 3}, "tie_embeddings": False},
    "mamba2": {"ssm_cfg": {"layer": "Mamba2", "d_state": 8, "headdim": 8, "use_mem_eff_path": False}},
    "mamba2-groups": {"ssm_cfg": {"layer": "Mamba2", "d_state": 8, "headdim": 8, "ngroups": 2, "dt_limit": [0.1, 0.5], "use_mem_eff_path": False}},
}  # fmt: skip


@pytest.mark.skipif(find_spec("mamba_ssm") is None, reason="mamba-ssm is not installed; it has an environment of its own")
@pytest.mark.parametrize("name", PACKAGE)
def test_a_converted_model_computes_what_mamba_ssm_does(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"d_model": 16, "n_layer": 3, "vocab_size": 61, "fused_add_norm": False, **PACKAGE[name]}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for script in (_WRITE, _READ):
        command = [sys.executable, "-c", script, str(tmp_path), json.dumps(settings)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
    _, wanted = torch.load(tmp_path / "wanted.pt")
    for whose in ("stock", "ours"):
        difference = (torch.load(tmp_path / f"{whose}.pt") - wanted).abs().max().item()
        with capsys.disabled():
            print(f"\n{name}: {whose} and mamba-ssm differ by {difference:.1e} of {wanted.abs().max().item():.1f}")
        assert difference < 2e-5
