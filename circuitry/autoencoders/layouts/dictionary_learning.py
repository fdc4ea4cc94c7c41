"""Files of dictionary_learning: ``ae.pt``, a pickle that ``circuitry convert`` reads, and ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...errors import CircuitryError, suggest
from ..sae import SAE, SAEConfig
from .settings import Settings, chosen

FILE = "a dictionary_learning file"
_LINEAR = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec"}
_MATRICES = {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec", "threshold": "threshold"}
_GATED = {"r_mag": "r_mag", "gate_bias": "gate_bias", "mag_bias": "mag_bias"}
CLASSES: Mapping[str, tuple[str, bool, Mapping[str, str]]] = {
    "AutoEncoder": ("relu", True, {**_LINEAR, "bias": "b_dec"}),
    "AutoEncoderNew": ("relu", False, {**_LINEAR, "decoder.bias": "b_dec"}),
    "GatedAutoEncoder": (
        "jumprelu",
        True,
        {"encoder.weight": "W_enc", "decoder.weight": "W_dec", "decoder_bias": "b_dec", **_GATED},
    ),
    "JumpReluAutoEncoder": ("jumprelu", False, _MATRICES),
    "AutoEncoderTopK": ("topk", True, {**_LINEAR, "b_dec": "b_dec"}),
    "BatchTopKSAE": ("jumprelu", True, {**_LINEAR, "b_dec": "b_dec", "threshold": "threshold"}),
    "MatryoshkaBatchTopKSAE": ("jumprelu", True, _MATRICES),
}
"""By its class: our kind, whether the decoder's bias is subtracted first, and our names of its tensors."""

# Of what the autoencoder is, and on which device.
_ORIGIN = "trainer_class layer lm_name submodule_name wandb_name device"
# How it was trained. Activations divided by norm_factor in the training are undone in the biases before the file is written.
_TRAINING = """lr steps auxk_alpha warmup_steps decay_start threshold_beta threshold_start_step top_k_aux seed group_fractions
group_sizes group_weights l1_penalty resample_steps sparsity_warmup_steps sparsity_function sparsity_penalty p_start p_end anneal_start
sparsity_queue_length n_sparsity_updates bandwidth target_l0 norm_factor"""
_BUFFER = "d_submodule n_ctxs ctx_len refresh_batch_size out_batch_size device layer"


def read(given: Mapping[str, Any], weights: Mapping[str, Tensor]) -> SAE:
    """An SAE from the settings of ``config.json`` and the tensors of ``ae.pt``.

    The class in the settings says which function the tensors have, as in the library's ``load_dictionary``. It also divides
    the directions of an AutoEncoder by their norms, and multiplies features by them. A batch's top k are not those of a token, so
    features of these classes are kept above their stored threshold, as the library does by default.
    """
    settings = Settings(FILE, given)
    trainer = settings.inside("trainer")
    name = trainer.take("dict_class")
    if name not in CLASSES:
        raise trainer.refuse("dict_class", name, suggest(str(name), CLASSES))
    kind, centred, names = CLASSES[name]
    weights = dict(weights)
    k = _k(trainer, weights, needed=name == "AutoEncoderTopK")
    weights.pop("group_sizes", None)  # of nested dictionaries, which matter in the training only
    if name == "AutoEncoderTopK":
        weights.pop("threshold", None)  # used only on request: by default every token keeps its k greatest
    elif name in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE") and "threshold" in weights and not weights["threshold"].ndim:
        weights["threshold"] = weights["threshold"].expand(len(weights.get("encoder.bias", weights.get("b_enc", ()))))
    tensors = chosen(FILE, weights, names)
    if "encoder.weight" in names:
        tensors |= {name: tensors[name].T for name in ("W_enc", "W_dec")}
    tensors = _ungated(tensors) if name == "GatedAutoEncoder" else tensors
    features, width = tensors["W_dec"].shape
    trainer.size("activation_dim", width)
    trainer.size("dict_size", features)
    _buffer(settings)
    for harmless in (_ORIGIN, _TRAINING):
        trainer.harmless(harmless)
    trainer.done()
    settings.done()
    config = SAEConfig(width, features, kind, k if kind == "topk" else None, centred, {"from": "dictionary_learning", **given})
    sae = SAE.of(config, tensors)
    return sae.unit() if name == "AutoEncoder" else sae


def _k(trainer: Settings, weights: dict[str, Tensor], *, needed: bool) -> int | None:
    """k of the settings, and of the tensors if they have it."""
    k: int | None = trainer.whole("k", *([] if needed else [None]))
    stored = weights.pop("k").item() if "k" in weights and weights["k"].numel() == 1 else None
    if stored is not None and k is not None and stored != k:
        raise trainer.refuse("k", k, f"its weights have {stored}")
    return k


def _ungated(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A gated autoencoder as the jumprelu that computes the same.

    With z = (x - b_dec) W_enc, a feature is relu(e^r z + b_mag) where z + b_gate > 0, that is where e^r z + b_mag > b_mag - e^r b_gate.
    """
    sizes = {name: tuple(tensors[name].shape) for name in _GATED}
    if any(size != (tensors["W_enc"].shape[1],) for size in sizes.values()):
        raise CircuitryError(f"{FILE} with {tensors['W_enc'].shape[1]} features is not read: its gates are {sizes}")
    grown, gate, magnitude = (tensors[name].float() for name in _GATED)
    grown = grown.exp()
    weights = {name: value for name, value in tensors.items() if name not in _GATED}
    return {**weights, "W_enc": tensors["W_enc"].float() * grown, "b_enc": magnitude, "threshold": magnitude - grown * gate}


def _buffer(settings: Settings) -> None:
    """The activations on which it was trained. Raises CircuitryError for a transcoder, and for activations that were changed."""
    buffer = settings.inside("buffer")
    buffer.only("io", "out", "in", why="it is a transcoder, whose decoder's bias is subtracted from another node's value")
    buffer.harmless(_BUFFER)
    buffer.done()
