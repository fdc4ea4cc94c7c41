"""TopK: each token keeps its k greatest features, without a penalty."""

from __future__ import annotations

from .objective import Objective


class TopK(Objective):
    """Gao et al. (2024), "Scaling and evaluating sparse autoencoders"."""

    name, reads, function = "topk", ("k", "auxiliary"), "topk"
