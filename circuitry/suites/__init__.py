"""Task suites: a behaviour taken apart in one call, with tables, a circuit and a comparable summary."""

from .induction import induction
from .result import Component, SuiteResult, Summary

__all__ = ["Component", "SuiteResult", "Summary", "induction"]
