"""Takes a picture of a page in a headless browser: ``python tests/support/screenshot.py PAGE.html PICTURE.png``.

``--click`` and ``--press`` say what is done before, in this order; both may be repeated.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import sync_playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def take(page: Path, picture: Path, *, width: int, height: int, dark: bool, click: Sequence[str], press: Sequence[str]) -> None:
    """Open a page, click, press keys, and write what is seen, without waiting for movements to end: they are switched off."""
    with sync_playwright() as playwright:
        program = next(filter(None, map(shutil.which, CHROMIUM)), None)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
        shown.emulate_media(color_scheme="dark" if dark else "light")
        shown.goto(page.resolve().as_uri())
        for selector in click:
            shown.locator(selector).first.click()
        for key in press:
            shown.keyboard.press(key)
        shown.mouse.move(1, 1)
        shown.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--click", action="append", default=[])
    parser.add_argument("--press", action="append", default=[])
    given = parser.parse_args()
    take(**vars(given))
