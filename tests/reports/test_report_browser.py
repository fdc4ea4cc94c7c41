"""A browser shows reports and comparisons, answers to pointer and keys, and is asked for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from circuitry.reports import write_report
from support.browsing import Open
from support.run_folders import EVIL, STATES, compared, run_folder

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(run_folder(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compared(tmp_path_factory.mktemp("both"))


def tip(page: Page) -> dict[str, str]:
    names, values = (page.locator(f"#tip {tag}").all_text_contents() for tag in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


STRONG = "#cell-1-4"
"""Layer 1 at B+1, which has an effect of -5."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hovering_shows_a_cells_numbers(show: Open, report: Path, scheme: Any) -> None:
    page = show(report, color_scheme=scheme)
    assert not page.locator("#tip").is_visible()
    page.hover(STRONG)
    said = tip(page)
    assert (said["layer"], said["position"], said["mean effect"]) == ("1", "B+1", "−5.00")
    box, cell = page.locator("#tip").bounding_box(), page.locator(STRONG).bounding_box()
    assert box and cell and 0 <= box["x"] <= 1280 - box["width"] and (box["y"] + box["height"] <= cell["y"])
    page.hover("h1")
    assert not page.locator("#tip").is_visible()


def test_keys_move_through_a_heat_map(show: Open, report: Path) -> None:
    page = show(report)
    page.focus("#cell-1-0")
    for key in ("ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert tip(page)["mean effect"] == "−5.00"
    assert page.evaluate("document.activeElement.id") == STRONG[1:]
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()
    page.focus("#cell-2-0")
    page.keyboard.press("ArrowDown")
    assert tip(page)["layer"] == "1"


def test_a_tap_shows_a_cells_numbers(show: Open, report: Path) -> None:
    page = show(report, width=400, has_touch=True)
    page.tap(STRONG)
    assert tip(page)["mean effect"] == "−5.00"


def test_a_click_on_a_node_shows_its_rows(show: Open, report: Path) -> None:
    page = show(report)
    assert page.locator(".panel:visible").count() == 0
    page.locator("#circuit svg").scroll_into_view_if_needed()
    label = page.locator("#circuit svg text", has_text="ssm_state[1]").bounding_box()
    assert label
    page.mouse.click(label["x"] + label["width"] / 2, label["y"] + label["height"] / 2)  # on its letters
    panel = page.locator(".panel:visible")
    assert panel.count() == 1
    assert panel.locator("td a").first.inner_text() == "layer 1, position B+1"
    assert panel.locator("tbody").first.locator("td").all_inner_texts()[1:4:2] == ["−5.00", "50 %"]
    panel.locator("td a").first.click()
    assert tip(page)["mean effect"] == "−5.00", "a row leads to its cell"
    page.click("a.node[aria-label^='ssm_in[1]']")
    assert page.locator(".panel:visible td a").all_inner_texts() == ["layer 1"]
    page.click(".panel:visible .close")
    assert page.locator(".panel:visible").count() == 0


def test_nodes_answer_to_keys(show: Open, report: Path) -> None:
    page = show(report)
    for key, row in (("Enter", 1), (" ", 0)):
        page.focus(f"a.node >> nth={row}")
        page.keyboard.press(key)
        assert page.locator(".panel:visible").count() == 1
        assert page.evaluate("document.activeElement.className") == "panel chosen"


def test_effect_and_share(show: Open, report: Path) -> None:
    page = show(report)
    assert page.inner_text(STRONG) == "−5.00"
    before = page.locator(STRONG).evaluate("cell => getComputedStyle(cell).backgroundColor")
    page.check("#normalized-1")
    assert page.inner_text(STRONG) == "50 %"
    assert page.locator(STRONG).evaluate("cell => getComputedStyle(cell).backgroundColor") == before, "blue is blue in both"


def test_cells_that_are_not_found_look_different(show: Open, report: Path) -> None:
    page = show(report)
    pictures = page.locator("#experiment-1 td.cell").evaluate_all("all => all.map(c => getComputedStyle(c).backgroundImage)")
    assert [n for n, picture in enumerate(pictures) if picture == "none"] == [4]


def test_copying(show: Open, report: Path) -> None:
    page = show(report, permissions=["clipboard-read", "clipboard-write"])
    page.click("#experiment-1 .copy")
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == STATES


def test_a_narrow_screen_is_enough(show: Open, report: Path, comparison: Path) -> None:
    for file in (report, comparison):
        page = show(file, width=400)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        sizes = page.locator("p, td, th, dd, li, code").evaluate_all(
            "all => all.map(e => parseFloat(getComputedStyle(e).fontSize))"
        )
        assert min(sizes) >= 12


def test_printing(show: Open, report: Path) -> None:
    page = show(report)
    plan = page.locator("details pre").first
    page.hover(STRONG)
    assert not plan.is_visible()
    page.emulate_media(media="print")
    assert plan.is_visible()
    assert not page.locator("#tip, nav, .copy").filter(visible=True).count()
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="screen")
    assert not plan.is_visible()


def test_without_scripts_it_can_be_read(show: Open, report: Path) -> None:
    page = show(report, java_script_enabled=False)
    assert page.inner_text(STRONG) == "−5.00"
    assert "mean effect: −5.00" in str(page.get_attribute(STRONG, "title"))
    page.click("a.node[aria-label^='ssm_state[1]']")
    assert page.locator(".panel:visible").count() == 1
    page.check("#normalized-1")
    assert page.inner_text(STRONG) == "50 %"


def test_nothing_that_got_into_the_page_can_run(show: Open, tmp_path: Path) -> None:
    page = show(write_report(run_folder(tmp_path, model=EVIL)))
    assert page.inner_text("h1") == EVIL


def test_the_comparison_works_in_a_browser(show: Open, comparison: Path) -> None:
    page = show(comparison)
    page.hover(STRONG)
    assert tip(page)["mean effect"] == "−5.00"
    assert page.inner_text(STRONG) == "50 %"
    left, right = (page.locator(f"#{id}").bounding_box() for id in ("cell-1-4", "cell-6-4"))
    assert left and right and left["x"] < right["x"] and abs(left["y"] - right["y"]) < 2, "side by side"
