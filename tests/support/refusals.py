"""What a refusal says, and a machine without the hub."""

from __future__ import annotations

import pytest


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that cannot reach the Hugging Face hub."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def matches(found: str, wanted: str) -> None:
    """Equal, where ``*`` stands for anything."""
    at = 0
    for number, piece in enumerate(wanted.split("*")):
        start = found.find(piece, at)
        assert start == 0 if not number else start >= 0, f"{found!r} is not {wanted!r}"
        at = start + len(piece)
    assert wanted.endswith("*") or at == len(found), f"{found!r} is not {wanted!r}"
