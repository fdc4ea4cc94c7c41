"""Path x graph x task -> plan, as plain data, and what it means in words. Imports no torch."""

from .cells import cells
from .effects import check_effects, differs_everywhere
from .explain import Explanation, explain, kind
from .frozen import nodes_of
from .interventions import INTERVENTIONS, Intervention, given
from .metrics import METRICS, Metric
from .names import check_names
from .plan import cell_plan, join, plan
from .positions import absolute
from .readings import reads_logits
from .values import Cell, CellPlan, Pass, Plan, Sweep, Write

__all__ = [
    "INTERVENTIONS",
    "METRICS",
    "Cell",
    "CellPlan",
    "Explanation",
    "Intervention",
    "Metric",
    "Pass",
    "Plan",
    "Sweep",
    "Write",
    "absolute",
    "cell_plan",
    "cells",
    "check_effects",
    "check_names",
    "differs_everywhere",
    "explain",
    "given",
    "join",
    "kind",
    "nodes_of",
    "plan",
    "reads_logits",
]
