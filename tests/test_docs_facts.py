"""What the documents state as a fact, and no block of code there prints, is what the code and the model cards say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import circuitry as ct
from circuitry.models.loading import BUNDLED, bundled
from circuitry.results.report import compare, nodes
from pages import ROOT

COLUMNS = (
    "induction top-1, distance 8",
    "induction top-1, distance 32",
    "induction top-1, distance 128",
    "IOI top-1, held-out templates",
    "IOI top-1, held-out templates, random tokens as names",
    "English cross-entropy, nats per token",
)
"""The lines of a model card that docs/models.md shows, in the order of its columns."""


def _words(page: str) -> str:
    """A page as one line, so that a sentence is found wherever it is wrapped."""
    return " ".join((ROOT / page).read_text().split())


def _card(name: str) -> dict[str, float]:
    text = (BUNDLED / name / "README.md").read_text()
    return {key: float(value) for key, value in re.findall(r"^\| ([^|]+?) \| ([\d.]+) \|$", text, re.MULTILINE)}


@pytest.mark.parametrize("name", [name.removeprefix("bundled:") for name in bundled()])
def test_the_table_of_models_is_that_of_their_cards(name: str) -> None:
    [row] = re.findall(rf"^\| `bundled:{name}` \| (.+) \|$", (ROOT / "docs/models.md").read_text(), re.MULTILINE)
    parameters, *figures = row.split(" | ")
    card = _card(name)
    assert int(parameters.replace(",", "")) == ct.load(f"bundled:{name}").parameters
    assert all(abs(float(shown) - card[key]) <= 0.0051 for shown, key in zip(figures, COLUMNS, strict=True))


def test_the_documents_count_the_models_that_ship() -> None:
    from circuitry.models.compiled import NAMES

    numbers = {5: "five", 8: "eight"}
    assert f"{numbers[len(bundled())]} trained models ship" in _words("docs/models.md").lower()
    assert f"[{numbers[len(NAMES)]} more](compiled.md)" in _words("docs/models.md").lower()


def test_limits_that_the_report_page_states_are_those_of_the_code() -> None:
    page = _words("docs/report.md")
    assert f"At most {nodes.MOST} cells are shown" in page
    assert f"the page shows the {compare.MOST} cells that differ most" in page


@pytest.mark.parametrize("section", ["3.3", "4.2", "5", "6.1", "6.2", "6.3"])
def test_the_page_on_the_paper_has_every_section_with_an_experiment(section: str) -> None:
    assert re.search(rf"[Ss]ections? (\d[\d.]* (and|to) )?{re.escape(section)}\b", _words("docs/paper.md"))


@pytest.mark.parametrize("page", sorted(Path(ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_no_page_says_that_a_command_is_missing(page: Path) -> None:
    """A page that was true once: what it calls missing has a command now."""
    assert not re.search(r"(not in circuitry yet|Not in this version)", page.read_text())
