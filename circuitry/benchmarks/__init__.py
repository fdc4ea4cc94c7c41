"""Benchmarks with known answers: how well methods of discovery find circuits that are known.

for case in ct.benchmarks.truth():       # models, tasks, and the edges at positions that carry them
    ...
ct.benchmarks.discovery().table()        # methods x families; `circuitry benchmark discovery` prints it
"""

from .cases import Case, trained, truth
from .known import Benchmark, discovery

__all__ = ["Benchmark", "Case", "discovery", "trained", "truth"]
