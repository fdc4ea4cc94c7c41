"""Files of other libraries compute here what their authors' code computes; a setting that may change that is refused by name.

The authors' functions are written out below in a few lines of torch, from their definitions, and share no code with ours.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from circuitry.autoencoders import load
from circuitry.errors import CircuitryError

WIDTH, FEATURES, K = 6, 20, 4
Weights = dict[str, Tensor]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = 3 * drawn(50, WIDTH, seed=9)
W = {"W_enc": drawn(WIDTH, FEATURES, seed=1), "b_enc": drawn(FEATURES, seed=2), "b_dec": drawn(WIDTH, seed=3)}
W["W_dec"] = drawn(FEATURES, WIDTH, seed=4) * torch.linspace(0.2, 3, FEATURES)[:, None]  # directions of unequal norms
THRESHOLD = drawn(FEATURES, seed=5).abs() + 0.5


def written(folder: Path, settings: Any, weights: Weights, name: str = "cfg.json") -> Path:
    (folder / name).write_text(json.dumps(settings))
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / "sae_weights.safetensors")
    return folder


def activated(before: Tensor, kind: str, threshold: Tensor | float) -> Tensor:
    """relu, topk or jumprelu, one token after another."""
    made = torch.zeros_like(before)
    for token, row in enumerate(before):
        keep = {"relu": row > 0, "jumprelu": row > threshold, "topk": row >= row.sort(descending=True).values[K - 1]}[kind]
        made[token] = torch.where(keep & (row > 0), row, 0)
    return made


def same(folder: Path, features: Tensor, made: Tensor) -> None:
    found = load(folder)
    torch.testing.assert_close(found.encode(X), features, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(found(X)[0], made, atol=1e-4, rtol=1e-5)
    assert 0 < features.count_nonzero() < features.numel()


# --- OpenMOSS ----------------------------------------------------------------------------------------------------------------


def openmoss(
    x: Tensor, kind: str, threshold: Tensor | float, came: float, went: float, ranked: bool, bias: float, centred: bool
) -> Any:
    """Language-Model-SAEs, as it loads a file: the scale goes into b_enc and the decoder, then directions get norm 1."""
    into, out = math.sqrt(WIDTH) / came, math.sqrt(WIDTH) / went
    decoder, b_dec = W["W_dec"] * into / out, bias * W["b_dec"] / out
    norm = decoder.norm(dim=1) if ranked else torch.ones(FEATURES)
    features = activated(((x - b_dec * centred) @ W["W_enc"] + W["b_enc"] / into) * norm, kind, threshold)
    return features, features @ (decoder / norm[:, None]) + b_dec


def moss(later: bool = False, bias: bool = True) -> Weights:
    if later:
        found = {"W_E": W["W_enc"], "b_E": W["b_enc"], "W_D": W["W_dec"], "b_D": W["b_dec"]}
    else:
        found = {"encoder.weight": W["W_enc"].T, "decoder.weight": W["W_dec"].T}
        found |= {"encoder.bias": W["b_enc"], "decoder.bias": W["b_dec"]}
    return {name: value for name, value in found.items() if bias or name not in ("b_D", "decoder.bias")}


LLAMA_SCOPE = {
    "hook_point_in": "blocks.15.hook_resid_post", "hook_point_out": "blocks.15.hook_resid_post", "use_decoder_bias": True,
    "apply_decoder_bias_to_pre_encoder": False, "expansion_factor": 8, "d_model": WIDTH, "d_sae": FEATURES,
    "bias_init_method": "all_zero", "act_fn": "jumprelu", "jump_relu_threshold": 0.5, "norm_activation": "dataset-wise",
    "dataset_average_activation_norm": {"in": 7.0, "out": 7.0}, "decoder_exactly_fixed_norm": False,
    "sparsity_include_decoder_norm": True, "use_glu_encoder": False, "init_decoder_norm": 0.5, "init_encoder_norm": None,
    "init_encoder_with_decoder_transpose": True, "lp": 1, "l1_coefficient": 8e-05, "l1_coefficient_warmup_steps": 39062,
    "top_k": K, "initial_k": 1.5, "k_warmup_steps": 39062, "use_batch_norm_mse": True, "use_ghost_grads": False, "tp_size": 1,
    "ddp_size": 1, "device": "cuda:0", "seed": 42, "dtype": "torch.bfloat16",
}  # fmt: skip
"""The settings of a released file, by name; the sizes are ours."""


def test_the_threshold_of_a_llama_scope_file_is_one_of_activations_as_they_are(tmp_path: Path) -> None:
    """At s = 40 the same number, taken as one of scaled activations, lets through several times as many features."""
    norm = math.sqrt(WIDTH) / 40
    settings = {**LLAMA_SCOPE, "dataset_average_activation_norm": {"in": norm, "out": norm}, "jump_relu_threshold": 60.0}
    features, made = openmoss(X, "jumprelu", 60.0, norm, norm, True, 1, False)
    same(written(tmp_path, settings, moss(), "hyperparams.json"), features, made)
    scaled = (40 * X @ W["W_enc"] + W["b_enc"]) * W["W_dec"].norm(dim=1)
    assert int((scaled > 60.0).sum()) > 2 * int((features > 0).sum()), "the two readings differ"
    assert torch.equal(features > 0, scaled > 40 * 60.0)


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("kind", ["relu", "topk", "jumprelu"])
@pytest.mark.parametrize(("ranked", "bias", "centred"), list(itertools.product([True, False], repeat=3)))
def test_an_openmoss_file_computes_what_its_authors_code_does(
    tmp_path: Path, kind: str, later: bool, ranked: bool, bias: bool, centred: bool
) -> None:
    """Mean norms differ before and after, which is where a mistake would show."""
    settings = LLAMA_SCOPE | {"act_fn": kind.upper() if later else kind, "sparsity_include_decoder_norm": ranked}
    settings |= {"use_decoder_bias": bias, "jump_relu_threshold": 0.5 if kind == "jumprelu" else 0.0}
    settings |= {"apply_decoder_bias_to_pre_encoder": centred and not later}
    weights, hook = moss(later, bias), settings["hook_point_in"]
    if later:
        del settings["dataset_average_activation_norm"]
        weights[f"dataset_average_activation_norm.{hook}"] = torch.tensor(7.0)
    else:
        settings["dataset_average_activation_norm"] = {"in": 7.0, "out": 5.0}
    expected = openmoss(X, kind, 0.5, 7.0, 7.0 if later else 5.0, ranked, bias, centred and not later)
    same(written(tmp_path, settings, weights, "config.json" if later else "hyperparams.json"), *expected)


@pytest.mark.parametrize("scheme", ["none", "inference"])
def test_an_openmoss_file_without_a_scale_has_none_whatever_norm_stands_in_it(tmp_path: Path, scheme: str) -> None:
    weights = {**moss(True), "activation_function.log_jumprelu_threshold": THRESHOLD.log()}
    weights["dataset_average_activation_norm.h"] = torch.tensor(7.0)
    settings = LLAMA_SCOPE | {"norm_activation": scheme}
    same(written(tmp_path, settings, weights), *openmoss(X, "jumprelu", THRESHOLD, 6**0.5, 6**0.5, True, 1, False))


# --- SAELens and sparsify ----------------------------------------------------------------------------------------------------

SIX = {"metadata": {"sae_lens_version": "6.1.0"}, "d_in": WIDTH, "d_sae": FEATURES, "dtype": "float32", "device": "cuda"}
OLD = {
    "d_in": WIDTH,
    "d_sae": FEATURES,
    "hook_name": "blocks.3.hook_resid_post",
    "model_name": "gpt2",
    "lr": 0.1,
    "prepend_bos": True,
}
ONES = {"scaling_factor": torch.ones(FEATURES)}


@pytest.mark.parametrize("centred", [None, False, True])
@pytest.mark.parametrize(
    ("settings", "kind", "more"),
    [
        ({**SIX, "architecture": "standard", "normalize_activations": "none", "reshape_activations": "none"}, "relu", {}),
        ({**SIX, "architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": False}, "topk", {}),
        ({**SIX, "architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": True}, "topk by share", {}),
        ({**SIX, "architecture": "jumprelu"}, "jumprelu", {"threshold": THRESHOLD}),
        ({**OLD, "activation_fn_str": "relu", "normalize_activations": False, "finetuning_scaling_factor": False}, "relu", ONES),
        ({**OLD, "activation_fn": "topk", "activation_fn_kwargs": {"k": K}, "normalize_activations": "none"}, "topk", {}),
        ({**OLD, "model_from_pretrained_kwargs": {"center_writing_weights": False}, "scaling_factor": 1.0}, "relu", {}),
    ],
)
def test_a_sae_lens_file_computes_what_sae_lens_does(
    tmp_path: Path, settings: Any, kind: str, more: Weights, centred: bool | None
) -> None:
    """Without apply_b_dec_to_input b_dec is subtracted, in every version."""
    told = {} if centred is None else {"apply_b_dec_to_input": centred}
    norm = W["W_dec"].norm(dim=1) if kind == "topk by share" else torch.ones(FEATURES)
    before = (X - W["b_dec"] * (centred is not False)) @ W["W_enc"] + W["b_enc"]
    features = activated(before * norm, kind.split()[0], THRESHOLD)
    same(written(tmp_path, settings | told, W | more), features, features @ (W["W_dec"] / norm[:, None]) + W["b_dec"])


COARSE = {"encoder.weight": W["W_enc"].T, "encoder.bias": W["b_enc"], "W_dec": W["W_dec"], "b_dec": W["b_dec"]}
SPARSIFY = {"activation": "topk", "expansion_factor": 32, "normalize_decoder": True, "num_latents": 0, "k": K, "d_in": WIDTH}
SPARSIFY |= {"multi_topk": False, "skip_connection": False, "transcode": False}


@pytest.mark.parametrize("more", [{}, {"signed": False}, {"num_latents": FEATURES, "multi_topk": True}])
def test_a_sparsify_file_computes_what_sparsify_does(tmp_path: Path, more: dict[str, Any]) -> None:
    features = activated((X - W["b_dec"]) @ W["W_enc"] + W["b_enc"], "topk", 0)
    same(written(tmp_path, SPARSIFY | more, COARSE), features, features @ W["W_dec"] + W["b_dec"])


# --- what is refused ---------------------------------------------------------------------------------------------------------

STANDARD = {**SIX, "architecture": "standard"}
TOPK = {**SIX, "architecture": "topk", "k": K}
MISSING = object()
ODD = [0, -1, FEATURES + 1, 8.0, float("nan"), True, "4", None, MISSING]
REFUSED: list[tuple[dict[str, Any], Weights, str, Any]] = [
    *((STANDARD, W, "architecture", value) for value in ("gated", "batchtopk", "transcoder", "temporal", 3, None)),
    *((STANDARD, W, "activation_fn", value) for value in ("tanh-relu", "gelu", None)),
    (OLD, W, "activation_fn_str", "tanh-relu"),
    (OLD, W, "activation_fn_kwargs", {"k": 4}),
    ({**OLD, "activation_fn": "topk"}, W, "k", MISSING),
    ({**TOPK, "activation_fn_kwargs": {"k": 5}}, W, "k", 4),
    *((STANDARD, W, "normalize_activations", value) for value in ("layer_norm", "constant_norm_rescale", "expected_average_only_in")),
    (OLD, W, "normalize_activations", True),
    (OLD, W, "finetuning_scaling_factor", True),
    (STANDARD, W, "scaling_factor", 0.5),
    (STANDARD, W, "reshape_activations", "hook_z"),
    (OLD, W, "hook_name", "blocks.3.attn.hook_z"),
    *((STANDARD, W, "apply_b_dec_to_input", value) for value in (1, "false", None)),
    (STANDARD, W, "rescale_acts_by_decoder_norm", True),
    (STANDARD, W, "k", 4),
    *((STANDARD, W, "d_sae", value) for value in (MISSING, 7, 20.0, True, None, "20")),
    *((STANDARD, W, "d_in", value) for value in (MISSING, 7, 6.0, -6)),
    (OLD, W, "model_from_pretrained_kwargs", {"center_writing_weights": True}),
    (STANDARD, W, "is_transcoder", True),
    (STANDARD, W, "a_new_setting", 1),
    *((TOPK, W, "k", value) for value in ODD),
    *((SPARSIFY, COARSE, "k", value) for value in ODD),
    *((SPARSIFY, COARSE, "activation", value) for value in ("groupmax", "jumprelu", None)),
    *((SPARSIFY, COARSE, name, True) for name in ("signed", "transcode", "skip_connection", "normalize_io", "matryoshka")),
    *((SPARSIFY, COARSE, "num_latents", value) for value in (7, 20.5, -1, "20")),
    *((SPARSIFY, COARSE, name, 7) for name in ("d_in", "d_sae")),
    *((LLAMA_SCOPE, moss(), "norm_activation", value) for value in ("token-wise", "batch-wise", True, None, MISSING)),
    *((LLAMA_SCOPE, moss(), "jump_relu_threshold", value) for value in (-0.5, float("nan"), True, None, MISSING)),
    *((LLAMA_SCOPE, moss(), "act_fn", value) for value in ("batchtopk", "gelu", None)),
    *(({**LLAMA_SCOPE, "act_fn": kind}, moss(), "jump_relu_threshold", 0.5) for kind in ("topk", "relu")),
    *(({**LLAMA_SCOPE, "act_fn": "topk", "jump_relu_threshold": 0.0}, moss(), "top_k", value) for value in ODD),
    *((LLAMA_SCOPE, moss(), name, True) for name in ("use_glu_encoder", "force_unit_decoder_norm", "circuit_tracing_mode")),
    *((LLAMA_SCOPE, moss(), "sae_type", value) for value in ("crosscoder", "clt", "lorsa", "molt")),
    *((LLAMA_SCOPE, moss(), "sparsity_include_decoder_norm", value) for value in (1, None)),
    (LLAMA_SCOPE, moss(), "use_decoder_bias", False),
    (LLAMA_SCOPE, moss(bias=False), "decoder.bias", MISSING),
    (LLAMA_SCOPE, moss(), "hook_point_out", "blocks.15.hook_mlp_out"),
    (LLAMA_SCOPE, moss(True), "apply_decoder_bias_to_pre_encoder", True),
    *((LLAMA_SCOPE, moss(), name, 7) for name in ("d_model", "d_sae")),
    *(
        (LLAMA_SCOPE, moss(), "dataset_average_activation_norm", value)
        for value in (MISSING, None, {}, [7.0], {"in": [7.0]}, {"other": 7.0}, {"in": 0.0, "out": 0.0}, {"in": 7.0, "out": 7.0, "third": 1.0})
    ),
]  # fmt: skip


def name_of(case: Any) -> str:
    settings, _, name, value = case
    layout = "SAELens" if "d_in" in settings and settings is not SPARSIFY else "sparsify" if settings is SPARSIFY else "OpenMOSS"
    return f"{layout}: {name} {'missing' if value is MISSING else value}"


@pytest.mark.parametrize("case", REFUSED, ids=name_of)
def test_what_is_not_known_to_be_harmless_is_refused_by_name(tmp_path: Path, case: Any) -> None:
    settings, weights, name, value = case
    given = {key: old for key, old in settings.items() if key != name} | ({} if value is MISSING else {name: value})
    with pytest.raises(CircuitryError) as caught:
        load(written(tmp_path, given, weights))
    told = str(caught.value)
    assert "\n" not in told and (name in told or "k from 1 to 20" in told or "weights of this relu SAE" in told)


@pytest.mark.parametrize("settings, weights", [(STANDARD, W), (SPARSIFY, COARSE), (LLAMA_SCOPE, moss())])  # fmt: skip
def test_a_tensor_that_is_left_over_or_missing_is_refused_by_name(tmp_path: Path, settings: Any, weights: Weights) -> None:
    with pytest.raises(CircuitryError, match=r"a tensor scaling_factor \(20,\) is not read"):
        load(written(tmp_path, settings, {**weights, "scaling_factor": torch.full((FEATURES,), 0.5)}))
    first = next(iter(weights))
    for missing in set(weights) - {"W_enc", "W_dec", "encoder.weight", "decoder.weight"}:
        with pytest.raises(CircuitryError, match=f"without {missing} is not read"):
            load(written(tmp_path, settings, {name: value for name, value in weights.items() if name != missing}))
    for shape in ((3, 3), (3,), (2, 3, 4), ()):
        with pytest.raises(CircuitryError):
            load(written(tmp_path, settings, {**weights, first: torch.zeros(shape)}))


def test_thresholds_whose_unit_is_not_told_are_refused(tmp_path: Path) -> None:
    weights = {**moss(True), "activation_function.log_jumprelu_threshold": THRESHOLD.log()}
    with pytest.raises(CircuitryError, match="fold_activation_scale=True, which says which"):
        load(written(tmp_path, LLAMA_SCOPE, weights))


@pytest.mark.parametrize(("name", "data"), [("cfg.json", b"{"), ("cfg.json", b"[1]"), ("sae_weights.safetensors", b"half")])
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, data: bytes) -> None:
    written(tmp_path, STANDARD, W)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CircuitryError, match=f"{name}( cannot be read|: expected settings by name)"):
        load(tmp_path)
