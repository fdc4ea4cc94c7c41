"""What effects are measured in, and which of these units have no negative values."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

KL = "KL divergence from the base run, nats"
DISTANCE = "L2 distance from the base run"
"""What is reported if a path does not end at the logits."""
LATENT = "change of the latent"
"""What is reported if a path ends at one latent."""
SEVERAL = "change of the metric, each in its own unit"
"""The unit of a table of several metrics; ``provenance["units"]`` has each metric's own."""
_NEVER_NEGATIVE = (KL, DISTANCE)
"""Assumed for tables whose record does not say: old tables, and tables made by hand."""


def signed(unit: str, provenance: Mapping[str, Any] = MappingProxyType({})) -> bool:
    """Whether an effect in this unit can be negative. If it cannot, a mean above zero is not evidence.

    ``provenance`` is the record of the table, with what its metrics declare.

    >>> signed("change of the answer's logit"), signed(KL), signed("entropy", {"never_negative": ["entropy"]})
    (True, False, False)
    """
    return unit not in provenance.get("never_negative", _NEVER_NEGATIVE)
