"""What SAEs of each kind learn, each kind in a file of its own. A new one is one file and one entry of ``OBJECTIVES``."""

from __future__ import annotations

from collections.abc import Mapping

from .batchtopk import BatchTopK
from .jumprelu import JumpReLU
from .matryoshka import Matryoshka
from .objective import Objective
from .relu import ReLU
from .topk import TopK

__all__ = ["OBJECTIVES", "Objective"]

OBJECTIVES: Mapping[str, type[Objective]] = {entry.name: entry for entry in (ReLU, TopK, BatchTopK, JumpReLU, Matryoshka)}
