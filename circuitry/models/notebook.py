"""What a model shows in a notebook: its sizes, and where and how it is held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..html.output import facts, heading

if TYPE_CHECKING:
    from .model import Model


def of_model(model: Model) -> Iterator[Markup]:
    """The facts about a model; of one that was released, only its name and its graph.

    >>> import circuitry as ct
    >>> "<dt>dtype</dt><dd>float32</dd>" in "".join(of_model(ct.load("bundled:mamba")))
    True
    """
    sizes = [(name, size) for name, size in model.graph.sizes.items() if size]
    if model.released:
        yield heading(model.name, "released; load it again")
        yield facts([("architecture", model.graph.name), *sizes])
        return
    yield heading(model.name, f"{model.parameters:,} parameters")
    tokenizer = f"{len(model.tokenizer):,} tokens" if model.tokenizer is not None else "none"
    yield facts([
        ("architecture", model.graph.name),
        *sizes,
        ("nodes", f"{len(model.graph.nx):,}"),
        ("dtype", str(model.dtype).removeprefix("torch.")),
        ("device", model.device),
        ("tokenizer", tokenizer),
        ("longest prompt", model.positions or "any length"),
        ("autoencoders", ", ".join(f"{node}: {sae.config.features:,} latents" for node, sae in model.saes.items())),
    ])  # fmt: skip
