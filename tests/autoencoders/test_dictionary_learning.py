"""Autoencoders of dictionary_learning become ours by ``circuitry convert``.

Each class is written out below from its definition; where the library is installed, it is asked itself.
"""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry import CircuitryError, cli
from circuitry.autoencoders import SAE

WIDTH, FEATURES, K = 6, 20, 4
Weights = dict[str, Tensor]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = 3 * drawn(50, WIDTH, seed=9)
LINEAR = {"encoder.weight": drawn(FEATURES, WIDTH, seed=1), "encoder.bias": drawn(FEATURES, seed=2)}
LINEAR["decoder.weight"] = drawn(WIDTH, FEATURES, seed=4) * torch.linspace(0.2, 3, FEATURES)  # directions of unequal norms
BIAS, EACH, ONE = drawn(WIDTH, seed=3), drawn(FEATURES, seed=5).abs() + 0.5, torch.tensor(1.5)
MATRICES = {
    "W_enc": LINEAR["encoder.weight"].T,
    "b_enc": LINEAR["encoder.bias"],
    "W_dec": LINEAR["decoder.weight"].T,
    "b_dec": BIAS,
}
TOP = {"k": torch.tensor(K, dtype=torch.int)}
GATED = {name: value for name, value in LINEAR.items() if name != "encoder.bias"} | {"decoder_bias": BIAS}
GATED |= {name: drawn(FEATURES, seed=seed) / 2 for seed, name in enumerate(("r_mag", "gate_bias", "mag_bias"))}

WEIGHTS: dict[str, Weights] = {
    "AutoEncoder": {**LINEAR, "bias": BIAS},
    "AutoEncoderNew": {**LINEAR, "decoder.bias": BIAS},
    "GatedAutoEncoder": GATED,
    "JumpReluAutoEncoder": {**MATRICES, "threshold": EACH},
    "AutoEncoderTopK": {**LINEAR, "b_dec": BIAS, **TOP, "threshold": torch.tensor(9.0)},
    "BatchTopKSAE": {**LINEAR, "b_dec": BIAS, **TOP, "threshold": ONE},
    "MatryoshkaBatchTopKSAE": {**MATRICES, **TOP, "threshold": ONE, "group_sizes": torch.tensor([5, 15])},
}
TRAINER = {
    "activation_dim": WIDTH,
    "dict_size": FEATURES,
    "lr": 1e-4,
    "steps": 9,
    "seed": 0,
    "layer": 3,
    "lm_name": "gpt2",
    "device": "cuda",
}
BUFFER = {
    "d_submodule": WIDTH,
    "io": "out",
    "n_ctxs": 9,
    "ctx_len": 128,
    "refresh_batch_size": 4,
    "out_batch_size": 8,
    "device": "cuda",
}


def written(
    folder: Path, name: str, weights: Weights, trainer: dict[str, Any] | None = None, buffer: dict[str, Any] | None = None
) -> Path:
    folder.mkdir(exist_ok=True)
    k = {"k": K} if "k" in weights else {}
    settings = {"trainer": {"dict_class": name, **TRAINER, **k, **(trainer or {})}, "buffer": {**BUFFER, **(buffer or {})}}
    (folder / "config.json").write_text(json.dumps(settings))
    torch.save({key: value.contiguous() for key, value in weights.items()}, folder / "ae.pt")
    return folder


def converted(folder: Path) -> SAE:
    return SAE.load(ct.convert(folder, folder.parent / "converted").folder)


