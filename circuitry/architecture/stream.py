"""What every architecture has: the residual stream from the embedding to the logits."""

from __future__ import annotations

from .families import Family, Place

LOGITS = Family("logits", (), "batch pos vocab", "next-token logits", Place(""), role="logits", freezable=())
"""What the model returns, not what its output layer does: some scale, cap or cast the logits after it."""


def stream(embed: str, layers: str, final_norm: str, middle: str = "") -> tuple[Family, ...]:
    """The families ``embed`` and ``resid``, and ``resid_mid`` if a layer has two blocks: ``middle`` is the norm before the second.

    ``embed``, ``layers`` (a template) and ``final_norm`` name modules, ``middle`` one inside a layer.

    >>> [family.name for family in stream("backbone.embeddings", "backbone.layers.{layer}", "backbone.norm_f")]
    ['embed', 'resid']
    """
    ends = (
        Family("embed", (), "batch pos d_model", "token embedding", Place(embed), role="embed"),
        Family(
            "resid", ("layer",), "batch pos d_model", "residual stream before a layer; the last index is after all layers",
            Place(layers, "input", end=final_norm), role="resid",
        ),
    )  # fmt: skip
    if not middle:
        return ends
    place = Place(f"{layers}.{middle}", "input")
    return *ends, Family("resid_mid", ("layer",), "batch pos d_model", "residual stream before the MLP", place, role="resid")
