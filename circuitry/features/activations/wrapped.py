"""An origin of activations around another: everything is the inner one's, but for what a subclass changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ...paths.values import Node
from .passes import Passes
from .stream import Origin


@dataclass(frozen=True, eq=False)
class Wrapped:
    """What a kind of origin shares with the ``origin`` that it wraps; a subclass has ``values``."""

    origin: Origin

    @property
    def passes(self) -> Passes:
        """The forward passes of the whole corpus."""
        return self.origin.passes

    @property
    def widths(self) -> Mapping[Node, int]:
        """Numbers of each node at one token."""
        return self.origin.widths

    @property
    def device(self) -> torch.device:
        """Where values are."""
        return self.origin.device

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the values depend on besides the corpus."""
        return self.origin.identity

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The model, for files."""
        return self.origin.provenance
