"""Original checkpoints that are refused, each with its reason, and pickles, of which nothing is run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import circuitry as ct
from circuitry import ModelError
from circuitry.native import find
from support import tiny
from support.checkpoints import RWKV, written

# --- pickles ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "suffix"), [("mamba", ".bin"), ("rwkv", ".pth")])
def test_load_reads_no_pickle_and_names_the_command(
    name: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(name, tmp_path / "my models", suffix)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was read"))
    with pytest.raises(ModelError) as found:
        ct.load(source)
    file = source if name == "rwkv" else source / "pytorch_model.bin"
    assert str(found.value) == (
        f"{file} is pickled, and pickled weights are not loaded; convert them once: circuitry convert '{source}' NEW_FOLDER"
    )


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("name", ("mamba", "rwkv"))
def test_code_in_a_pickle_is_refused_and_not_run(name: str, tmp_path: Path) -> None:
    sprung, folder = tmp_path / "sprung", tmp_path / "native"
    source = written(name, folder, ".bin" if name == "mamba" else ".pth", lambda weights: weights.update(trap=Trap(sprung)))
    with pytest.raises(
        ModelError, match=r"is refused, and none of its code was run: .*\(Trying to load unsupported GLOBAL posix.mkdir"
    ):
        ct.convert(source, tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["native"]
    torch.load(next(iter(folder.glob("*.[bp]*"))), weights_only=False)
    assert sprung.exists()  # it would have been run


# --- refusals --------------------------------------------------------------------------------------------------------------


def settings(**changes: Any) -> Callable[[Path], None]:
    """Change config.json; None takes a key away."""

    def change(folder: Path) -> None:
        known = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps({key: value for key, value in known.items() if value is not None}))

    return change


def mixer(**changes: Any) -> Callable[[Path], None]:
    return settings(ssm_cfg=changes)


def cut(folder: Path) -> None:
    file = next(file for file in folder.iterdir() if file.name != "config.json")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def unchanged(_: Any) -> None:
    pass


Change = Callable[[Any], Any]
A_LOG = "backbone.layers.1.mixer.A_log"
HEAD = "lm_head.weight"
# By name: the checkpoint, what is changed in its weights, what in its folder, and what is said.
REFUSED: dict[str, tuple[str, Change, Change, str]] = {
    "layer norm": ("mamba", unchanged, settings(rms_norm=False), "config.json of IT has rms_norm False; transformers supports only True"),
    "attention": ("mamba", unchanged, settings(attn_layer_idx=[1]), "config.json of IT has attn_layer_idx [1]; transformers supports only []"),
    "MLPs": ("mamba2", unchanged, settings(d_intermediate=32), "config.json of IT has d_intermediate 32; transformers supports only 0"),
    "unknown setting": ("mamba", unchanged, settings(d_modle=1), "config.json of IT has 'd_modle', which mamba-ssm does not know; did you mean 'd_model'?"),
    "third layer": ("mamba", unchanged, mixer(layer="Mamba3"), "config.json of IT: expected Mamba1 or Mamba2 as ssm_cfg.layer, got 'Mamba3'"),
    "unknown mixer": ("mamba", unchanged, mixer(headdim=8), "ssm_cfg in config.json of IT has 'headdim', which mamba-ssm does not know; known here: *"),
    "no gated norm": ("mamba2", unchanged, mixer(layer="Mamba2", rmsnorm=False), "ssm_cfg in config.json of IT has rmsnorm False; transformers *"),
    "norm first": ("mamba2", unchanged, mixer(layer="Mamba2", norm_before_gate=True), "ssm_cfg in config.json of IT has norm_before_gate True; *"),
    "part of the width": ("mamba2", unchanged, mixer(layer="Mamba2", d_ssm=16), "ssm_cfg in config.json of IT has d_ssm 16; *"),
    "wide skip": ("mamba2", unchanged, mixer(layer="Mamba2", D_has_hdim=True), "ssm_cfg in config.json of IT has D_has_hdim True; *"),
    "no number": ("mamba", unchanged, settings(d_model="16"), "config.json of IT does not make a model: *"),
    "no heads": ("mamba2", unchanged, mixer(layer="Mamba2", headdim=5), "config.json of IT does not make a model: *num_heads * head_dim*"),
    "missing": ("mamba", lambda w: w.pop(A_LOG), unchanged, f"IT lacks 1 weight of a mamba of its sizes: {A_LOG}; it is incomplete, or not a causal language model"),
    "no head": ("mamba-other", lambda w: w.pop(HEAD), unchanged, f"IT lacks 1 weight of a mamba of its sizes: {HEAD}; it is incomplete, or not a causal language model"),
    "no embedding": ("mamba-other", lambda w: w.pop("backbone.embedding.weight"), unchanged, "IT lacks 1 weight of a mamba of its sizes: backbone.embeddings.weight; it is incomplete, or not a causal language model"),
    "extra": ("mamba", lambda w: w.update(more=torch.ones(1)), unchanged, "IT has 1 weight that a mamba of its sizes does not have: more"),
    "other layers": ("mamba", unchanged, settings(n_layer=2), "IT has 10 weights that a mamba of its sizes does not have, such as backbone.layers.2.*"),
    "other shape": ("mamba", lambda w: w.update({A_LOG: torch.ones(32, 5)}), unchanged, f"IT has 1 weight that a mamba of its sizes has in other shapes: {A_LOG}: expected (32, 4), got (32, 5)"),
    "other vocabulary": ("mamba", unchanged, settings(vocab_size=100), "IT has 1 weight that a mamba of its sizes has in other shapes: backbone.embeddings.weight: expected (104, 16), got (64, 16)"),
    "not tied": ("mamba", lambda w: w[HEAD].add_(1), unchanged, "IT has tie_embeddings, but its lm_head.weight differs from its backbone.embedding.weight"),
    "truncated": ("mamba", unchanged, cut, "the weights in FILE cannot be read: *"),
    "no weights": ("mamba", unchanged, lambda folder: [p.unlink() for p in folder.glob("*model*")], "IT has the config.json of a mamba-ssm model, but no model.safetensors and no pytorch_model.bin"),
    "rwkv missing": ("rwkv", lambda w: w.pop("blocks.2.ffn.value.weight"), unchanged, "IT lacks 1 weight of a rwkv of its sizes: rwkv.blocks.2.feed_forward.value.weight; it is incomplete, or not a causal language model"),
    "rwkv extra": ("rwkv", lambda w: w.update({"blocks.1.tiny_q.weight": torch.ones(1)}), unchanged, "IT has 1 weight that a rwkv of its sizes does not have: rwkv.blocks.1.tiny_q.weight; *"),
    "rwkv shape": ("rwkv", lambda w: w.update({"head.weight": torch.ones(62, 16)}), unchanged, "IT has 1 weight that a rwkv of its sizes has in other shapes: head.weight: expected (61, 16), got (62, 16)"),
    "rwkv 5": ("rwkv", lambda w: w.update({"blocks.0.att.ln_x.weight": torch.ones(1)}), unchanged, "expected an RWKV-4 or an RWKV-7 in IT, got another version (it has blocks.0.att.ln_x.weight)"),
    "rwkv one block": ("rwkv", lambda w: [w.pop(n) for n in list(w) if n[:8] in ("blocks.1", "blocks.2")], unchanged, "expected an RWKV-4 with at least two blocks in IT"),
    "rwkv embedding": ("rwkv", lambda w: w.pop("emb.weight"), unchanged, "expected an RWKV-4 in IT, but it has no matrix emb.weight"),
    "rwkv7 missing": ("rwkv7", lambda w: w.pop("blocks.2.att.r_k"), unchanged, "IT lacks 1 weight of a rwkv7 of its sizes: blocks.2.att.r_k; *"),
    "rwkv7 extra": ("rwkv7", lambda w: w.update({"blocks.1.ffn.s_emb.weight": torch.ones(61, 4)}), unchanged, "IT has 1 weight that a rwkv7 of its sizes does not have: blocks.1.ffn.s_emb.weight"),
    "rwkv7 shape": ("rwkv7", lambda w: w.update({"blocks.2.att.w1": torch.ones(16, 9)}), unchanged, "IT has 1 weight that a rwkv7 of its sizes has in other shapes: blocks.2.att.w1: expected (16, 3), got (16, 9)"),
    "rwkv7 flat": ("rwkv7", lambda w: w.update({"blocks.2.att.x_r": torch.ones(16)}), unchanged, "IT has 1 weight that a rwkv7 of its sizes has in other shapes: blocks.2.att.x_r: expected (1, 1, 16), got (16,)"),
    "rwkv7 no ranks": ("rwkv7", lambda w: w.pop("blocks.1.att.v1"), unchanged, "expected an RWKV-7 in IT, but it has no matrix blocks.1.att.v1"),
    "rwkv7 no heads": ("rwkv7", lambda w: w.update({"blocks.0.att.r_k": torch.ones(16)}), unchanged, "expected an RWKV-7 in IT, but it has no matrix blocks.0.att.r_k"),
    "rwkv7 widths": ("rwkv7", lambda w: w.update({"blocks.0.att.r_k": torch.ones(3, 5)}), unchanged, "the heads of IT do not make up its width 16: blocks.0.att.r_k has the shape (3, 5)"),
    "rwkv truncated": ("rwkv", unchanged, cut, "the weights in FILE cannot be read: *"),
}  # fmt: skip


@pytest.mark.parametrize("how", ("load", "convert"))
@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_read_faithfully_is_refused(reason: str, how: str, tmp_path: Path) -> None:
    name, change_weights, change_folder, text = REFUSED[reason]
    suffix = ".safetensors" if how == "load" else ".pth" if name in RWKV else ".bin"
    what = written(name, tmp_path / "native", suffix, change_weights)
    change_folder(tmp_path / "native")
    with pytest.raises(ModelError) as found:
        ct.load(what) if how == "load" else ct.convert(what, tmp_path / "made")
    file = next((str(p) for p in (tmp_path / "native").iterdir() if p.suffix == suffix), "")
    matches(str(found.value), text.replace("IT", str(what)).replace("FILE", file))
    assert [path.name for path in tmp_path.iterdir()] == ["native"]


def matches(found: str, wanted: str) -> None:
    """Equal, where a ``*`` at the end stands for anything."""
    start, star, end = wanted.partition("*")
    assert found.startswith(start) if star else found == wanted, f"{found!r} is not {wanted!r}"
    assert not end or all(piece in found for piece in end.split("*"))


def nothing(folder: Path) -> Path:
    folder.mkdir()
    return folder


def two_files(folder: Path) -> Path:
    shutil.copy(written("rwkv", folder, ".pth"), folder / "other.pth")
    return folder


def no_state_dict(folder: Path) -> Path:
    folder.mkdir()
    torch.save({"model": {"emb.weight": torch.ones(2, 2)}, "step": 3}, folder / "checkpoint.pth")
    return folder


def no_pickle(folder: Path) -> Path:
    folder.mkdir()
    (folder / "checkpoint.pth").write_bytes(b"a page that says that you are not logged in")
    return folder


def other_code(folder: Path) -> Path:
    folder.mkdir()
    torch.save({"emb.weight": Trap}, folder / "checkpoint.pth")
    return folder


def safe_already(folder: Path) -> Path:
    tiny.stock("gpt2").save_pretrained(folder)
    return folder


def no_type(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    torch.save({"x": torch.ones(2)}, folder / "pytorch_model.bin")
    return folder


NOT_CONVERTED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (
        nothing,
        "IT cannot be converted: expected a mamba-ssm folder, an RWKV checkpoint, or a folder with pytorch_model.bin",
    ),
    "not there": (lambda folder: folder, "no file or folder IT"),
    "two files": (two_files, "expected one checkpoint in IT, got 2; give one file, such as IT/other.pth"),
    "no state dict": (no_state_dict, "expected a plain state dict in IT/checkpoint.pth: names and tensors, and nothing else"),
    "safetensors": (safe_already, "IT has safetensors already; circuitry.load reads it as it is"),
    "no pickle": (no_pickle, "the weights in IT/checkpoint.pth cannot be read: *"),
    "other code": (other_code, "IT/checkpoint.pth is refused, and none of its code was run: *Trap was not an allowed global*"),
    "no type": (no_type, "IT holds no model that transformers knows: *"),
}


@pytest.mark.parametrize("reason", NOT_CONVERTED)
def test_what_cannot_be_converted_says_why(reason: str, tmp_path: Path) -> None:
    make, text = NOT_CONVERTED[reason]
    source = make(tmp_path / "it")
    with pytest.raises(ModelError) as found:
        ct.convert(source, tmp_path / "made")
    matches(str(found.value), text.replace("IT", str(source)))
    assert not (tmp_path / "made").exists()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^no file .*RWKV-4.pth$"):
        ct.load(tmp_path / "RWKV-4.pth")


def test_hugging_face_folders_are_none_of_these(tmp_path: Path) -> None:
    tiny.stock("mamba").save_pretrained(tmp_path / "hf")
    assert find(tmp_path / "hf") is None and find(Path("bundled:mamba")) is None and find(Path("state-spaces/mamba-130m")) is None
