"""docs/claims.yaml: what the documents say. All of it is checked by ``circuitry check docs/claims.yaml``; a few fast ones here."""

from __future__ import annotations

import pytest

import circuitry as ct
from circuitry.claims import Claim, Claims, read
from support.pages import ROOT

CLAIMS = read(ROOT / "docs/claims.yaml").claims
FAST = ("README.md", "docs/compiled.md")


def test_there_are_claims_on_several_pages() -> None:
    assert len(CLAIMS) >= 15 and len({claim.source.page for claim in CLAIMS if claim.source}) >= 5


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"line {claim.line}")
def test_the_sentence_still_stands_in_its_page(claim: Claim) -> None:
    assert claim.source is not None
    assert claim.source.quote in " ".join((ROOT / claim.source.page).read_text(encoding="utf-8").split())


def test_some_of_them_hold() -> None:
    some = Claims(tuple(claim for claim in CLAIMS if claim.source and claim.source.page in FAST))
    assert len(some.claims) >= 4 and ct.check(some).verdicts == ["holds"] * len(some.claims)
