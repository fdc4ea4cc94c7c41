"""Pictures and outputs have the theme of what is around them: the notebook's, not the system's; a file has the system's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from circuitry.colours import DARK_PAGE, FAINT, TOWARDS
from circuitry.drawing.dark import turned
from circuitry.reports import write_report
from support.browsing import Open
from support.run_folders import circuit, run_folder, tables

if TYPE_CHECKING:
    from playwright.sync_api import Page

NOTEBOOKS = {
    "JupyterLab": ("data-jp-theme-light='true'", "data-jp-theme-light='false'"),
    "VS Code": ("class='vscode-light'", "class='vscode-dark'"),
    "mkdocs": ("data-md-color-scheme='default'", "data-md-color-scheme='slate'"),
}


def rgb(colour: str | None) -> str:
    assert colour is not None
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"


LIGHT = {"ground": rgb("#ffffff"), "text": rgb("#000000"), "line": rgb(FAINT), "arrow": rgb(TOWARDS)}
DARK = {"ground": rgb(DARK_PAGE), "text": rgb(turned("#000000")), "line": rgb(turned(FAINT)), "arrow": rgb(turned(TOWARDS))}


def colours(page: Page) -> dict[str, Any]:
    """What a browser draws of the circuit: its ground, and inks of each kind that it has."""
    found: dict[str, Any] = page.evaluate(
        """([faint, arrow]) => {
          const svg = document.querySelector("svg.circuitry-figure"), of = (found, part) => found && getComputedStyle(found)[part];
          const drawn = (colour) => of(svg.querySelector(`path[style*='stroke: ${colour}']`), "stroke");
          return { ground: getComputedStyle(svg).backgroundColor, text: of(svg.querySelector("text:not([style*='fill:'])"), "fill"),
                   line: drawn(faint), arrow: drawn(arrow) };
        }""",
        [FAINT, TOWARDS],
    )
    return {name: colour for name, colour in found.items() if colour}


def agree(found: dict[str, Any], expected: dict[str, str]) -> bool:
    return len(found) >= 3 and found == {name: expected[name] for name in found}


@pytest.mark.parametrize("notebook", NOTEBOOKS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_drawing_in_a_notebook_follows_its_theme_and_not_the_system(
    show: Open, tmp_path: Path, notebook: str, dark: bool
) -> None:
    file, outputs = tmp_path / "n.html", (circuit()._repr_html_(), tables()["states"]._repr_html_())
    head = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
    file.write_text(f"{head}<body {NOTEBOOKS[notebook][dark]}>{''.join(outputs)}", encoding="utf-8")
    page = show(file, color_scheme="light" if dark else "dark")
    assert agree(colours(page), DARK if dark else LIGHT), colours(page)
    around = page.locator(".circuitry .paper").first.evaluate("box => getComputedStyle(box).backgroundColor")
    assert around == (DARK if dark else LIGHT)["ground"], "the picture stands on its own ground"
    strong = page.locator(".circuitry td.cell", has_text="−5.00").evaluate("cell => getComputedStyle(cell).backgroundColor")
    assert strong == (rgb("#6cb8f0") if dark else rgb("#2166ac"))
    page.emulate_media(media="print")
    assert agree(colours(page), LIGHT), "printed pages are light"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_and_a_file_follow_the_system(show: Open, tmp_path: Path, scheme: Any) -> None:
    expected = {"light": LIGHT, "dark": DARK}[scheme]
    page = show(write_report(run_folder(tmp_path)), color_scheme=scheme)
    assert agree(colours(page), expected), colours(page)
    page.emulate_media(media="print", color_scheme=scheme)
    assert agree(colours(page), LIGHT)
    circuit().save(tmp_path / "c.svg")
    page = show(tmp_path / "c.svg", color_scheme=scheme)
    assert agree(colours(page), expected), colours(page)
    page.emulate_media(media="print", color_scheme=scheme)
    assert agree(colours(page), LIGHT)
