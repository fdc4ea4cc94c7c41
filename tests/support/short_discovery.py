"""Discoveries with fewer circuits in their curve and scores, for tests that are about something else."""

from __future__ import annotations

from functools import partial

import pytest

from circuitry.discovery.curve import curve
from circuitry.discovery.scores import score_edges


def shorten(patched: pytest.MonkeyPatch) -> None:
    """Two sizes and one random circuit for the curve; two random circuits and one subset for the scores."""
    patched.setattr("circuitry.discovery.result.curve", partial(curve, fractions=(0.05, 1.0), random=1))
    patched.setattr("circuitry.discovery.folder.score_edges", partial(score_edges, random=2, subsets=1))


def in_small_steps(patched: pytest.MonkeyPatch) -> None:
    """The same, and steps so small that a few prompts and cells make two of each."""
    shorten(patched)
    patched.setattr("circuitry.discovery.search.PROMPTS", 4)
    patched.setattr("circuitry.discovery.search.CELLS", 4)
