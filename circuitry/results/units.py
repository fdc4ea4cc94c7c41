"""What effects are measured in, and which of these units have no negative values."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

KL = "KL divergence from the base run, nats"
DISTANCE = "L2 distance from the base run"
"""What is reported where a path ends at a node that is not the logits."""
SEVERAL = "change of the metric, each in its own unit"
"""The unit of a table of several metrics; ``about["units"]`` has each metric's own."""
_NEVER_NEGATIVE = (KL, DISTANCE)
"""Those of tables that do not say so themselves: tables of old, and tables made by hand."""


def signed(unit: str, provenance: Mapping[str, Any] = MappingProxyType({})) -> bool:
    """Whether an effect in this unit can be negative. Where it cannot, its mean is above zero without meaning anything by that.

    ``provenance`` is the record of the table, which says what its metrics said of themselves.

    >>> signed("change of the answer's logit"), signed(KL), signed("entropy", {"never_negative": ["entropy"]})
    (True, False, False)
    """
    return unit not in provenance.get("never_negative", _NEVER_NEGATIVE)
