"""Engines: the nnsight driver, the independent reference, guards, and ``patch``."""

from ..planning.metrics import METRICS
from .experiment import explain, patch
from .options import random_nodes

__all__ = ["METRICS", "explain", "patch", "random_nodes"]
