"""Transcoders as values and files: what they compute, what they refuse, and SAELens's own where it is installed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry import CircuitryError
from circuitry.autoencoders import SAE, SAEConfig, load

WIDTH, FEATURES, OUT = 6, 20, 5
KINDS = [("relu", None), ("topk", 4), ("jumprelu", None)]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = drawn(50, WIDTH, seed=9)


def filled(kind: str, k: int | None, target: str | None = "mlp[0]") -> SAE:
    provenance = {"node": "resid[0]", "model": "bundled:gpt_neox"}
    sae = SAE(SAEConfig(WIDTH, FEATURES, kind, k, provenance=provenance, target=target, target_width=OUT), seed=1)
    for number, value in enumerate(sae.parameters()):
        value.data += 0.2 * drawn(*value.shape, seed=number).abs()
    return sae


@pytest.mark.parametrize(("kind", "k"), KINDS)
def test_it_encodes_one_width_and_decodes_another(kind: str, k: int | None) -> None:
    sae = filled(kind, k)
    before = X @ sae.W_enc + sae.b_enc
    least = before.topk(4).values[:, -1:] if kind == "topk" else torch.zeros(())
    keep = before > sae.threshold if kind == "jumprelu" else before >= least
    features = torch.where(keep, before, 0)
    torch.testing.assert_close(sae.encode(X), features.relu())
    torch.testing.assert_close(sae(X)[0], features.relu() @ sae.W_dec + sae.b_dec)
    assert sae(X)[0].shape == (50, OUT) and repr(sae).startswith(f"SAE(resid[0] -> mlp[0] {kind}, 6 -> 20 -> 5")


def test_scales_of_what_it_reads_and_of_what_it_predicts_are_two() -> None:
    sae = filled("relu", None)
    torch.testing.assert_close(sae.scaled(3.0, 7.0)(X / 3)[0], sae(X)[0] / 7)
    torch.testing.assert_close(sae.scaled(3.0)(X / 3)[0], sae(X)[0] / 3)


def test_its_encoder_is_drawn_apart_from_its_directions() -> None:
    sae = SAE(SAEConfig(WIDTH, FEATURES, target="mlp[0]", target_width=WIDTH))
    assert not torch.allclose(sae.W_enc.T, sae.W_dec)
    torch.testing.assert_close(sae.W_enc.norm(dim=0), torch.full((FEATURES,), sae.config.norm))
    torch.testing.assert_close(sae.W_dec, SAE(SAEConfig(WIDTH, FEATURES)).W_dec)


@pytest.mark.parametrize(("kind", "k"), KINDS)
@pytest.mark.parametrize("target", ["mlp[0]", None])
def test_what_is_written_is_read(tmp_path: Path, kind: str, k: int | None, target: str | None) -> None:
    sae = filled(kind, k, target)
    again = SAE.load(sae.save(tmp_path))
    assert again.config == sae.config
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in sae.state_dict().items())


def test_nodes_are_named_for_a_file_that_does_not() -> None:
    sae = replace_provenance(filled("relu", None, None), {}).between("resid[0]", "mlp[0]")
    assert (sae.config.provenance["node"], sae.config.node, sae.config.target_width) == ("resid[0]", "mlp[0]", OUT)
    square = SAE(SAEConfig(WIDTH, FEATURES, provenance={"from": "Gemma Scope"})).between("resid[0]", "mlp[0]")
    assert square.config.transcodes and square.config.target_width == WIDTH and square.config.provenance["from"] == "Gemma Scope"


def replace_provenance(sae: SAE, provenance: dict[str, Any]) -> SAE:
    return SAE.of(replace(sae.config, provenance=provenance), sae.state_dict())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: SAEConfig(4, 8, target="mlp[0]"), "needs that node's width"),
        (lambda: SAEConfig(4, 8, target="mlp[0]", target_width=0), "target_width must be at least 1, got 0"),
        (lambda: SAEConfig(4, 8, centred=True, target_width=4), "cannot be centred"),
        (lambda: SAE(SAEConfig(4, 8, centred=True)).between("resid[0]", "mlp[0]"), "cannot be centred"),
        (lambda: ct.load("bundled:gpt_neox").attach(wide(target="mlp[0]")), "the transcoder of mlp[0] cannot be attached"),
        (lambda: ct.load("bundled:gpt_neox").attach(wide(target=None)), "name them with sae.between(source, target)"),
        (lambda: ct.load("bundled:gpt_neox").attach({"mlp[1]": wide(target="mlp[0]")}), "given for mlp[1] predicts mlp[0]"),
    ],
)
def test_mistakes_are_told(make: Any, told: str) -> None:
    with pytest.raises(CircuitryError, match=re.escape(told)):
        make()


def wide(target: str | None) -> SAE:
    return SAE(SAEConfig(128, 8, provenance={"node": "resid[0]"}, target=target, target_width=128))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"architecture": "skip_transcoder"}, "architecture 'skip_transcoder' is not read"),
        ({"architecture": "standard"}, "d_out 5 is not read"),
        ({"d_out": 7}, "the weights of this relu SAE are"),
        ({"d_out": None}, "d_out None is not read"),
        ({"apply_b_dec_to_input": True}, "apply_b_dec_to_input True is not read"),
    ],
)
def test_a_file_of_another_function_is_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    file = filled("relu", None).save(tmp_path) / "cfg.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(CircuitryError, match=re.escape(told)):
        load(tmp_path)


@pytest.mark.parametrize(("kind", "name"), [("relu", "Transcoder"), ("jumprelu", "JumpReLUTranscoder")])
def test_sae_lens_reads_ours_and_we_read_its(tmp_path: Path, kind: str, name: str) -> None:
    sae_lens = pytest.importorskip("sae_lens", reason="pip install sae-lens, in an environment of its own")
    sae = filled(kind, None)
    theirs = sae_lens.SAE.load_from_disk(sae.save(tmp_path / "ours"))
    assert type(theirs).__name__ == name and theirs.cfg.metadata["hook_name_out"] == "mlp[0]"
    torch.testing.assert_close(theirs.encode(X), sae.encode(X))
    torch.testing.assert_close(theirs(X), sae(X)[0])
    assert (sae.encode(X) > 0).any()
    theirs.save_model(tmp_path / "theirs")
    again = load(tmp_path / "theirs")
    assert again.config == sae.config
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in sae.state_dict().items())


def test_a_transcoder_that_sae_lens_made_is_read_and_one_with_a_skip_refused(tmp_path: Path) -> None:
    theirs = pytest.importorskip("sae_lens.saes.transcoder", reason="sae-lens in an environment of its own")
    sizes = {"d_in": WIDTH, "d_sae": FEATURES, "d_out": OUT, "apply_b_dec_to_input": False}
    made = theirs.Transcoder(theirs.TranscoderConfig(**sizes))
    made.save_model(tmp_path / "plain")
    found = load(tmp_path / "plain")
    torch.testing.assert_close(found(X)[0], made(X))
    assert found.config.transcodes and found.config.target is None
    theirs.SkipTranscoder(theirs.SkipTranscoderConfig(**sizes)).save_model(tmp_path / "skip")
    with pytest.raises(CircuitryError, match="architecture 'skip_transcoder' is not read"):
        load(tmp_path / "skip")
