"""Outputs in a browser: legible in the light and dark themes of notebooks, apart from the notebook's style, sorted by a click."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.browsing import Open
from support.outputs import each, shown
from support.run_folders import tables

if TYPE_CHECKING:
    from playwright.sync_api import Page

NOTEBOOK = """
table { font-size: 9px; color: red; margin-left: auto } td, th { text-align: right; padding: 3em } dt { float: left }
.output tbody tr:nth-child(odd) { background: black } code, pre { background: yellow; color: yellow } html { font-size: 10px }
"""
"""What a notebook may do to every table and code, worse than any does."""
THEMES = {
    "JupyterLab": ("data-jp-theme-light='true'", "data-jp-theme-light='false'"),
    "VS Code": ("class='vscode-light'", "class='vscode-dark'"),
    "a page": ("", ""),
}
VALUES = each("closing brackets")
CONTRAST = """
() => {
  const parse = (colour) => { const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
  const found = [];
  for (const box of document.querySelectorAll(".circuitry")) {
    const walk = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const e = walk.currentNode.parentElement;
      if (!walk.currentNode.data.trim() || e.closest("style, script, svg") || !e.checkVisibility()) continue;
      const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
      found.push([(a + .05) / (b + .05), walk.currentNode.data.trim(), parseFloat(getComputedStyle(e).fontSize)]);
    }
  }
  return found;
}
"""


def notebook(folder: Path, outputs: list[str], body: str = "", ground: str = "#ffffff") -> Path:
    file = folder / "notebook.html"
    inside = "".join(f'<div class="output">{one}</div>' for one in outputs)
    file.write_text(
        f'<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><style>{NOTEBOOK} body {{ background: {ground} }}</style>'
        f'<body {body}><p id="before">text</p><table id="other"><tr><td>1</td></tr></table>{inside}</body>',
        encoding="utf-8",
    )
    return file


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_is_legible(show: Open, tmp_path: Path, theme: str, scheme: Any) -> None:
    """The notebook's theme may differ from the system's, which is dark where the notebook is light, and light where it is dark."""
    dark = scheme == "dark"
    system: Any = scheme if theme == "a page" else "light" if dark else "dark"
    file = notebook(
        tmp_path, [value._repr_html_() for value in VALUES.values()], THEMES[theme][dark], "#111111" if dark else "#ffffff"
    )
    page = show(file, color_scheme=system)
    page.evaluate("document.querySelectorAll('.circuitry details').forEach((one) => one.open = true)")
    found = page.evaluate(CONTRAST)
    assert len(found) > 300
    assert [entry for entry in found if entry[0] < 4.5 or entry[2] < 11] == []
    ground = page.locator(".circuitry").first.evaluate("box => getComputedStyle(box).backgroundColor")
    assert (int(ground.split("(")[1].split(",")[0]) < 60) == dark, "the ground is that of the notebook's theme"


def test_outputs_and_the_notebook_leave_each_other_alone(show: Open, tmp_path: Path) -> None:
    def style(page: Page, selector: str) -> Any:
        return page.locator(selector).first.evaluate(
            "e => ({...Object.fromEntries([...getComputedStyle(e)].map(n => [n, getComputedStyle(e).getPropertyValue(n)]))})"
        )

    alone = show(notebook(tmp_path, []))
    before = {selector: style(alone, selector) for selector in ("#before", "#other", "#other td", "body", "html")}
    page = show(notebook(tmp_path, [tables()["writes"]._repr_html_(), VALUES["path"]._repr_html_()]))
    for selector, expected in before.items():
        changed = {name for name, value in style(page, selector).items() if value != expected[name]}
        assert changed <= {"height", "block-size", "perspective-origin", "transform-origin"}, (
            selector,
            changed,
        )  # the page is longer
    cell, code = style(page, ".circuitry .bars tbody th"), style(page, ".circuitry code")
    assert (cell["text-align"], cell["color"]) == ("left", "rgb(31, 35, 40)") and code["background-color"] == "rgba(0, 0, 0, 0)"


def test_a_click_on_a_head_sorts(show: Open, tmp_path: Path) -> None:
    page = show(notebook(tmp_path, [tables()["states"]._repr_html_()]))
    page.click(".circuitry details summary")
    column = ".circuitry .sortable tbody tr td:nth-child({})"

    def column_of(number: int) -> list[str]:
        return page.locator(column.format(number)).all_inner_texts()

    unsorted = column_of(3)
    page.click(".circuitry .sortable th:text('effect')")
    assert column_of(3) == sorted(unsorted, key=shown, reverse=True) != unsorted
    page.click(".circuitry .sortable th:text('effect')")
    assert column_of(3) == sorted(unsorted, key=shown)
    page.focus(".circuitry .sortable th:text('position')")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert column_of(2) == sorted(column_of(2))


def test_without_scripts_everything_is_there(show: Open, tmp_path: Path) -> None:
    page = show(notebook(tmp_path, [tables()["states"]._repr_html_()]), java_script_enabled=False)
    assert "−5.00" in page.locator(".heat td").all_inner_texts()
    page.check(".circuitry .normalized")
    assert "50 %" in page.locator(".heat td").all_inner_texts()
    page.click(".circuitry details summary")
    assert "−5.00" in page.locator(".sortable td").all_inner_texts()


def test_a_narrow_notebook_is_enough(show: Open, tmp_path: Path) -> None:
    page = show(notebook(tmp_path, [value._repr_html_() for value in VALUES.values()]), width=400)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
