"""The claims file of a run: what its summary says, with bounds that fresh prompts can be expected to meet."""

from __future__ import annotations

from pathlib import Path


def claims_of(folder: str | Path) -> str:
    """x"""
    raise NotImplementedError
