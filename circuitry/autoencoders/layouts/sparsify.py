"""Files of sparsify: topk, with b_dec subtracted first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..sae import SAE, SAEConfig
from .settings import Settings, chosen

FILE = "a sparsify file"
# Used in training only: directions of norm 1 have that norm in the file, and the second k of multi_topk is in the loss only.
_TRAINING = "normalize_decoder multi_topk expansion_factor"


def read(given: Mapping[str, Any], weights: Mapping[str, Tensor]) -> SAE:
    """An SAE from the settings of ``cfg.json`` and the tensors of ``sae.safetensors``."""
    settings = Settings(FILE, given)
    for name in ("transcode", "skip_connection"):
        settings.only(name, False, None, why="it is a transcoder, which does not reconstruct its input")
    settings.only("signed", False, None, why="its features can be negative")
    settings.only("activation", "topk", why="topk is")
    wanted = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
    tensors = chosen(FILE, weights, wanted)
    features, width = tensors["W_dec"].shape
    settings.size("d_in", width)
    settings.size("d_sae", features)
    if settings.take("num_latents", 0) not in (0, features):  # 0: as many as expansion_factor says
        raise settings.refuse("num_latents", given["num_latents"], f"its weights have {features}")
    settings.harmless(_TRAINING)
    k = settings.whole("k")
    settings.done()
    config = SAEConfig(width, features, "topk", k, True, {"from": "sparsify", **given})
    return SAE.of(config, {**tensors, "W_enc": tensors["W_enc"].T})
