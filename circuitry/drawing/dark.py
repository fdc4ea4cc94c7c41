"""SVG pictures that are legible on a dark page: lines and text turn light, boxes are the brighter the larger their effect, and
the cells of heat maps keep their colours with the text on them.

The rules are in the picture's own style sheet and name the colours that are written into its elements. They follow CSS's
color-scheme: inside a page, that of the element around the picture, such as a notebook's output; in a file, that of the system.
An editor that does not know such rules shows the light picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..colours import BLACK, DARK_INK, DARK_PAGE, NOT_TURNED, ON_DARK_PAGE, PAGE, fill_on_dark

CLASS = "circuitry-figure"
"""The class of a picture. A page may set --circuitry-page on it: the colour behind the picture, such as transparent."""
BOXES = "boxes"
"""The id of what holds the boxes of a diagram, whose colours turn."""

_COLOUR = re.compile(r"(fill|stroke): (#[0-9a-f]{6})")


def adapted(svg: str) -> str:
    """An SVG document of matplotlib with a style sheet for dark pages.

    >>> text = adapted('<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><text style="fill: #222222">a</text></svg>')
    >>> "[style*='fill: #222222'] { fill: light-dark(#222222, #cdcdcd) !important }" in text, text.index("<style") < text.index("<text")
    (True, True)
    """
    start = svg.index("<svg")
    end = svg.index(">", start) + 1
    head = svg[start:end].replace("<svg", f'<svg class="{CLASS}"', 1)
    rules = "\n".join(_rules(sorted(set(_COLOUR.findall(svg)))))
    return f"{svg[:start]}{head}\n <style>\n{rules}\n </style>{svg[end:]}"


def turned(colour: str) -> str | None:
    """The colour in which a line, or text that stands on the page, is drawn on a dark page; None if it stays as it is.

    >>> turned("#000000"), turned("#ffffff"), turned("#1b9e77")
    ('#e8e8e8', '#1d1d1d', None)
    """
    if colour in ON_DARK_PAGE:
        return ON_DARK_PAGE[colour]
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    if not red == green == blue:
        return None
    grey = round(232 - red * (232 - 29) / 255)
    return f"#{grey:02x}{grey:02x}{grey:02x}"


def _rules(colours: list[tuple[str, str]]) -> Iterator[str]:
    yield f"svg.{CLASS} {{ background: var(--circuitry-page, {PAGE}) }}"
    # A program that took the function for an unknown colour would draw it black.
    yield "@supports (color: light-dark(#000, #fff)) {"
    yield f"svg.{CLASS}:root {{ color-scheme: light dark }}"
    yield f"@media print {{ svg.{CLASS}:root {{ color-scheme: light }} }}"
    yield f"svg.{CLASS} {{ background: var(--circuitry-page, light-dark({PAGE}, {DARK_PAGE})) }}"
    # Matplotlib writes no fill for black text.
    yield _rule("text:not([style*='fill:'])", "fill", BLACK, DARK_INK)
    for part, colour in colours:
        effect, new = part == "fill" and fill_on_dark(colour), turned(colour)
        if part == "fill" and colour == PAGE:  # behind a label or in a hollow mark; white text is on a dark cell
            yield _rule(f":not(text)[style*='fill: {PAGE}']", "fill", PAGE, f"var(--circuitry-behind, {DARK_PAGE})")
        elif effect:  # cells of a heat map may have such a colour by chance
            yield _rule(f"[id$='{BOXES}'] [style*='fill: {colour}']", "fill", colour, effect)
        elif new and not (part == "fill" and colour in NOT_TURNED):
            yield _rule(f"[style*='{part}: {colour}']", part, colour, new)
    yield "}"


def _rule(selector: str, part: str, light: str, dark: str) -> str:
    return f"svg.{CLASS} {selector} {{ {part}: light-dark({light}, {dark}) !important }}"
