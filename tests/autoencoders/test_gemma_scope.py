"""Files of Gemma Scope: read as its authors' function computes, and as SAELens reads them where that is installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from circuitry import CircuitryError
from circuitry.autoencoders import SAE

WIDTH, FEATURES = 6, 20


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = 3 * drawn(50, WIDTH, seed=9)
W: dict[str, Any] = {
    "W_enc": drawn(WIDTH, FEATURES, seed=1).numpy(),
    "b_enc": drawn(FEATURES, seed=2).numpy(),
    "W_dec": drawn(FEATURES, WIDTH, seed=4).numpy(),
    "b_dec": drawn(WIDTH, seed=3).numpy(),
    "threshold": drawn(FEATURES, seed=5).abs().numpy() + 0.5,
}


def written(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "params.npz", **arrays)
    return folder


def by_hand(x: Tensor) -> tuple[Tensor, Tensor]:
    """The function of the authors' tutorial: features above their thresholds, with no bias subtracted first."""
    w = {name: torch.from_numpy(value) for name, value in W.items()}
    before = x @ w["W_enc"] + w["b_enc"]
    features = torch.where(before > w["threshold"], before, torch.zeros(()))
    return features, features @ w["W_dec"] + w["b_dec"]


@pytest.mark.parametrize("name", [".", "params.npz"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_a_file_or_its_folder_computes_what_the_authors_code_does(tmp_path: Path, name: str, dtype: str) -> None:
    sae = SAE.load(written(tmp_path, **{key: value.astype(dtype) for key, value in W.items()}) / name)
    features, made = by_hand(X)
    assert sae.config.kind == "jumprelu" and not sae.config.centred and sae.W_enc.dtype == torch.float32
    error = 2e-2 if dtype == "float16" else 1e-5
    fires = (sae.encode(X) > 0) == (features > 0)
    assert fires.float().mean() > 0.99 and 0 < features.count_nonzero() < features.numel()
    torch.testing.assert_close(sae.encode(X)[fires], features[fires], atol=error, rtol=error)
    if dtype != "float16":
        torch.testing.assert_close(sae(X)[0], made, atol=error, rtol=error)


@pytest.mark.parametrize("missing", W)
def test_a_missing_array_is_refused_by_name(tmp_path: Path, missing: str) -> None:
    with pytest.raises(CircuitryError, match=f"without {missing} is not read"):
        SAE.load(written(tmp_path, **{name: value for name, value in W.items() if name != missing}))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"scaling_factor": np.ones(FEATURES, np.float32)}, "a tensor scaling_factor (20,) is not read"),
        ({"W_dec": W["W_dec"].T}, "the weights of this jumprelu SAE are"),
        ({"threshold": np.float32(0.5)}, "a tensor threshold () is not read"),
        ({"b_enc": np.zeros(FEATURES, np.int64)}, "with b_enc of int64 is not read"),
        ({"b_enc": np.array([None] * FEATURES)}, "params.npz cannot be read (Object arrays cannot be loaded"),
    ],
)
def test_an_array_too_many_or_of_another_shape_or_type_is_refused(tmp_path: Path, more: Any, told: str) -> None:
    with pytest.raises(CircuitryError, match=re.escape(told)):
        SAE.load(written(tmp_path, **{**W, **more}))


@pytest.mark.parametrize("data", [b"", b"half", b"PK\x03\x04"])
def test_a_damaged_file_is_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "params.npz").write_bytes(data)
    with pytest.raises(CircuitryError, match=r"params\.npz cannot be read") as caught:
        SAE.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["layer_20/width_16k/average_l0_71", "embedding/width_4k/average_l0_44"])
def test_sae_lens_reads_the_same(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loader asks the Hub for the file. For an embedding it changes the scale, since Gemma multiplies embeddings by √D; of b_dec it
    does not, so that is left out here."""
    sae_lens = pytest.importorskip("sae_lens", reason="pip install sae-lens, in an environment of its own")
    loaders = pytest.importorskip("sae_lens.loading.pretrained_sae_loaders")
    monkeypatch.setattr(loaders, "hf_hub_download", lambda **_: written(tmp_path, **W) / "params.npz")
    sizes = {"d_in": WIDTH, "d_sae": FEATURES, "apply_b_dec_to_input": False}
    settings, weights, _ = loaders.gemma_2_sae_huggingface_loader("google/gemma-scope-2b-pt-res", folder, cfg_overrides=sizes)
    theirs = sae_lens.SAE.from_dict({"architecture": "jumprelu", **sizes, "dtype": "float32", "device": "cpu"})
    theirs.load_state_dict(weights)
    assert settings["architecture"] == "jumprelu"
    ours = SAE.load(written(tmp_path, **W))
    ours = ours.scaled(WIDTH**-0.5) if folder.startswith("embedding") else ours
    torch.testing.assert_close(ours.encode(X), theirs.encode(X))
    torch.testing.assert_close(ours(X)[0] - ours.b_dec, theirs(X) - theirs.b_dec)
