"""Small runs with a page to explore, made once for all tests of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

import circuitry as ct
from circuitry.suites.runner import run

from .short_discovery import shorten


@cache
def discovery(name: str = "bundled:gpt_neox") -> Path:
    """A discovery of induction with few prompts; its curve has two sizes."""
    out = Path(mkdtemp()) / "found"
    with pytest.MonkeyPatch.context() as patched:
        shorten(patched)
        task = ct.task("induction", distance=4, examples=12)
        ct.discover(ct.load(name), task, method="eap", verify=8, edges=30, out=out, progress=False)
    return out


@cache
def suite(name: str = "bundled:gpt_neox") -> Path:
    """A run of the induction suite at two distances; its circuit is drawn at the second."""
    found = run("induction", ct.load(name), distances=[7, 8], distance=8, examples=12, out=mkdtemp(), baseline=0)
    return Path(found.record["folder"])
