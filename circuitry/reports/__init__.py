"""A run folder as one self-contained page, and two of them side by side. Needs no torch; matplotlib draws the circuits."""

from .compare import write_comparison
from .page import write_report

__all__ = ["write_comparison", "write_report"]
