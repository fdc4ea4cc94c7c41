"""Claims about circuits that check themselves: ``check`` measures what a claims file says, and gives a verdict on each claim."""

from __future__ import annotations

from .checking import check
from .reading import read
from .result import Checked, CheckedClaims
from .values import Bound, Claim, Claims, ModelName, Quantity, Seeds, Source, TaskName, Verdict
from .writing import claims_of

__all__ = [
    "Bound",
    "Checked",
    "CheckedClaims",
    "Claim",
    "Claims",
    "ModelName",
    "Quantity",
    "Seeds",
    "Source",
    "TaskName",
    "Verdict",
    "check",
    "claims_of",
    "read",
]
