"""Task suites: a behaviour taken apart in one call, with tables, a circuit and a comparable summary."""

from .declare import Suite, TableSpec, findings
from .keys import keys
from .result import Component, Picture, SuiteResult, Summary
from .runner import run, suite
from .senders import Receivers, reads, senders, strong_senders
from .study import Study, profile

__all__ = [
    "Component",
    "Picture",
    "Receivers",
    "Study",
    "Suite",
    "SuiteResult",
    "Summary",
    "TableSpec",
    "findings",
    "keys",
    "profile",
    "reads",
    "run",
    "senders",
    "strong_senders",
    "suite",
]
