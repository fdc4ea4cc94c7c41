"""Path x graph x task -> plan, as plain data, and what it means in words. Imports no torch."""

from .cells import Cell, cells
from .effects import absolute, check_effects
from .explain import explain, kind
from .frozen import nodes_of
from .names import check_names
from .plan import INTERVENTIONS, CellPlan, Intervention, Pass, Plan, Write, cell_plan, join, plan

__all__ = [
    "INTERVENTIONS",
    "Cell",
    "CellPlan",
    "Intervention",
    "Pass",
    "Plan",
    "Write",
    "absolute",
    "cell_plan",
    "cells",
    "check_effects",
    "check_names",
    "explain",
    "join",
    "kind",
    "nodes_of",
    "plan",
]
