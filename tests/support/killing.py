"""Work that is killed in the middle, to see that it goes on where it was."""

from __future__ import annotations

from typing import Any

import pytest


class Killed(Exception):
    """What a test raises in the middle of a discovery."""


def killed_after(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, calls: int) -> list[int]:
    """Let a function raise after so many calls; the list counts the calls that went through."""
    real, count = getattr(where, name), [0]

    def counted(*args: Any, **options: Any) -> Any:
        if count[0] == calls:
            raise Killed
        count[0] += 1
        return real(*args, **options)

    monkeypatch.setattr(where, name, counted)
    return count
