"""Runs without pictures: drawing takes most of the time of a small run, and most tests of runs are about something else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

import circuitry as ct
from circuitry.drawing.circuit import Circuit


def blank(_: Any, path: str | Path | None = None, style: str | None = None) -> None:
    """Write an empty picture in the place of a drawn one."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')


@contextmanager
def no_pictures() -> Iterator[None]:
    """Meanwhile tables, circuits and figures are written as empty pictures."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ct.PatchingTable, "plot", blank)
        patched.setattr(Circuit, "draw", lambda *_, **__: Figure())
        patched.setattr("circuitry.drawing.figures.save", blank)
        yield
