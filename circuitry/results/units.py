"""What effects are measured in, and which of these units have no negative values."""

from __future__ import annotations

KL = "KL divergence from the base run, nats"
DISTANCE = "L2 distance from the base run"
"""What is reported where a path ends at a node that is not the logits."""
SEVERAL = "change of the metric, each in its own unit"
"""The unit of a table of several metrics; ``about["units"]`` has each metric's own."""
_NEVER_NEGATIVE = frozenset((KL, DISTANCE))


def signed(unit: str) -> bool:
    """Whether an effect in this unit can be negative. Where it cannot, its mean is above zero without meaning anything by that.

    >>> signed("change of the answer's logit"), signed(KL), signed(DISTANCE)
    (True, False, False)
    """
    return unit not in _NEVER_NEGATIVE
