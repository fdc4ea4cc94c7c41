"""What an autoencoder shows in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..html.output import details, facts, heading, table

if TYPE_CHECKING:
    from .sae import SAE


def of_sae(sae: SAE) -> Iterator[Markup]:
    """Sizes and kind of an autoencoder, and the labels of its latents.

    >>> from circuitry.autoencoders import SAE, SAEConfig
    >>> "<dt>latents</dt><dd>16</dd>" in "".join(of_sae(SAE(SAEConfig(4, 16))))
    True
    """
    config = sae.config
    yield heading("transcoder" if config.transcodes else "sparse autoencoder", config.provenance.get("node", ""))
    yield facts([
        ("kind", config.kind),
        ("k", config.k or ""),
        ("width", config.width),
        ("latents", f"{config.features:,}"),
        ("predicts", f"{config.target or 'another node'}, width {config.target_width}" if config.transcodes else ""),
        ("model", config.provenance.get("model", "")),
        ("labels", len(sae.labels) or ""),
    ])  # fmt: skip
    if sae.labels:
        yield details("labels", table(["latent", "label"], sorted(sae.labels.items())))
