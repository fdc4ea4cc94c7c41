"""Phrases that readers stumbled over stay out of messages, docstrings and pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PHRASES = re.compile(
    r"\b(?:is|are)\s+no\s|would\s+do\b|less\s+foil|tak(?:en|es)\s+up\b|of\s+one's\s+own|of\s+your\s+own", re.IGNORECASE
)
FILES = [
    ROOT / "README.md",
    *(file for folder in ("circuitry", "docs", "graphs", "tasks") for kind in ("py", "md", "html") for file in sorted((ROOT / folder).rglob(f"*.{kind}"))),
]  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_phrase_is_not_used(file: Path) -> None:
    assert PHRASES.findall(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("text", ["x is no y", "a number\nwould do", "answer less foil", "is taken\n  up", "a file of one's own"])
def test_the_test_can_fail(text: str) -> None:
    assert PHRASES.search(text)
