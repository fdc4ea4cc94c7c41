"""Writes explorer.html: one file with its data, style and scripts inside, which needs no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..errors import CircuitryError
from ..html.page import digest, environment
from ..reports.run import read_run
from ..store.files import write_whole
from .data import run_data
from .pair import links

PAGE = "explorer.html"
VENDORED = ("d3-path.min.js", "d3-selection.min.js", "d3-shape.min.js")
SCRIPTS = (
    "numbers.js",
    "state.js",
    "layout.js",
    "graph.js",
    "keys.js",
    "tip.js",
    "tokens.js",
    "pattern.js",
    "profile.js",
    "panel.js",
    "slider.js",
    "prompts.js",
    "links.js",
    "main.js",
)
"""The page's scripts, in the order in which they build on each other."""
MOST = 8_000_000
"""Bytes of a page at most."""


def write_explorer(folder: str | Path) -> Path:
    """Write explorer.html into a run folder, of a suite or of a discovery, and return its path. The same folder gives the same page.

    Raises CircuitryError for a folder that is not a run folder.

    >>> write_explorer("nowhere")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: folder nowhere does not exist; 'circuitry run SUITE --model MODEL' makes one
    """
    target = Path(folder) / PAGE
    write_whole(target, _page([run_data(folder)], []))
    return target


def fresh(folder: str | Path) -> Path | None:
    """The page of a run folder, if it is there and newer than the files that it shows; else None.

    >>> print(fresh("nowhere"))
    None
    """
    page, sources = Path(folder) / PAGE, [*Path(folder).glob("*.json"), *Path(folder).glob("tables/*.json")]
    if not page.is_file() or digest(script()) not in page.read_text(
        encoding="utf-8"
    ):  # a page of an earlier version has other scripts
        return None
    made = page.stat().st_mtime_ns
    return page if all(source.stat().st_mtime_ns <= made for source in sources) else None


def write_pair(first: str | Path, second: str | Path) -> Path:
    """Write a page with two runs side by side into the folder of the first, and return its path.

    Raises CircuitryError if one of the two is not a run folder, and if both are the same.

    >>> write_pair("nowhere", "nowhere")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: both runs are in nowhere; name two folders
    """
    one, two = Path(first), Path(second)
    if one.resolve() == two.resolve():
        raise CircuitryError(f"both runs are in {first}; name two folders")
    sides = [run_data(one), run_data(two)]
    if sides[0]["title"] == sides[1]["title"]:
        for side, folder in zip(sides, (one, two), strict=True):
            side["title"] = folder.resolve().name
    target = one / f"explorer-and-{two.resolve().name}.html"
    write_whole(target, _page(sides, links(sides, [read_run(folder).summary or {} for folder in (one, two)])))
    return target


def _page(sides: Sequence[dict[str, Any]], matched: Sequence[dict[str, Any]]) -> str:
    """The page of one run or two, with fewer patterns of single prompts if it would be larger than ``MOST``."""
    page = _rendered(sides, matched)
    if len(page.encode()) > MOST:
        for side in sides:
            side["patterns"] = {head: {**pattern, "prompts": []} for head, pattern in side["patterns"].items()}
            side["lacking"]["patterns"] = "The patterns of single prompts are left out: the page would be larger than 8 MB."
        page = _rendered(sides, matched)
    return page


def _rendered(sides: Sequence[dict[str, Any]], matched: Sequence[dict[str, Any]]) -> str:
    code, style = script(), (files(__package__) / "templates" / "explorer.css").read_text(encoding="utf-8")
    # "<" would let a token such as "</script>" end the block of data.
    data = json.dumps({"sides": sides, "links": matched}, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace(
        "<", "\\u003c"
    )
    title = " and ".join(str(side["title"]) for side in sides)
    return (
        environment(__package__)
        .get_template("explorer.html")
        .render(title=title, sides=sides, style=Markup(style), script=Markup(code), digest=digest(code), data=Markup(data))
    )


def script() -> str:
    """All scripts of the page as one: the drawing library's files as they came, and the page's own.

    >>> script().count("https://d3js.org/d3-shape")
    1
    """
    package = files(__package__)
    vendored = [(package / "vendor" / name).read_text(encoding="utf-8") for name in VENDORED]
    own = [(package / "templates" / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return "\n".join([*vendored, '(() => {\n"use strict";', *own, "})();", ""])
