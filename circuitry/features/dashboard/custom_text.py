"""Features on a custom text: those that fire most on it, and what given ones do on each of its tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...architecture.terms import Terms
from ...errors import CircuitryError, several, whole
from ...executing.activations import read
from ...html.page import render
from ...paths.parse import parse_node
from ...paths.terms import LATENT
from ...paths.values import Node
from ...store.files import write_whole
from ..activations.corpus import special_ids
from .tokens import readable

if TYPE_CHECKING:
    from .fires import Floats
    from .source import Source

TOP = 10
"""Features of each node that are shown: those with the highest activations."""


@dataclass(frozen=True)
class OnText:
    """One feature on a text: its name as in paths, ``resid[2].latent[17]``, and its activation on each token.

    ``asked``: it was asked for, and may not be among those that fire most.
    """

    name: str
    values: tuple[float, ...]
    asked: bool = False

    @property
    def top(self) -> float:
        """Its highest activation."""
        return max(self.values)


@dataclass(frozen=True)
class TextFeatures:
    """The features of a model on a text. ``tokens`` are the text's, without special ones; ``features`` by falling activation."""

    model: str
    tokens: tuple[str, ...]
    features: tuple[OnText, ...]

    def text(self) -> str:
        """The features, for a terminal: those asked for with every token, the others with the tokens that they fire on.

        >>> print(TextFeatures("m", (" a", "b"), (OnText("resid[1].latent[7]", (0.0, 2.5)),)).text())
        features of m on 2 tokens
          resid[1].latent[7]  'b' 2.5
        """
        lines = [f"features of {self.model} on {len(self.tokens)} tokens"]
        for feature in self.features:
            pairs = [(token, value) for token, value in zip(self.tokens, feature.values, strict=True) if value or feature.asked]
            lines.append(f"  {feature.name}  " + ", ".join(f"{token!r} {value:.3g}" for token, value in pairs))
        return "\n".join(lines)


def text_features(source: Source, text: str, *, top: int = TOP, features: Iterable[str | Node] = ()) -> TextFeatures:
    """The ``top`` features of each node that are most active on a text, and given ``features``, such as ``resid[2].latent[17]``.

    Activations on special tokens, such as that of the beginning, do not count. Raises CircuitryError for a model without a
    tokenizer, an empty text or one too long for the model, and a feature that does not exist.

    >>> import circuitry as ct
    >>> from circuitry.features.dashboard import Source
    >>> from circuitry.features.sae import SAE, SAEConfig
    >>> source = Source(ct.load("bundled:mamba"), {"resid[2]": SAE(SAEConfig(128, 256))})
    >>> found = text_features(source, " and Mary", top=3, features=["resid[2].latent[17]"])
    >>> len(found.tokens), len([feature for feature in found.features if not feature.asked])
    (2, 3)
    """
    whole("top", top, 0)
    model = source.model
    if model.tokenizer is None:
        raise CircuitryError(f"{model.name} has no tokenizer, so it cannot read a text")
    front, ids = list(model.vocabulary.front), model.vocabulary.encode(text)
    if not ids:
        raise CircuitryError("the text is empty; give some words")
    if model.positions is not None and len(front) + len(ids) > model.positions:
        raise CircuitryError(f"the text has {len(ids)} tokens, and {model.name} reads {model.positions - len(front)}")
    whole_text = np.array([front + ids], np.int64)
    used = np.flatnonzero(~np.isin(whole_text[0], special_ids(model.tokenizer)))
    saes = {model.graph.node(node): sae for node, sae in source.saes.items()}
    asked = _asked(features, {node: sae.config.features for node, sae in saes.items()})
    values = read(model, saes, whole_text)
    rows: list[OnText] = []
    for node, sae in saes.items():
        with torch.no_grad():
            x = values[node][0, torch.from_numpy(used)].flatten(1)
            active = sae.encode(x.to(sae.W_enc.device)).cpu().numpy().astype(np.float64)
        rows += _rows(node, active, asked.get(node, []), top)
    rows.sort(key=lambda row: (not row.asked, -row.top))
    return TextFeatures(model.name, tuple(readable(model.tokenizer)(int(whole_text[0, at])) for at in used), tuple(rows))


def _rows(node: Node, active: Floats, asked: Sequence[int], top: int) -> list[OnText]:
    """The features of one node that are shown, from activations [token, feature]."""
    highest = active.max(0, initial=0.0)
    most = [int(n) for n in np.argsort(-highest, kind="stable")[:top] if highest[n] > 0 and n not in asked]
    numbers = [(number, True) for number in asked] + [(number, False) for number in most]
    return [OnText(str(node.latent[number]), tuple(active[:, number].tolist()), wanted) for number, wanted in numbers]


def _asked(features: Iterable[str | Node], counts: dict[Node, int]) -> dict[Node, list[int]]:
    """The numbers of given features, by node. Raises CircuitryError for anything that is not a latent of one of the nodes."""
    numbers: dict[Node, list[int]] = {}
    for feature in several("features", features):
        node = parse_node(feature) if isinstance(feature, str) else feature
        number = node.term.number if node.term is not None and node.term.name == LATENT else None
        if number is None:
            raise CircuitryError(f"expected a feature, got {feature}; write its node and number as in resid[2].latent[17]")
        if node.host not in counts:
            known = ", ".join(map(str, counts))
            raise CircuitryError(f"{feature} needs an autoencoder of {node.host}; those given are of {known}")
        Terms(counts).check(node)
        numbers.setdefault(node.host, []).append(number)
    return numbers


def write_text_page(found: Sequence[TextFeatures], target: str | Path) -> Path:
    """Write a page with the features of one model or more on a text: every token with its activation; returns its path.

    >>> import tempfile
    >>> found = TextFeatures("m", (" a", "b"), (OnText("resid[1].latent[7]", (0.0, 2.5)),))
    >>> write_text_page([found], Path(tempfile.mkdtemp()) / "text.html").name
    'text.html'
    """
    file = Path(target)
    page = render("text.html", package=__package__, styles=("style.css", "text.css"), script="text.js", found=found)
    write_whole(file, page)
    return file
