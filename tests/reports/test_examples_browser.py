"""In a browser: a chosen cell shows the effects that the table's CSV has, and pages say what does not fit on a screen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from circuitry import PatchingTable
from circuitry.colours import number
from circuitry.reports import write_report
from circuitry.results.examples import robust_z
from support.browsing import Open
from support.run_folders import prompted, run_folder

if TYPE_CHECKING:
    from playwright.sync_api import Page

CELL = "#cell-1-4"
"""Layer 1 at B+1, in which example 11 has no effect."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(run_folder(tmp_path_factory.mktemp("run"), {"states": prompted(), "other": prompted(bad=0.0)}))


def shown(page: Page) -> list[list[str]]:
    rows = page.locator(".of-cell:visible tbody tr").all()
    return [row.locator("td.number").all_inner_texts() for row in rows]


def test_a_chosen_cell_shows_the_numbers_of_the_csv(show: Open, report: Path) -> None:
    page = show(report)
    assert page.locator(".of-cell:visible").count() == 0
    page.click(CELL)
    rows = pd.read_csv(report.parent / "tables" / "states.csv").query("layer == 1 and position == 'B+1'")
    deviation, z = rows["effect"] - rows["effect"].mean(), robust_z(rows["effect"].to_numpy())
    columns = zip(rows["example"], rows["effect"], deviation, z, strict=True)
    expected = [[str(n), *map(number, rest)] for n, *rest in sorted(columns, key=lambda row: -abs(row[2]))]
    assert shown(page) == expected[:3] and expected[0][0] == "11"
    page.click(".of-cell:visible button:has-text('Show all 16')")
    assert sorted(shown(page)) == sorted(expected), "rows whose deviations differ by rounding may change places"
    assert "layer 1, position B+1" in page.inner_text(".of-cell:visible h4")
    page.click(".of-cell:visible button:has-text('Close')")
    assert page.locator(".of-cell:visible").count() == 0


def test_its_prompts_are_those_of_the_examples(show: Open, report: Path) -> None:
    page = show(report)
    page.click(CELL)
    first = page.locator(".of-cell:visible tbody tr").first
    assert first.locator(".tok b").all_inner_texts() == ["The", " cat11", " sat", " cat11"]
    assert first.locator(".tok i").all_inner_texts() == [" dog"] and first.locator(".tok small").all_inner_texts() == ["B", "END"]
    static = page.locator(".strays tbody tr .prompt").first
    assert static.inner_html() == first.locator(".prompt").inner_html(), "as the page shows them without its script"


def test_keys_choose_a_cell_too(show: Open, report: Path) -> None:
    page = show(report)
    page.focus(CELL)
    page.keyboard.press("Enter")
    assert shown(page)[0][0] == "11"
    page.focus("#cell-2-0")
    page.keyboard.press(" ")
    assert page.locator(".of-cell:visible").count() == 2


def test_a_table_without_room_says_where_its_examples_are(show: Open, report: Path, tmp_path: Path) -> None:
    text = re.sub(r'("tables":)\{"1":\{.*?\},', r"\1{", report.read_text(encoding="utf-8"))
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    page = show(tmp_path / "report.html")
    page.click(CELL)
    assert "its files have them" in page.inner_text(".of-cell:visible")
    page.click("#cell-2-4")
    assert len(shown(page)) == 3


def test_without_a_script_the_worst_three_can_be_read(show: Open, report: Path) -> None:
    page = show(report, java_script_enabled=False)
    block = page.locator(".by-example").first
    assert block.locator("tbody td.number:first-child").all_inner_texts() == [
        str(n) for n in PatchingTable.from_json(report.parent / "tables" / "states.json").outlying()["example"][:3]
    ]
    assert block.locator(".tok b").first.is_visible() and not page.locator(".choose").first.is_visible()
    assert "examples that disagree most: 11" in str(page.get_attribute(CELL, "title"))


def brightness(page: Page, selector: str) -> float:
    colour = page.locator(selector).evaluate("box => getComputedStyle(box).backgroundColor")
    return sum(float(part) for part in re.findall(r"[\d.]+", colour)[:3]) / 3


def test_heat_maps_are_dark_on_a_dark_page_and_light_in_print(show: Open, report: Path) -> None:
    page = show(report, color_scheme="dark")
    weak = "#cell-1-0"
    assert brightness(page, weak) < 80
    page.emulate_media(media="print")
    assert brightness(page, weak) > 200


def test_a_circuit_stands_on_the_ground_it_is_drawn_for(show: Open, report: Path) -> None:
    page = show(report, color_scheme="dark")
    for selector in ("#circuit .paper", "#circuit svg:visible"):
        page.emulate_media(media="screen", color_scheme="dark")
        assert brightness(page, selector) < 80, selector
        page.emulate_media(media="print", color_scheme="dark")
        assert brightness(page, selector) > 200, selector
        page.emulate_media(media="screen", color_scheme="light")
        assert brightness(page, selector) > 200, selector


def test_what_is_off_the_screen_has_a_cue(show: Open, report: Path) -> None:
    page = show(report, width=400)
    box, cue = page.locator("#circuit .paper"), page.locator("#circuit .paper + .cue")
    assert cue.is_visible() and "more-right" in str(box.get_attribute("class"))
    box.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
    cue.wait_for(state="hidden")
    assert "more-left" in str(box.get_attribute("class")) and "more-right" not in str(box.get_attribute("class"))
    assert not show(report).locator("#circuit .paper + .cue").is_visible()


def test_examples_fit_a_narrow_screen(show: Open, report: Path) -> None:
    page = show(report, width=400)
    page.click(CELL)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator(".of-cell:visible .scroll").evaluate("box => box.scrollWidth - box.clientWidth") <= 1