def by_hand(name: str) -> tuple[Tensor, Tensor]:
    """Features and reconstructions of X, by the definition of each class."""
    w = WEIGHTS[name]
    encoder = w["W_enc"] if "W_enc" in w else w["encoder.weight"].T
    decoder = w["W_dec"] if "W_dec" in w else w["decoder.weight"].T
    z = (X if name in ("AutoEncoderNew", "JumpReluAutoEncoder") else X - BIAS) @ encoder
    if name == "GatedAutoEncoder":
        features = (z + w["gate_bias"] > 0) * torch.relu(w["r_mag"].exp() * z + w["mag_bias"])
        return features, features @ decoder + BIAS
    z = z + LINEAR["encoder.bias"]
    if name == "AutoEncoderTopK":
        least = z.sort(dim=1, descending=True).values[:, K - 1 : K]
        features = torch.where(z >= least, z, 0).clamp(min=0)
    else:
        features = torch.where(z > w.get("threshold", torch.zeros(())), z, 0).clamp(min=0)
    made = features @ decoder + BIAS
    return (features * decoder.norm(dim=1) if name == "AutoEncoder" else features), made


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_converted_autoencoder_computes_what_its_class_does(tmp_path: Path, name: str) -> None:
    sae, (features, made) = converted(written(tmp_path / "old", name, WEIGHTS[name])), by_hand(name)
    torch.testing.assert_close(sae.encode(X), features, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(sae(X)[0], made, atol=1e-4, rtol=1e-5)
    assert 0 < features.count_nonzero() < features.numel()
    assert sae.config.provenance["from"] == "dictionary_learning" and sae.config.provenance["trainer"]["lm_name"] == "gpt2"


def test_a_threshold_that_was_never_set_keeps_all(tmp_path: Path) -> None:
    """A training of fewer steps than threshold_start_step leaves -1."""
    sae = converted(written(tmp_path / "old", "BatchTopKSAE", {**WEIGHTS["BatchTopKSAE"], "threshold": torch.tensor(-1.0)}))
    torch.testing.assert_close(sae.encode(X), torch.relu((X - BIAS) @ MATRICES["W_enc"] + LINEAR["encoder.bias"]))


def test_k_of_the_settings_is_enough_for_an_older_file(tmp_path: Path) -> None:
    weights = {name: value for name, value in WEIGHTS["AutoEncoderTopK"].items() if name not in ("k", "threshold")}
    assert converted(written(tmp_path / "old", "AutoEncoderTopK", weights, {"k": K})).config.k == K


@pytest.mark.parametrize(
    ("name", "trainer", "buffer", "told"),
    [
        ("AutoEncoder", {"dict_class": "CrossCoder"}, {}, "dict_class 'CrossCoder' is not read"),
        ("AutoEncoder", {"activation_dim": 7}, {}, "activation_dim 7 is not read: its weights have 6"),
        ("AutoEncoder", {"dict_size": 7}, {}, "dict_size 7 is not read: its weights have 20"),
        ("AutoEncoder", {"a_new_setting": 1}, {}, "a_new_setting 1 is not read"),
        ("AutoEncoderTopK", {"k": 5}, {}, "k 5 is not read: its weights have 4"),
        ("AutoEncoderTopK", {"k": 0}, {}, "k 0 is not read"),
        ("AutoEncoder", {}, {"io": "in_and_out"}, "io 'in_and_out' is not read: it is a transcoder"),
        ("AutoEncoder", {}, {"rescale_acts": True}, "rescale_acts True is not read"),
        ("AutoEncoder", {"dict_class": "AutoEncoderNew"}, {}, "a tensor bias (6,) is not read"),
    ],
)
def test_what_is_not_known_to_be_harmless_is_refused_by_name(
    tmp_path: Path, name: str, trainer: Any, buffer: Any, told: str
) -> None:
    with pytest.raises(CircuitryError, match=re.escape(told)):
        converted(written(tmp_path / "old", name, WEIGHTS[name], trainer, buffer))
    assert not (tmp_path / "converted").exists()


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_tensor_that_is_missing_or_of_another_shape_is_refused(tmp_path: Path, name: str) -> None:
    for missing in WEIGHTS[name].keys() - {"k", "group_sizes", *(["threshold"] if name == "AutoEncoderTopK" else [])}:
        rest = {key: value for key, value in WEIGHTS[name].items() if key != missing}
        with pytest.raises(CircuitryError, match=f"without {missing} is not read"):
            converted(written(tmp_path / "old", name, rest))
        with pytest.raises(CircuitryError):
            converted(written(tmp_path / "old", name, {**rest, missing: torch.zeros(3, 3)}))


class Runs:
    """Code in a pickle."""

    def __reduce__(self) -> Any:
        return print, ("this must not be run",)


def test_code_in_the_pickle_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "old", "AutoEncoder", WEIGHTS["AutoEncoder"])
    torch.save({"bias": Runs()}, folder / "ae.pt")
    with pytest.raises(CircuitryError, match="none of its code was run"):
        converted(folder)
    assert "must not" not in capsys.readouterr().out


def test_loading_the_pickle_names_the_command(tmp_path: Path) -> None:
    folder = written(tmp_path / "old", "AutoEncoder", WEIGHTS["AutoEncoder"])
    with pytest.raises(CircuitryError, match="is a pickle and is not loaded; `circuitry convert"):
        SAE.load(folder)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(CircuitryError, match="expected settings by name, got list"):
        converted(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CircuitryError, match=r"config\.json cannot be read"):
        converted(folder)


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "old", "GatedAutoEncoder", WEIGHTS["GatedAutoEncoder"])
    cli.app(["convert", str(folder), str(tmp_path / "new")], standalone_mode=False)
    said = capsys.readouterr().out
    assert "dictionary_learning weights" in said and "jumprelu autoencoder, 0.00M parameters, float32\n" in said
    assert SAE.load(tmp_path / "new").config.kind == "jumprelu"


PLACES = {
    "AutoEncoderTopK": "dictionary_learning.trainers.top_k",
    "BatchTopKSAE": "dictionary_learning.trainers.batch_top_k",
    "MatryoshkaBatchTopKSAE": "dictionary_learning.trainers.matryoshka_batch_top_k",
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_dictionary_learning_computes_the_same(tmp_path: Path, name: str) -> None:
    """It needs nnsight 0.3 for other things; ``pip install --no-deps dictionary-learning einops`` is enough for this test."""
    pytest.importorskip("dictionary_learning", reason="dictionary-learning in an environment of its own")
    theirs = getattr(import_module(PLACES.get(name, "dictionary_learning.dictionary")), name)
    folder = written(tmp_path / "old", name, WEIGHTS[name])
    options = {"k": K} if "k" in WEIGHTS[name] else {}
    made = theirs.from_pretrained(folder / "ae.pt", **options)
    sae, features = converted(folder), made.encode(X)
    torch.testing.assert_close(sae.encode(X), features, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(sae(X)[0], made(X), atol=1e-4, rtol=1e-5)
    assert 0 < features.count_nonzero() < features.numel()
    torch.save(made.state_dict(), folder / "ae.pt")  # what the library itself writes
    torch.testing.assert_close(SAE.load(ct.convert(folder, tmp_path / "again").folder)(X)[0], made(X), atol=1e-4, rtol=1e-5)
