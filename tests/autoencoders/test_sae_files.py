"""Files of SAEs. sae-lens and sparsify are asked themselves where they are installed; OpenMOSS's layout is written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import circuitry as ct
from circuitry.autoencoders import SAE, SAEConfig, load

WIDTH, FEATURES = 6, 20
KINDS = [("relu", None), ("topk", 4), ("jumprelu", None)]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def filled(kind: str, k: int | None, centred: bool = False, provenance: dict[str, Any] | None = None) -> SAE:
    sae = SAE(SAEConfig(WIDTH, FEATURES, kind, k, centred, provenance or {}), seed=1)
    for number, value in enumerate(sae.parameters()):
        value.data += 0.2 * drawn(*value.shape, seed=number)
    return sae


def written(folder: Path, settings: dict[str, Any], weights: dict[str, Tensor], file: str, name: str = "cfg.json") -> Path:
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(settings))
    save_file({key: value.detach().contiguous() for key, value in weights.items()}, folder / file)
    return folder


X = drawn(50, WIDTH, seed=9)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(("kind", "k"), KINDS)
def test_what_is_written_is_read(tmp_path: Path, kind: str, k: int | None, centred: bool) -> None:
    sae = filled(kind, k, centred, {"node": "resid[3]", "recipe": {"l1": 2.0, "clip": None}, "scale": 0.25})
    again = SAE.load(sae.save(tmp_path))
    assert again.config == sae.config
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in sae.state_dict().items())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cfg.json", "sae_weights.safetensors"]


def test_metadata_says_whose_layout_it_is(tmp_path: Path) -> None:
    """Without a version there, SAELens takes the file for one of before version 6 and drops the metadata."""
    filled("relu", None, provenance={"node": "resid[3]", "model": "bundled:mamba"}).save(tmp_path)
    metadata = json.loads((tmp_path / "cfg.json").read_text())["metadata"]
    assert metadata["sae_lens_version"].startswith("6.") and metadata["hook_name"] == "resid[3]"


def test_files_of_older_sae_lens_are_read(tmp_path: Path) -> None:
    """Without metadata: other names, and the decoder's bias subtracted unless the file says no."""
    sae = filled("topk", 4, centred=True)
    settings = {"d_in": WIDTH, "d_sae": FEATURES, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}}
    found = load(written(tmp_path, settings, sae.state_dict(), "sae_weights.safetensors"))
    torch.testing.assert_close(found(X), sae(X))
    assert found.config.provenance["from"] == "SAELens"


def test_a_feature_without_a_direction_makes_no_nan() -> None:
    made = SAE(SAEConfig(4, 6))
    made.W_dec.data[2] = 0
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(made.unit()(x)[0], made(x)[0])


def test_topk_by_share_is_folded(tmp_path: Path) -> None:
    sae = filled("topk", 4)
    settings = {"architecture": "topk", "d_in": WIDTH, "d_sae": FEATURES, "k": 4, "rescale_acts_by_decoder_norm": True}
    settings |= {"apply_b_dec_to_input": False, "metadata": {"sae_lens_version": "6.1.0"}}
    found = load(written(tmp_path, settings, sae.state_dict(), "sae_weights.safetensors"))
    norm = sae.W_dec.norm(dim=1)
    torch.testing.assert_close(found.encode(X), sae.activate(sae.before(X) * norm))
    torch.testing.assert_close(found(X)[0], sae.decode(sae.activate(sae.before(X) * norm) / norm))


def test_a_sparsify_file_is_read(tmp_path: Path) -> None:
    sae = filled("topk", 4, centred=True)
    weights = {"encoder.weight": sae.W_enc.T, "encoder.bias": sae.b_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    settings = {"expansion_factor": 32, "normalize_decoder": True, "num_latents": FEATURES, "k": 4, "d_in": WIDTH}
    found = load(written(tmp_path, {**settings, "activation": "topk", "transcode": False}, weights, "sae.safetensors"))
    torch.testing.assert_close(found(X), sae(X))
    assert found.config.centred and found.config.provenance["from"] == "sparsify"


def test_a_folder_without_settings_is_refused(tmp_path: Path) -> None:
    filled("relu", None).save(tmp_path)
    (tmp_path / "cfg.json").unlink()
    with pytest.raises(ct.CircuitryError, match="no settings"):
        load(tmp_path)


# Against the libraries themselves, where they are installed.


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(("kind", "k"), KINDS)
def test_sae_lens_reads_ours_and_we_read_its(tmp_path: Path, kind: str, k: int | None, centred: bool) -> None:
    sae_lens = pytest.importorskip("sae_lens", reason="pip install sae-lens, in an environment of its own")
    sae = filled(kind, k, centred, {"node": "resid[3]", "model": "bundled:mamba", "recipe": {"l1": 2.0}})
    if kind == "jumprelu":
        sae.threshold.data = drawn(FEATURES).abs() / 4
    theirs = sae_lens.SAE.load_from_disk(sae.save(tmp_path / "ours"))
    f, made = theirs.encode(X), theirs.decode(theirs.encode(X))
    worst = [float((f - sae.encode(X)).detach().abs().max()), float((made - sae(X)[0]).detach().abs().max())]
    print(f"\n{kind}, centred {centred}: max difference of encode {worst[0]:.1e}, decode {worst[1]:.1e}")
    assert max(worst) < 1e-5 and (f > 0).any()
    assert theirs.cfg.metadata["circuitry"]["recipe"] == {"l1": 2.0} and theirs.cfg.metadata["hook_name"] == "resid[3]"
    theirs.save_model(tmp_path / "theirs")
    again = load(tmp_path / "theirs")
    assert again.config == sae.config
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in sae.state_dict().items())


def test_a_topk_that_sae_lens_made_is_read(tmp_path: Path) -> None:
    theirs = pytest.importorskip("sae_lens.saes.topk_sae", reason="sae-lens in an environment of its own")
    made = theirs.TopKSAE(theirs.TopKSAEConfig(d_in=WIDTH, d_sae=FEATURES, k=4, rescale_acts_by_decoder_norm=True))
    for number, value in enumerate(made.parameters()):
        value.data += 0.5 * drawn(*value.shape, seed=number)
    made.save_model(tmp_path)
    found = load(tmp_path)
    torch.testing.assert_close(found.encode(X), made.encode(X))
    torch.testing.assert_close(found(X)[0], made.decode(made.encode(X)))


def test_a_file_that_sparsify_wrote_is_read(tmp_path: Path) -> None:
    sparsify = pytest.importorskip("sparsify", reason="pip install eai-sparsify, in an environment of its own")
    made = sparsify.SparseCoder(WIDTH, sparsify.SparseCoderConfig(num_latents=FEATURES, k=4))
    for number, value in enumerate(made.parameters()):
        value.data += 0.2 * drawn(*value.shape, seed=number)
    made.save_to_disk(tmp_path)
    found, kept = load(tmp_path), made.encode(X)
    features = torch.zeros(len(X), FEATURES).scatter(1, kept.top_indices, kept.top_acts)
    torch.testing.assert_close(found.encode(X), features)
    torch.testing.assert_close(found(X)[0], made.decode(kept.top_acts, kept.top_indices))
