"""Heads as the suites name them, and heads that act through other heads."""

from __future__ import annotations

Head = tuple[int, int]
"""(layer, number)."""
Sender = tuple[Head, str, float]
"""(head, position at which it acts, normalized effect)."""
